#!/usr/bin/env bash
# NVIDIA's compute-sanitizer over steps of every optimizer, strided ones and clipped ones among them.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v compute-sanitizer > /dev/null || {
    echo "error: compute-sanitizer not found: it comes with the CUDA toolkit" >&2
    exit 1
}
for tool in memcheck racecheck; do
    # torch's allocator hands out parts of larger blocks, past whose ends nothing would be seen.
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" \
        --error-exitcode 1 "${1:-python3}" -m pytest -q -x -p no:cacheprovider \
        tests/gpu/test_gpu_table.py tests/gpu/test_gpu_clipping.py -k "(layouts or counts or skip or settings) and not as_near"
done
