// Words that come with the launch, put where other kernels look for them: on the stream's turn, and so in a graph too.
struct Words { unsigned long long at[WORDS]; };

extern "C" __global__ void __launch_bounds__(THREADS, 1) torchpace_write(
    unsigned long long *to, unsigned int count, const __grid_constant__ Words words)
{
    for (unsigned int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        to[i] = words.at[i];
    }
}
