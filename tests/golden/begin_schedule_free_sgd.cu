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

// The larger; NaN if either is.
__device__ __forceinline__ double larger(double left, double right) { return left > right || left != left ? left : right; }

// What the parameters of a group share in a step.
struct Setting { T lr, share, y_rate, momentum, decay, sign, limit; };

// The options of a group: `lr_at` or `wide_lr_at` is where its learning rate is, `lr` what it is where both are null.
struct Group { const float *lr_at; const double *wide_lr_at; double lr, sign, limit, constants[9]; };
struct Groups { Group at[16]; };

extern "C" __global__ void __launch_bounds__(256, 1) torchpace_schedule_free_sgd_begin(
    unsigned int tasks, float *const *counts, double *const *weight_sums, double *const *lr_maxs, const unsigned int *group_of, const __grid_constant__ Groups groups,
    Setting *settings, const float *found_inf, const Clip *clip)
{
    if (is_left_out(found_inf, clip)) return;
    for (unsigned int task = blockIdx.x * blockDim.x + threadIdx.x; task < tasks; task += gridDim.x * blockDim.x) {
        const Group &group = groups.at[group_of[task]];
        const double lr = group.lr_at ? (double)*group.lr_at : group.wide_lr_at ? *group.wide_lr_at : group.lr;
        const double step = (double)*counts[task] + 1.0;
        const double weight_sum = (double)*weight_sums[task];
        const double lr_max = (double)*lr_maxs[task];
        const double t0 = group.constants[0] / step;
        const double t1 = larger(t0, group.constants[1]);
        const double t2 = lr / t1;
        const double t3 = pow(step, group.constants[3]);
        const double t4 = larger(lr_max, t2);
        const double t5 = pow(t4, group.constants[2]);
        const double t6 = t3 * t5;
        const double t7 = weight_sum + t6;
        const double t8 = t6 / t7;
        const double t9 = t7 == group.constants[6] ? group.constants[6] : t8;
        const double t10 = group.constants[7] - t9;
        const double t11 = group.constants[8] * t10;
        const double t12 = t11 - group.constants[7];
        const double t13 = t2 * t12;
        Setting &set = settings[task];
        set.lr = (T)t2;
        set.share = (T)t9;
        set.y_rate = (T)t13;
        set.momentum = (T)group.constants[4];
        set.decay = (T)group.constants[5];
        set.sign = (T)group.sign;
        set.limit = (T)group.limit;
        *counts[task] = (float)step;
        *weight_sums[task] = (double)t7;
        *lr_maxs[task] = (double)t4;
    }
}
