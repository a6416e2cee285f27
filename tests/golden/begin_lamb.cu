typedef float T;

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

// What the parameters of a group share in a step.
struct Setting { T rate, beta1, beta1_rest, unbias_mean, beta2, beta2_rest, unbias, eps, weight_decay, sign, limit; };

// The options of a group: `lr_at` or `wide_lr_at` is where its learning rate is, `lr` what it is where both are null.
struct Group { const float *lr_at; const double *wide_lr_at; double lr, sign, limit, constants[5]; };
struct Groups { Group at[16]; };

extern "C" __global__ void __launch_bounds__(256, 1) torchpace_lamb_begin(
    unsigned int tasks, float *const *counts, const unsigned int *group_of, const __grid_constant__ Groups groups,
    Setting *settings, const float *found_inf, const Clip *clip)
{
    if (is_left_out(found_inf, clip)) return;
    for (unsigned int task = blockIdx.x * blockDim.x + threadIdx.x; task < tasks; task += gridDim.x * blockDim.x) {
        const Group &group = groups.at[group_of[task]];
        const double lr = group.lr_at ? (double)*group.lr_at : group.wide_lr_at ? *group.wide_lr_at : group.lr;
        const double step = (double)*counts[task] + 1.0;
        const double t0 = pow(group.constants[1], step);
        const double t1 = group.constants[0] - t0;
        const double t2 = group.constants[0] / t1;
        const double t3 = pow(group.constants[2], step);
        const double t4 = group.constants[0] - t3;
        const double t5 = sqrt(t4);
        const double t6 = group.constants[0] / t5;
        const double t7 = group.constants[0] - group.constants[1];
        const double t8 = group.constants[0] - group.constants[2];
        Setting &set = settings[task];
        set.rate = (T)lr;
        set.beta1 = (T)group.constants[1];
        set.beta1_rest = (T)t7;
        set.unbias_mean = (T)t2;
        set.beta2 = (T)group.constants[2];
        set.beta2_rest = (T)t8;
        set.unbias = (T)t6;
        set.eps = (T)group.constants[3];
        set.weight_decay = (T)group.constants[4];
        set.sign = (T)group.sign;
        set.limit = (T)group.limit;
        *counts[task] = (float)step;
    }
}
