// The value, or the nearer of `-limit` and `limit`; NaN stays.
__device__ __forceinline__ T within(T value, T limit) { return -larger(-larger(value, -limit), -limit); }
