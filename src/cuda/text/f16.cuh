// 16 bits of IEEE 754.
struct f16 { unsigned short bits; };

__device__ __forceinline__ float widen(f16 x)
{
    float value;
#ifdef __CUDA_ARCH__
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(x.bits));
#else
    value = host_f16_to_float(x.bits);
#endif
    return value;
}

__device__ __forceinline__ void narrow(T x, f16 &to)
{
    const float value = (float)x;
#ifdef __CUDA_ARCH__
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"(value));
#else
    to.bits = host_float_to_f16(value);
#endif
}
