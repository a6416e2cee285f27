typedef float T;
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

// The larger; NaN if either is.
__device__ __forceinline__ double larger(double left, double right) { return left > right || left != left ? left : right; }

// What the parameters of a group share in a step.
struct Setting { T rate, beta1, beta1_rest, unbias_mean, beta2, beta2_rest, unbias, eps, weight_decay, sign, limit; };

struct Wide { double rate, beta1, beta1_rest, unbias_mean, beta2, beta2_rest, unbias, eps, weight_decay, sign, limit; };
struct Wides { Wide at[32]; };

extern "C" __global__ void __launch_bounds__(256, 1) torchpace_lamb_complete(
    unsigned int tasks, const unsigned long long *lengths, const unsigned long long *firsts, const double *sums,
    const unsigned int *setting_of, const __grid_constant__ Wides wides, Setting *settings, const float *found_inf, const Clip *clip)
{
    if (is_left_out(found_inf, clip)) return;
    for (unsigned int task = blockIdx.x; task < tasks; task += gridDim.x) {
        const unsigned long long count = (lengths[task] + CHUNK - 1) / CHUNK;
        double first_sum = 0.0, second_sum = 0.0;
        for (unsigned long long i = threadIdx.x; i < count; i += blockDim.x) {
            first_sum += sums[2 * (firsts[task] + i) + 0];
            second_sum += sums[2 * (firsts[task] + i) + 1];
        }
        first_sum = sum_of_block(first_sum);
        second_sum = sum_of_block(second_sum);
        if (threadIdx.x == 0) {
            const double len = (double)lengths[task];
            const Wide set = wides.at[setting_of[task]];
            const double t0 = sqrt(first_sum);
            const double t1 = sqrt(second_sum);
            const double t2 = t0 / t1;
            const double t3 = second_sum == (T)0.0 ? (T)1.0 : t2;
            const double t4 = first_sum == (T)0.0 ? (T)1.0 : t3;
            const double t5 = -t4;
            const double t6 = -(T)1.0;
            const double t7 = larger(t5, t6);
            const double t8 = -t7;
            const double t9 = set.rate * t8;
            settings[task] = {(T)(t9), (T)(set.beta1), (T)(set.beta1_rest), (T)(set.unbias_mean), (T)(set.beta2), (T)(set.beta2_rest), (T)(set.unbias), (T)(set.eps), (T)(set.weight_decay), (T)set.sign, (T)set.limit};
        }
    }
}
