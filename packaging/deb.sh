#!/usr/bin/env bash
# Makes the Debian package: the program, its manual pages and completions, the units, an example configuration. Prints where
# it is.
#
#   packaging/deb.sh            needs cargo-deb (`cargo install cargo-deb --locked`) and dpkg-dev
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --locked
packaging/generated.sh target/release/dstor-sync target/packaging
cargo deb --no-build --locked
