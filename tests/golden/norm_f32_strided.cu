typedef float T;
constexpr int N = 4;

// What is computed with, as it lies in memory.
__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ void narrow(T x, float &to) { to = (float)x; }
__device__ __forceinline__ void narrow(T x, double &to) { to = (double)x; }

typedef float E;
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

constexpr int TENSORS = 1;

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

// The sum of the squares of each chunk's gradients, wherever they lie; in the order of those that lie side by side.
extern "C" __global__ void __launch_bounds__(THREADS, 1) torchpace_norm_strided(
    const Chunk *chunks, unsigned int chunk_count, const E *const *grads, const Layout *layouts, double *sums)
{
    for (unsigned int c = blockIdx.x; c < chunk_count; c += gridDim.x) {
        const Chunk chunk = chunks[c];
        double sum = 0.0;
        for (unsigned int i = threadIdx.x * N; i < chunk.len; i += blockDim.x * N) {
            for (unsigned int k = i; k < chunk.len && k < i + N; k++) {
                long long at[TENSORS];
                find(layouts[chunk.task], (unsigned int)chunk.begin + k, at);
                const T value = widen(*after(in_global(grads[chunk.task]), at[0]));
                sum = fma((double)value, (double)value, sum);
            }
        }
        sum = sum_of_block(sum);
        if (threadIdx.x == 0) sums[c] = sum;
    }
}
