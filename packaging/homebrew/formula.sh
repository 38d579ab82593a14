#!/usr/bin/env bash
# Prints the Homebrew formula for one release: what a tap has as Formula/dstor-sync.rb. The sources are named by where they
# can be had, and by the digest of this very file.
#
#   packaging/homebrew/formula.sh URL TARBALL > Formula/dstor-sync.rb
#
# TARBALL is what URL gives, such as `git archive --format=tar.gz --prefix=dstor-sync-0.1.0/ HEAD` makes it.
set -euo pipefail
[ $# = 2 ] || { echo "usage: $0 URL TARBALL" >&2; exit 2; }
url=$1
case $url in
  *[\"\\#]*) echo "error: the URL has characters that Ruby would read as its own" >&2; exit 2 ;;
  https://*) ;;
  *) echo "error: not an https address: $url" >&2; exit 2 ;;
esac
digest=$( (sha256sum "$2" || shasum -a 256 "$2") 2>/dev/null | cut -d' ' -f1) || true
[ ${#digest} = 64 ] || { echo "error: cannot read $2" >&2; exit 1; }
sed -e "s|@URL@|$url|" -e "s|@SHA256@|$digest|" "$(dirname "$0")/dstor-sync.rb.in"
