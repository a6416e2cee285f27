typedef float T;
constexpr int N = 8;

// What is computed with, as it lies in memory.
__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ void narrow(T x, float &to) { to = (float)x; }
__device__ __forceinline__ void narrow(T x, double &to) { to = (double)x; }

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

typedef bf16 E;
constexpr unsigned int THREADS = 256;

// A part of a task, which is one parameter and all that goes with it.
struct Chunk { unsigned int task, len; unsigned long long begin; };

// What the norm of all gradients says: a factor for them, and whether to leave the step out.
struct Clip { double norm, factor; unsigned int skip; };

// Tells the compiler what a pointer that came out of memory does not.
template <typename E> __device__ __forceinline__ E *in_global(E *at)
{
    __builtin_assume(__isGlobal(at));
    return at;
}

__device__ __forceinline__ bool is_left_out(const float *found_inf, const Clip *clip)
{
    return (found_inf && *found_inf != 0.0f) || (clip && clip->skip);
}

// As many of the `N` elements as there are, 16 bytes at a time if they are `whole`: all there, and aligned.
template <typename E> struct alignas(16) Pack { E at[16 / sizeof(E)]; };

template <typename E> __device__ __forceinline__ bool is_aligned(const E *at) { return (size_t)at % 16 == 0; }

template <typename E> __device__ __forceinline__ void load(const E *from, bool whole, int count, T (&to)[N])
{
    constexpr int each = 16 / sizeof(E);
    if (whole) {
        #pragma unroll
        for (int k = 0; k < N; k += each) {
            const Pack<E> pack = *reinterpret_cast<const Pack<E> *>(from + k);
            #pragma unroll
            for (int j = 0; j < each; j++) to[k + j] = widen(pack.at[j]);
        }
    } else {
        #pragma unroll
        for (int k = 0; k < N; k++) to[k] = k < count ? (T)widen(from[k]) : (T)0;
    }
}

template <typename E> __device__ __forceinline__ void store(E *to, bool whole, int count, const T (&from)[N])
{
    constexpr int each = 16 / sizeof(E);
    if (whole) {
        #pragma unroll
        for (int k = 0; k < N; k += each) {
            Pack<E> pack;
            #pragma unroll
            for (int j = 0; j < each; j++) narrow(from[k + j], pack.at[j]);
            *reinterpret_cast<Pack<E> *>(to + k) = pack;
        }
    } else {
        #pragma unroll
        for (int k = 0; k < N; k++) {
            if (k < count) narrow(from[k], to[k]);
        }
    }
}

// The sum of a block's numbers, in the same order always. For all of its threads.
__device__ __forceinline__ double sum_of_block(double own)
{
    __shared__ double sums[THREADS];
    sums[threadIdx.x] = own;
    __syncthreads();
    for (unsigned int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    const double sum = sums[0];
    __syncthreads();
    return sum;
}

// The sum of the squares of each chunk's gradients. Where an element lies in its chunk decides who adds it, and when:
// so the bits depend neither on the grid nor on alignment.
extern "C" __global__ void __launch_bounds__(THREADS, 1) torchpace_norm(
    const Chunk *chunks, unsigned int chunk_count, const E *const *grads, double *sums)
{
    for (unsigned int c = blockIdx.x; c < chunk_count; c += gridDim.x) {
        const Chunk chunk = chunks[c];
        const E *grad = in_global(grads[chunk.task]) + chunk.begin;
        const bool aligned = is_aligned(grad);
        double sum = 0.0;
        for (unsigned int i = threadIdx.x * N; i < chunk.len; i += blockDim.x * N) {
            const int count = (int)min(chunk.len - i, (unsigned int)N);
            T values[N];
            load(grad + i, aligned && count == N, count, values);
            #pragma unroll
            for (int k = 0; k < N; k++) sum = fma((double)values[k], (double)values[k], sum);
        }
        sum = sum_of_block(sum);
        if (threadIdx.x == 0) sums[c] = sum;
    }
}
