#!/usr/bin/env bash
# valgrind's memcheck over the Python entry points: no error may have a frame in the native module; then it has to catch
# the planted fault. Takes the interpreter of an environment with the package.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1
command -v valgrind >/dev/null || { echo "error: valgrind not found: install it (Debian: valgrind)" >&2; exit 1; }
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
# Its own allocator would hide from valgrind what belongs to which object. torch's and Python's own errors are counted only.
export PYTHONMALLOC=malloc OMP_NUM_THREADS=1

errors() { # what entry.py is to do; sets the number of errors, and of those with a frame of ours
    valgrind --tool=memcheck --num-callers=40 --error-limit=no --log-file="$logs/log" "$python" tests/sanitize/entry.py "$@"
    all=$(grep -c '^==[0-9]*== \(Invalid\|Conditional\|Use of\|Syscall\|Source and\|Mismatched\)' "$logs/log" || true)
    ours=$(sed 's/^==[0-9]*== *//' "$logs/log" | awk -v RS= '/_native\.abi3\.so|torchpace::/' | tee "$logs/ours" | grep -c '^by\|^at' || true)
}

errors
if [ "$ours" != 0 ]; then
    echo "error: memcheck reports errors in the native module:" >&2
    cat "$logs/ours" >&2
    exit 1
fi
echo "memcheck: $all errors in torch and Python, none in the native module"
errors planted
if [ "$ours" = 0 ]; then
    echo "error: memcheck lets its planted fault pass" >&2
    exit 1
fi
echo "memcheck: the planted fault was caught: $(head -1 "$logs/ours")"
