// The sum of the squares of each chunk's gradients. Where an element lies in its chunk decides who adds it, and when:
// so the bits depend neither on the grid nor on alignment.
extern "C" __global__ void __launch_bounds__(THREADS, 1) torchpace_norm(
    const Chunk *chunks, unsigned int chunk_count, const E *const *grads, double *sums)
{
    for (unsigned int c = blockIdx.x; c < chunk_count; c += gridDim.x) {
        const Chunk chunk = chunks[c];
        const E *grad = in_global(grads[chunk.task]) + chunk.begin;
        const bool aligned = is_aligned(grad);
        double sum = 0.0;
        for (unsigned int i = threadIdx.x * N; i < chunk.len; i += blockDim.x * N) {
            const int count = (int)min(chunk.len - i, (unsigned int)N);
            T values[N];
            load(grad + i, aligned && count == N, count, values);
            #pragma unroll
            for (int k = 0; k < N; k++) sum = fma((double)values[k], (double)values[k], sum);
        }
        sum = sum_of_block(sum);
        if (threadIdx.x == 0) sums[c] = sum;
    }
}
