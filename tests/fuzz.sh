#!/usr/bin/env bash
# Runs the fuzz targets guided by coverage (libFuzzer), on stable Rust. Needs a C++ compiler, and some minutes to build.
#
#   tests/fuzz.sh                 every target for a minute
#   tests/fuzz.sh 600 framed      those with `framed` in their name, for ten minutes each
#
# What was learnt stays in target/fuzz/corpus, and an input that breaks a target in target/fuzz/broken. Ends with 0 if none did.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60} wanted=${2:-}
out=$PWD/target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')

# As cargo-bolero sets them; it cannot build a package with tests that fuzz nothing.
export RUSTC_BOOTSTRAP=1 BOLERO_FUZZER=libfuzzer RUST_BACKTRACE=0
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module --cfg fuzzing_libfuzzer"
for what in inline-8bit-counters level=4 pc-table trace-compares stack-depth; do
  RUSTFLAGS+=" -Cllvm-args=-sanitizer-coverage-$what"
done
export RUSTFLAGS
cargo test --locked --lib --no-run --target "$host" --target-dir "$out"
program=$(cargo test --locked --lib --no-run --target "$host" --target-dir "$out" 2>&1 | sed -n 's/.*(\(.*\))$/\1/p' | tail -1)

broken=0
for target in $("$program" --list --format terse 2>/dev/null | sed -n 's/^\(.*fuzz_.*\): test$/\1/p' | grep -- "$wanted"); do
  mkdir -p "$out/corpus/$target" "$out/broken"
  arguments="$out/corpus/$target -artifact_prefix=$out/broken/$target- -max_total_time=$seconds -timeout=10 -max_len=4096"
  if BOLERO_LIBTEST_HARNESS=1 BOLERO_TEST_NAME=$target BOLERO_LIBFUZZER_ARGS=$arguments \
    "$program" "$target" --exact --nocapture --test-threads 1 >"$out/log" 2>&1; then
    echo "$target: $(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$out/log" | tail -1) inputs, $(ls "$out/corpus/$target" | wc -l) kept, none breaks it"
  else
    broken=$((broken + 1))
    echo "$target: BROKEN"
    tail -30 "$out/log"
  fi
done
exit $((broken > 0))
