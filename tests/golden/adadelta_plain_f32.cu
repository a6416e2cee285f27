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
struct Setting { T lr, rho, rho_rest, eps, weight_decay, sign, limit; };
struct Settings { Setting at[32]; };

__device__ __forceinline__ void update(const Setting &set, T factor, T &param, T grad, T &square_avg, T &acc_delta)
{
    grad = grad * factor;
    const T t0 = set.rho_rest * grad;
    const T t1 = set.rho * square_avg;
    const T t2 = fmaf(t0, grad, t1);
    const T t3 = acc_delta + set.eps;
    const T t4 = sqrtf(t3);
    const T t5 = t2 + set.eps;
    const T t6 = sqrtf(t5);
    const T t7 = t4 / t6;
    const T t8 = t7 * grad;
    const T t9 = set.rho_rest * t8;
    const T t10 = set.rho * acc_delta;
    const T t11 = fmaf(t9, t8, t10);
    const T t12 = fmaf(-set.lr, t8, param);
    param = t12;
    square_avg = t2;
    acc_delta = t11;
}

extern "C" __global__ void __launch_bounds__(256, 1) torchpace_adadelta_step(
    const Chunk *chunks, unsigned int chunk_count,
    float *const *params,
    const float *const *grads,
    float *const *square_avgs,
    float *const *acc_deltas,
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
        float *square_avg_at = in_global(square_avgs[chunk.task]) + chunk.begin;
        float *acc_delta_at = in_global(acc_deltas[chunk.task]) + chunk.begin;
        const bool aligned = is_aligned(param_at)
            && is_aligned(grad_at)
            && is_aligned(square_avg_at)
            && is_aligned(acc_delta_at);
        for (unsigned int i = threadIdx.x * N; i < chunk.len; i += blockDim.x * N) {
            const int count = (int)min(chunk.len - i, (unsigned int)N);
            const bool whole = aligned && count == N;
            T param[N], grad[N], square_avg[N], acc_delta[N];
            load(param_at + i, whole, count, param);
            load(grad_at + i, whole, count, grad);
            load(square_avg_at + i, whole, count, square_avg);
            load(acc_delta_at + i, whole, count, acc_delta);
            #pragma unroll
            for (int k = 0; k < N; k++) update(set, factor, param[k], grad[k], square_avg[k], acc_delta[k]);
            store(param_at + i, whole, count, param);
            store(square_avg_at + i, whole, count, square_avg);
            store(acc_delta_at + i, whole, count, acc_delta);
        }
    }
}
