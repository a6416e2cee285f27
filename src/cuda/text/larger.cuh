// The larger; NaN if either is.
__device__ __forceinline__ T larger(T left, T right) { return left > right || left != left ? left : right; }
