constexpr unsigned int THREADS = 256, CHUNK = 16384;

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

// The chunks of tasks of these lengths; those of a task begin at the first of its own.
extern "C" __global__ void __launch_bounds__(THREADS, 1) torchpace_chunks(
    const unsigned long long *lengths, const unsigned long long *firsts, unsigned int tasks, Chunk *chunks)
{
    for (unsigned int task = blockIdx.x; task < tasks; task += gridDim.x) {
        const unsigned long long length = lengths[task], count = (length + CHUNK - 1) / CHUNK;
        for (unsigned long long i = threadIdx.x; i < count; i += blockDim.x) {
            const unsigned long long begin = i * CHUNK, left = length - begin;
            chunks[firsts[task] + i] = {task, (unsigned int)(left < CHUNK ? left : CHUNK), begin};
        }
    }
}
