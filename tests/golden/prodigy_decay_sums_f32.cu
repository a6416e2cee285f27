typedef float T;
constexpr int N = 4;

// What is computed with, as it lies in memory.
__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ void narrow(T x, float &to) { to = (float)x; }
__device__ __forceinline__ void narrow(T x, double &to) { to = (double)x; }

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

// The larger; NaN if either is.
__device__ __forceinline__ T larger(T left, T right) { return left > right || left != left ? left : right; }

// What the parameters of a group share in a step.
struct Setting { T rate, beta1, beta1_rest, beta2, beta2_rest, beta3, s_rate, eps, decay, gain, counts, sign, limit; };

struct Wide { double rate, beta1, beta1_rest, beta2, beta2_rest, beta3, s_rate, eps, decay, gain, counts, sign, limit; };
struct Wides { Wide at[32]; };

__device__ __forceinline__ Setting narrowed(const Wide &wide)
{
    return {(T)wide.rate, (T)wide.beta1, (T)wide.beta1_rest, (T)wide.beta2, (T)wide.beta2_rest, (T)wide.beta3, (T)wide.s_rate, (T)wide.eps, (T)wide.decay, (T)wide.gain, (T)wide.counts, (T)wide.sign, (T)wide.limit};
}

__device__ __forceinline__ void add(const Setting &set, T factor, T param, T grad, T s, T p0, T exp_avg, T exp_avg_sq, double (&sums)[2])
{
    grad = grad * factor;
    const T t0 = set.beta3 * s;
    const T t1 = fmaf(set.s_rate, grad, t0);
    const T t2 = set.gain * grad;
    const T t3 = p0 - param;
    const T t4 = -t1;
    const T t5 = larger(t1, t4);
    sums[0] = fma((double)(t2), (double)(t3), sums[0]);
    sums[1] = fma((double)(set.counts), (double)(t5), sums[1]);
}

extern "C" __global__ void __launch_bounds__(256, 1) torchpace_prodigy_sums(
    const Chunk *chunks, unsigned int chunk_count,
    const float *const *params,
    const float *const *grads,
    const float *const *ss,
    const float *const *p0s,
    const float *const *exp_avgs,
    const float *const *exp_avg_sqs,
    const unsigned int *setting_of, const __grid_constant__ Wides settings,
    const float *found_inf, const Clip *clip, double *sums)
{
    if (is_left_out(found_inf, clip)) return;
    const T clip_factor = clip ? (T)clip->factor : (T)1;
    for (unsigned int c = blockIdx.x; c < chunk_count; c += gridDim.x) {
        const Chunk chunk = chunks[c];
        const Setting set = narrowed(settings.at[setting_of[chunk.task]]);
        const T factor = set.sign * clip_factor;
        double own[2] = {};
        const float *param_at = in_global(params[chunk.task]) + chunk.begin;
        const float *grad_at = in_global(grads[chunk.task]) + chunk.begin;
        const float *s_at = in_global(ss[chunk.task]) + chunk.begin;
        const float *p0_at = in_global(p0s[chunk.task]) + chunk.begin;
        const float *exp_avg_at = in_global(exp_avgs[chunk.task]) + chunk.begin;
        const float *exp_avg_sq_at = in_global(exp_avg_sqs[chunk.task]) + chunk.begin;
        const bool aligned = is_aligned(param_at)
            && is_aligned(grad_at)
            && is_aligned(s_at)
            && is_aligned(p0_at)
            && is_aligned(exp_avg_at)
            && is_aligned(exp_avg_sq_at);
        for (unsigned int i = threadIdx.x * N; i < chunk.len; i += blockDim.x * N) {
            const int count = (int)min(chunk.len - i, (unsigned int)N);
            const bool whole = aligned && count == N;
            T param[N], grad[N], s[N], p0[N], exp_avg[N], exp_avg_sq[N];
            load(param_at + i, whole, count, param);
            load(grad_at + i, whole, count, grad);
            load(s_at + i, whole, count, s);
            load(p0_at + i, whole, count, p0);
            load(exp_avg_at + i, whole, count, exp_avg);
            load(exp_avg_sq_at + i, whole, count, exp_avg_sq);
            #pragma unroll
            for (int k = 0; k < N; k++) {
                if (k < count) add(set, factor, param[k], grad[k], s[k], p0[k], exp_avg[k], exp_avg_sq[k], own);
            }
        }
        for (int k = 0; k < 2; k++) {
            const double sum = sum_of_block(own[k]);
            if (threadIdx.x == 0) sums[2 * c + k] = sum;
        }
    }
}
