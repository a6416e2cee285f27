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
struct Setting { T lr, share, y_rate, momentum, decay, sign, limit; };
struct Settings { Setting at[32]; };

__device__ __forceinline__ void update(const Setting &set, T factor, T &param, T grad, T &z)
{
    grad = grad * factor;
    const T t0 = fmaf(set.decay, param, grad);
    const T t1 = z - param;
    const T t2 = fmaf(set.share, t1, param);
    const T t3 = fmaf(set.y_rate, t0, t2);
    const T t4 = fmaf(-set.lr, t0, z);
    param = t3;
    z = t4;
}

extern "C" __global__ void __launch_bounds__(256, 1) torchpace_schedule_free_sgd_step(
    const Chunk *chunks, unsigned int chunk_count,
    float *const *params,
    const float *const *grads,
    float *const *zs,
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
        float *z_at = in_global(zs[chunk.task]) + chunk.begin;
        const bool aligned = is_aligned(param_at)
            && is_aligned(grad_at)
            && is_aligned(z_at);
        for (unsigned int i = threadIdx.x * N; i < chunk.len; i += blockDim.x * N) {
            const int count = (int)min(chunk.len - i, (unsigned int)N);
            const bool whole = aligned && count == N;
            T param[N], grad[N], z[N];
            load(param_at + i, whole, count, param);
            load(grad_at + i, whole, count, grad);
            load(z_at + i, whole, count, z);
            #pragma unroll
            for (int k = 0; k < N; k++) update(set, factor, param[k], grad[k], z[k]);
            store(param_at + i, whole, count, param);
            store(z_at + i, whole, count, z);
        }
    }
}
