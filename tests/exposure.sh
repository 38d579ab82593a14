#!/usr/bin/env bash
# What systemd thinks of the units: how much each of ours exposes, from 0 to 10, beside those of syncthing and of onedrive (the
# client by abraunegg) as Debian has them. Prints a table; ends with 1 if the unit of the machine is above 2.0.
#
# Needs systemd, and for the others apt-get, which brings their packages into a directory that is removed at the end; without
# it only ours are looked at. Installs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/units"

exposure() { # the file, its name as a unit, and for a unit of a user --user
  cp "$1" "$work/units/$2"
  XDG_RUNTIME_DIR=$work systemd-analyze ${3:-} security --offline=yes --no-pager "$work/units/$2" 2>"$work/said" | tail -1 | grep -o '[0-9]*\.[0-9]' ||
    { cat "$work/said" >&2; return 1; }
}
row() { printf '| %s | %s | %s |\n' "$@"; }

row 'what' 'of the machine' 'of a user'
row --- --- ---
ours=$(exposure packaging/systemd/dstor-sync@.service dstor-sync@daemon.service)
row 'dstor-sync' "$ours" "$(exposure packaging/systemd/dstor-sync.service dstor-sync.service --user)"
if command -v apt-get >/dev/null; then
  for package in syncthing onedrive; do
    (cd "$work" && apt-get download -qq "$package" && dpkg-deb -x "$package"_*.deb "$package") >"$work/said" 2>&1 ||
      { echo "$package cannot be had: $(tail -1 "$work/said")" >&2; continue; }
    version=$(dpkg-deb -f "$work/$package"_*.deb Version)
    units=$(find "$work/$package" -path '*systemd/system/*' -name "$package@.service" | head -1)
    user=$(find "$work/$package" -path '*systemd/user/*' -name "$package.service" | head -1)
    row "$package $version" "$(exposure "$units" "$package@daemon.service")" "$(exposure "$user" "$package.service" --user)"
  done
fi
[ "$(echo "$ours <= 2.0" | bc)" = 1 ] || { echo "ours of the machine is above 2.0" >&2; exit 1; }
