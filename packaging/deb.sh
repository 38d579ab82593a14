#!/usr/bin/env bash
# Makes the Debian package: the program, its manual pages and completions, the units, an example configuration. Prints where
# it is. What is in it, [package.metadata.deb] in Cargo.toml says.
#
#   packaging/deb.sh [PROFILE]        needs cargo-deb (`cargo install cargo-deb --locked`) and dpkg-dev; PROFILE as in build.sh
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${1:-release} quick=()
packaging/build.sh "$profile" >/dev/null
# One that is only tried is neither small nor slow to make.
[ "$profile" = release ] || quick=(--fast)
cargo deb --no-build --locked --profile "$profile" --no-dbgsym --strip "${quick[@]}"
