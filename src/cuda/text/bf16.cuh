// The upper half of a float.
struct bf16 { unsigned short bits; };

__device__ __forceinline__ float widen(bf16 x) { return __uint_as_float((unsigned int)x.bits << 16); }

__device__ __forceinline__ void narrow(T x, bf16 &to)
{
    const float value = (float)x;
#if __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to.bits) : "f"(value));
#else
    const unsigned int bits = __float_as_uint(value);
    const unsigned int nearest = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    to.bits = (unsigned short)(value != value ? bits >> 16 | 0x40u : nearest);
#endif
}
