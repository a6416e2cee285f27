typedef float T;
constexpr int N = 4;

// What is computed with, as it lies in memory.
__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ void narrow(T x, float &to) { to = (float)x; }
__device__ __forceinline__ void narrow(T x, double &to) { to = (double)x; }

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

// What the parameters of a group share in a step.
struct Setting { T rate, beta1, beta1_rest, beta2, beta2_rest, beta3, s_rate, eps, decay, gain, counts, sign, limit; };
struct Settings { Setting at[32]; };

__device__ __forceinline__ void update(const Setting &set, T factor, T &param, T grad, T &s, T &p0, T &exp_avg, T &exp_avg_sq)
{
    grad = grad * factor;
    const T t0 = set.beta1 * exp_avg;
    const T t1 = fmaf(set.beta1_rest, grad, t0);
    const T t2 = set.beta2_rest * grad;
    const T t3 = set.beta2 * exp_avg_sq;
    const T t4 = fmaf(t2, grad, t3);
    const T t5 = set.beta3 * s;
    const T t6 = fmaf(set.s_rate, grad, t5);
    const T t7 = sqrtf(t4);
    const T t8 = t7 + set.eps;
    const T t9 = t1 / t8;
    const T t10 = set.rate * t9;
    const T t11 = param - t10;
    param = t11;
    s = t6;
    p0 = p0;
    exp_avg = t1;
    exp_avg_sq = t4;
}

extern "C" __global__ void __launch_bounds__(256, 1) torchpace_prodigy_step(
    const Chunk *chunks, unsigned int chunk_count,
    float *const *params,
    const float *const *grads,
    float *const *ss,
    float *const *p0s,
    float *const *exp_avgs,
    float *const *exp_avg_sqs,
    const unsigned int *setting_of, const __grid_constant__ Settings settings,
    const float *found_inf, const Clip *clip)
{
    if (is_left_out(found_inf, clip)) return;
    const T clip_factor = clip ? (T)clip->factor : (T)1;
    for (unsigned int c = blockIdx.x; c < chunk_count; c += gridDim.x) {
        const Chunk chunk = chunks[c];
        const Setting set = settings.at[setting_of[chunk.task]];
        const T factor = set.sign * clip_factor;
        float *param_at = in_global(params[chunk.task]) + chunk.begin;
        const float *grad_at = in_global(grads[chunk.task]) + chunk.begin;
        float *s_at = in_global(ss[chunk.task]) + chunk.begin;
        float *p0_at = in_global(p0s[chunk.task]) + chunk.begin;
        float *exp_avg_at = in_global(exp_avgs[chunk.task]) + chunk.begin;
        float *exp_avg_sq_at = in_global(exp_avg_sqs[chunk.task]) + chunk.begin;
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
            for (int k = 0; k < N; k++) update(set, factor, param[k], grad[k], s[k], p0[k], exp_avg[k], exp_avg_sq[k]);
            store(param_at + i, whole, count, param);
            store(s_at + i, whole, count, s);
            store(p0_at + i, whole, count, p0);
            store(exp_avg_at + i, whole, count, exp_avg);
            store(exp_avg_sq_at + i, whole, count, exp_avg_sq);
        }
    }
}
