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

constexpr int TENSORS = 4;

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

// What the parameters of a group share in a step.
struct Setting { T rate, beta1, beta1_rest, beta2, beta2_rest, unbias, eps, decay, sign, limit; };

struct Wide { double rate, beta1, beta1_rest, beta2, beta2_rest, unbias, eps, decay, sign, limit; };

__device__ __forceinline__ Setting narrowed(const Wide &wide)
{
    return {(T)wide.rate, (T)wide.beta1, (T)wide.beta1_rest, (T)wide.beta2, (T)wide.beta2_rest, (T)wide.unbias, (T)wide.eps, (T)wide.decay, (T)wide.sign, (T)wide.limit};
}

__device__ __forceinline__ void add(const Setting &set, T factor, T param, T grad, T exp_avg, T exp_avg_sq, double (&sums)[2])
{
    grad = grad * factor;
    const T t0 = fmaf(set.decay, param, grad);
    const T t1 = t0 - exp_avg;
    const T t2 = fmaf(t1, -set.beta1, t0);
    const T t3 = -(T)1.0;
    const T t4 = t0 < (T)0.0 ? t3 : (T)0.0;
    const T t5 = (T)0.0 < t0 ? (T)1.0 : t4;
    const T t6 = t5 * t2;
    const T t7 = (T)0.0 < t6 ? (T)1.0 : (T)0.0;
    sums[0] = fma((double)(t7), (double)(t7), sums[0]);
    sums[1] = fma((double)((T)0.0), (double)((T)0.0), sums[1]);
}

extern "C" __global__ void __launch_bounds__(256, 1) torchpace_adam_sums_strided(
    const Chunk *chunks, unsigned int chunk_count,
    const float *const *params,
    const float *const *grads,
    const float *const *exp_avgs,
    const float *const *exp_avg_sqs,
    const Layout *layouts,
    const Wide *settings,
    const float *found_inf, const Clip *clip, double *sums)
{
    if (is_left_out(found_inf, clip)) return;
    const T clip_factor = clip ? (T)clip->factor : (T)1;
    for (unsigned int c = blockIdx.x; c < chunk_count; c += gridDim.x) {
        const Chunk chunk = chunks[c];
        const Setting set = narrowed(settings[chunk.task]);
        const T factor = set.sign * clip_factor;
        double own[2] = {};
        for (unsigned int i = threadIdx.x * N; i < chunk.len; i += blockDim.x * N) {
            for (unsigned int k = i; k < chunk.len && k < i + N; k++) {
                long long at[TENSORS];
                find(layouts[chunk.task], (unsigned int)chunk.begin + k, at);
                const float *param_at = after(in_global(params[chunk.task]), at[0]);
                T param = widen(*param_at);
                const float *grad_at = after(in_global(grads[chunk.task]), at[1]);
                T grad = widen(*grad_at);
                const float *exp_avg_at = after(in_global(exp_avgs[chunk.task]), at[2]);
                T exp_avg = widen(*exp_avg_at);
                const float *exp_avg_sq_at = after(in_global(exp_avg_sqs[chunk.task]), at[3]);
                T exp_avg_sq = widen(*exp_avg_sq_at);
                add(set, factor, param, grad, exp_avg, exp_avg_sq, own);
            }
        }
        for (int k = 0; k < 2; k++) {
            const double sum = sum_of_block(own[k]);
            if (threadIdx.x == 0) sums[2 * c + k] = sum;
        }
    }
}
