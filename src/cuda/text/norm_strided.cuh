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
