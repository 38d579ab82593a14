#!/usr/bin/env bash
# What every package is made of: the program, and what the program itself writes for one, in target/packaging. Prints the
# directory that cargo built it in.
#
#   packaging/build.sh [PROFILE]      release, or dev: the program as the tests use it, which is there sooner
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${1:-release}
case $profile in
  # By way of the tests: by itself it would be built with other features of its libraries, all of them anew.
  dev) built=target/debug && cargo test --no-run --locked --test main >&2 ;;
  *) built=target/$profile && cargo build --profile "$profile" --locked --bin dstor-sync >&2 ;;
esac
packaging/generated.sh "$built/dstor-sync" target/packaging >&2
echo "$built"
