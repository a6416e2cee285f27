#!/usr/bin/env bash
# AddressSanitizer and ThreadSanitizer over the Rust tests; then each has to catch the fault planted for it.
set -euo pipefail
cd "$(dirname "$0")/../.."
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1 # the sanitizers' flags on a stable toolchain
export PROPTEST_CASES=${PROPTEST_CASES:-32}
export TSAN_OPTIONS="suppressions=$PWD/tests/sanitize/thread.supp"

check() { # sanitizer, further flags, what it says of the planted fault
    export RUSTFLAGS="-Zsanitizer=$1 $2" CARGO_TARGET_DIR=target/sanitize-$1
    cargo test --locked --quiet --no-default-features --target "$host" --lib --tests -- --test-threads=1
    if found=$(cargo test --locked --quiet --no-default-features --target "$host" --test planted -- --ignored "$1" 2>&1); then
        echo "error: the $1 sanitizer lets its planted fault pass" >&2
        exit 1
    fi
    grep -q "$3" <<<"$found" || { echo "error: the $1 sanitizer did not name its planted fault:" "$found" >&2; exit 1; }
    echo "$1: the tests are clean, and the planted fault was caught ($3)"
}

check address '' heap-buffer-overflow
check thread -Cunsafe-allow-abi-mismatch=sanitizer 'data race .*unaligned'
