typedef float T;

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

constexpr int TENSORS = 3;

// The way through the tensors of a task that are laid out unlike each other or with gaps, in bytes. Elements are counted
// in 32 bits, in which dividing takes neither a call nor memory.
struct Dim { unsigned int count; long long strides[TENSORS]; };
struct Layout { unsigned int dims; Dim at[8]; };

// Where an element is in each of the tensors, from its first one.
__device__ __forceinline__ void find(const Layout &layout, unsigned int element, long long (&at)[TENSORS])
{
    #pragma unroll
    for (int k = 0; k < TENSORS; k++) at[k] = 0;
    for (int d = (int)layout.dims - 1; d >= 0; d--) {
        const Dim &dim = layout.at[d];
        const long long index = element % dim.count;
        element /= dim.count;
        #pragma unroll
        for (int k = 0; k < TENSORS; k++) at[k] += index * dim.strides[k];
    }
}

template <typename E> __device__ __forceinline__ E *after(E *base, long long bytes)
{
    return reinterpret_cast<E *>((size_t)base + (size_t)bytes);
}

// What the parameters of a group share in a step.
struct Setting { T lr, momentum, intake, weight_decay, sign, limit; };
struct Settings { Setting at[32]; };

__device__ __forceinline__ void update(const Setting &set, T factor, T &param, T grad, T &momentum_buffer)
{
    grad = grad * factor;
    const T t0 = set.momentum * momentum_buffer;
    const T t1 = fmaf(set.intake, grad, t0);
    const T t2 = fmaf(-set.lr, t1, param);
    param = t2;
    momentum_buffer = t1;
}

extern "C" __global__ void __launch_bounds__(256, 1) torchpace_sgd_step_strided(
    const Chunk *chunks, unsigned int chunk_count,
    float *const *params,
    float *const *grads,
    float *const *momentum_buffers,
    const Layout *layouts,
    const unsigned int *setting_of, const __grid_constant__ Settings settings,
    const float *found_inf, const Clip *clip, const float *grad_scale)
{
    if (is_left_out(found_inf, clip)) return;
    const T clip_factor = clip ? (T)clip->factor : (T)1;
    const T unscale = (T)(1.0f / *grad_scale);
    for (unsigned int c = blockIdx.x; c < chunk_count; c += gridDim.x) {
        const Chunk chunk = chunks[c];
        const Setting set = settings.at[setting_of[chunk.task]];
        const T factor = set.sign * clip_factor;
        for (unsigned int i = threadIdx.x; i < chunk.len; i += blockDim.x) {
            long long at[TENSORS];
            find(layouts[chunk.task], (unsigned int)chunk.begin + i, at);
            float *param_at = after(in_global(params[chunk.task]), at[0]);
            T param = widen(*param_at);
            float *grad_at = after(in_global(grads[chunk.task]), at[1]);
            T grad = widen(*grad_at);
            float *momentum_buffer_at = after(in_global(momentum_buffers[chunk.task]), at[2]);
            T momentum_buffer = widen(*momentum_buffer_at);
            grad = grad * unscale;
            narrow(grad, *grad_at);
            update(set, factor, param, grad, momentum_buffer);
            narrow(param, *param_at);
            narrow(momentum_buffer, *momentum_buffer_at);
        }
    }
}
