#!/usr/bin/env bash
# The RPM package from its making to its end: builds it, looks what is in it, installs it into a directory of its own with a
# database of its own, uses what it brought, removes it, and looks that nothing of it is left. Prints a line for each step;
# ends with 1 at the first that is missed.
#
#   tests/rpm.sh [PROFILE]            what is built as for a release, or with dev the program that the tests have anyway
#
# Changes nothing of this machine. Needs `rpm` and `rpmbuild`, which other systems have packages of, too (Debian: rpm). What a
# package depends on is looked at, but not installed.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d) agent=
finish() {
  [ -z "$agent" ] || kill "$agent" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
step() { echo "ok  $*"; }
miss() { echo "MISSED  $*" >&2; exit 1; }

packaging/rpm.sh "${1:-release}" > "$work/made" 2> "$work/making" || { cat "$work/making" >&2; miss "the package is not made"; }
package=$(tail -1 "$work/made")
step "made: $(basename "$package"), $(stat -c %s "$package") bytes"

# rpm writes there as well, where it only looks.
export HOME="$work/home" DSTOR_SYNC_STATE_DIR="$work/state"
mkdir "$HOME"

rpm --query --package "$package" --queryformat '[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES}\n]' > "$work/contents"
for path in bin/dstor-sync lib/systemd/user/dstor-sync.service lib/systemd/system/dstor-sync@.service \
  share/man/man1/dstor-sync.1.gz share/man/man1/dstor-sync-restore.1.gz share/licenses/dstor-sync/LICENSE-MIT \
  share/doc/dstor-sync/examples/config.example.toml share/bash-completion/completions/dstor-sync \
  share/zsh/site-functions/_dstor-sync share/fish/vendor_completions.d/dstor-sync.fish; do
  grep -q " /usr/$path\$" "$work/contents" || miss "/usr/$path is not in it"
done
grep -vE '^[-d]rw[x-]r-[x-]r-[x-] root/root ' "$work/contents" && miss "others may write that, or it is not root's"
rpm --query --package "$package" --requires > "$work/requires"
grep -q '^ca-certificates$' "$work/requires" || miss "it does not require ca-certificates"
grep -q '^libc.so.6(GLIBC_' "$work/requires" || miss "it does not say which libc it needs"
# A package runs no program of its own as root.
[ -z "$(rpm --query --package "$package" --scripts)" ] || miss "it runs scripts"
newest=$(sed -n 's/^libc.so.6(GLIBC_\([0-9.]*\)).*/\1/p' "$work/requires" | sort -V | tail -1)
step "holds program, units, manual pages, completions, example, licences; needs glibc $newest and ca-certificates"

root="$work/root"
mkdir "$root"
# The database has its place by name: Debian would have it in the home directory.
in_root() { rpm --root "$root" --dbpath /var/lib/rpm "$@"; }
in_root --initdb
in_root --install --nodeps "$package" > "$work/installed" 2>&1 || { cat "$work/installed" >&2; miss "it is not installed"; }
in_root --verify --nodeps dstor-sync > "$work/verified" || { cat "$work/verified" >&2; miss "what is installed is not what it held"; }
program="$root/usr/bin/dstor-sync"
[ "$("$program" --version)" = "dstor-sync $(in_root --query --queryformat '%{VERSION}' dstor-sync)" ] || miss "another version runs"
step "installed into a root of its own: $("$program" --version)"

mkdir "$work/mirror" && echo one > "$work/mirror/one"
"$program" run --sandbox "$work/mirror" > "$work/log" 2>&1 & agent=$!
for _ in $(seq 600); do
  "$program" status --sandbox > "$work/status" 2>&1 && grep -q '^in sync' "$work/status" && break
  sleep 0.1
done
grep -q '^in sync' "$work/status" || { cat "$work/status" "$work/log" >&2; miss "it is not in sync"; }
"$program" wait --sandbox --timeout 60s "$work/mirror/one" || { cat "$work/log" >&2; miss "a file is not stored"; }
kill "$agent" && wait "$agent" || miss "it does not stop in order"
agent=
step "used: a file is stored, and it stops in order"

in_root --erase dstor-sync
left=$(find "$root" -name '*dstor-sync*' | head -5)
[ -z "$left" ] || miss "this is left: $left"
[ -s "$work/state/sandbox/ledger.db" ] || miss "removing the program took the ledger"
step "removed: nothing is left of it, and the ledger is where it was"
