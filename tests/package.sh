#!/usr/bin/env bash
# The Debian package from its making to its end: builds it, looks what is in it, installs it, uses what it brought, removes
# it, and looks that nothing of it is left. Prints a line for each step; ends with 1 at the first that is missed.
#
#   tests/package.sh [PROFILE]        what is built as for a release, or with dev the program that the tests have anyway
#
# Changes this machine's packages, so it is for a machine that is thrown away, as root on Debian. Needs cargo-deb
# (`cargo install cargo-deb --locked`), bash-completion, man-db's or groff's `groff`, zsh and fish.
set -euo pipefail
cd "$(dirname "$0")/.."

[ "$(id -u)" = 0 ] || { echo "only root can install a package" >&2; exit 1; }
! dpkg -s dstor-sync >/dev/null 2>&1 || { echo "dstor-sync is installed here already; this would remove it" >&2; exit 1; }

work=$(mktemp -d) agent=
finish() {
  [ -z "$agent" ] || kill "$agent" 2>/dev/null || true
  dpkg --purge dstor-sync >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT
step() { echo "ok  $*"; }
miss() { echo "MISSED  $*" >&2; exit 1; }

packaging/deb.sh "${1:-release}" > "$work/made" 2>&1 || { cat "$work/made" >&2; miss "the package is not made"; }
deb=$(tail -1 "$work/made")
step "made: $(basename "$deb"), $(stat -c %s "$deb") bytes"

dpkg-deb --contents "$deb" > "$work/contents"
for path in usr/bin/dstor-sync usr/lib/systemd/user/dstor-sync.service usr/lib/systemd/system/dstor-sync@.service \
  usr/share/man/man1/dstor-sync.1.gz usr/share/man/man1/dstor-sync-restore.1.gz usr/share/doc/dstor-sync/copyright \
  usr/share/doc/dstor-sync/examples/config.example.toml usr/share/bash-completion/completions/dstor-sync \
  usr/share/zsh/vendor-completions/_dstor-sync usr/share/fish/vendor_completions.d/dstor-sync.fish; do
  grep -q " \./$path\$" "$work/contents" || miss "$path is not in it"
done
grep -vE '^[-d]rw[x-]r-[x-]r-[x-] (root/root|0/0) ' "$work/contents" && miss "others may write that, or it is not root's"
dpkg-deb --field "$deb" Depends | grep -q 'ca-certificates' || miss "it does not depend on ca-certificates"
dpkg-deb --field "$deb" Depends | grep -q 'libc6 (>= ' || miss "it does not say which libc it needs"
step "holds program, units, manual pages, completions, example, copyright; Depends: $(dpkg-deb --field "$deb" Depends)"

dpkg --install "$deb" > "$work/installed" 2>&1 || { cat "$work/installed" >&2; miss "it is not installed"; }
[ "$(dstor-sync --version)" = "dstor-sync $(dpkg-query -W -f '${Version}' dstor-sync | sed 's/-[0-9]*$//')" ] || miss "another version runs"
step "installed: $(dstor-sync --version)"

man_page=$(zcat /usr/share/man/man1/dstor-sync-restore.1.gz | groff -man -Tutf8 -P-cbou 2>"$work/groff")
[ ! -s "$work/groff" ] && grep -q 'dstor.sync.restore' <<< "$man_page" || miss "groff does not like the manual page"
fish -c 'complete -C "dstor-sync resto"' | grep -q '^restore' || miss "fish completes nothing"
bash -c 'source /usr/share/bash-completion/completions/dstor-sync; complete -p dstor-sync' >/dev/null || miss "bash completes nothing"
zsh -fc 'autoload -U compinit; compinit -u -d "$1/zcompdump"; [ "${_comps[dstor-sync]}" = _dstor-sync ]' zsh "$work" || miss "zsh completes nothing"
if command -v systemd-analyze >/dev/null; then
  systemd-analyze verify --man=no /usr/lib/systemd/system/dstor-sync@.service 2> "$work/verify" || { cat "$work/verify" >&2; miss "the unit is not clean"; }
fi
step "manual page, completions of bash, zsh and fish, and the unit work"

export HOME="$work/home" DSTOR_SYNC_STATE_DIR="$work/state"
mkdir -p "$HOME" "$work/mirror" && echo one > "$work/mirror/one"
dstor-sync run --sandbox "$work/mirror" > "$work/log" 2>&1 & agent=$!
for _ in $(seq 600); do
  dstor-sync status --sandbox > "$work/status" 2>&1 && grep -q '^in sync' "$work/status" && break
  sleep 0.1
done
grep -q '^in sync' "$work/status" || { cat "$work/status" "$work/log" >&2; miss "it is not in sync"; }
dstor-sync wait --sandbox --timeout 60s "$work/mirror/one" || { cat "$work/log" >&2; miss "a file is not stored"; }
kill "$agent" && wait "$agent" || miss "it does not stop in order"
agent=
step "used: a file is stored, and it stops in order"

dpkg --remove dstor-sync > "$work/removed" 2>&1
[ ! -e /usr/bin/dstor-sync ] || miss "the program is still there"
dpkg --purge dstor-sync >> "$work/removed" 2>&1
left=$(find /usr /etc /var/lib/systemd -xdev -name '*dstor-sync*' -not -path '/usr/src/*' 2>/dev/null | head -5)
[ -z "$left" ] || miss "this is left: $left"
[ -s "$work/state/sandbox/ledger.db" ] || miss "removing the program took the ledger"
step "removed: nothing is left of it, and the ledger is where it was"
