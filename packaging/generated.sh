#!/usr/bin/env bash
# Writes what the program itself makes for a package: manual pages (packed, as Debian wants them) and completions.
#
#   packaging/generated.sh PROGRAM DIR
set -euo pipefail
program=$(realpath "$1")
mkdir -p "$2"
cd "$2"

rm -rf man && mkdir man
"$program" man --all man
gzip -9 --no-name man/*
"$program" completions bash > dstor-sync.bash
"$program" completions zsh > _dstor-sync
"$program" completions fish > dstor-sync.fish
