#!/usr/bin/env bash
# Makes the RPM package, of the same parts as the Debian one. Prints where it is. What is in it, dstor-sync.spec says.
#
#   packaging/rpm.sh [PROFILE]        needs rpmbuild (Fedora: rpm-build, Debian: rpm); PROFILE as in build.sh
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${1:-release} quick=()
built=$(packaging/build.sh "$profile")
# One that is only tried is neither small nor slow to make.
[ "$profile" = release ] || quick=(--define '_binary_payload w1.gzdio')
rm -rf target/rpmbuild
rpmbuild -bb --quiet "${quick[@]}" --define "_topdir $PWD/target/rpmbuild" --define "tree $PWD" \
  --define "built $PWD/$built" --define "release_version $(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)" \
  packaging/dstor-sync.spec >&2
ls target/rpmbuild/RPMS/*/*.rpm
