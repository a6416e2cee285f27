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

// The norm of all gradients from the sums of all chunks, in one block, and what comes of it. If `max_norm` is not below
// 0, torch's factor, in which a NaN stays. The step is left out if the norm is not at most a `skip_norm` that is not below
// 0, or under `skip_nonfinite` not finite. Whoever wants an error instead reads `clip->norm` on the host between this
// kernel and the next. To `found` go the norm and whether the step is left out.
extern "C" __global__ void __launch_bounds__(THREADS, 1) torchpace_fold(
    const double *sums, unsigned int count, double max_norm, double skip_norm, unsigned int skip_nonfinite,
    const float *grad_scale, Clip *clip, float *found)
{
    double sum = 0.0;
    for (unsigned int i = threadIdx.x; i < count; i += blockDim.x) sum += sums[i];
    sum = sum_of_block(sum);
    if (threadIdx.x == 0) {
        const float unscale = grad_scale ? 1.0f / *grad_scale : 1.0f;
        const double norm = sqrt(sum) * fabs((double)unscale);
        const double factor = max_norm / (norm + 1e-6);
        clip->norm = norm;
        clip->factor = max_norm < 0.0 || factor > 1.0 ? 1.0 : factor;
        clip->skip = (skip_nonfinite && !(norm - norm == 0.0)) || (skip_norm >= 0.0 && !(norm <= skip_norm));
        if (found) {
            found[0] = (float)norm;
            found[1] = clip->skip ? 1.0f : 0.0f;
        }
    }
}
