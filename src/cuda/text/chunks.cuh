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
