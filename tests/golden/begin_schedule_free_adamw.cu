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
struct Setting { T lr, share, y_rate, beta1, beta2, beta2_rest, unbias, eps, decay, sign, limit; };

// The options of a group: `lr_at` or `wide_lr_at` is where its learning rate is, `lr` what it is where both are null.
struct Group { const float *lr_at; const double *wide_lr_at; double lr, sign, limit, constants[12]; };
struct Groups { Group at[16]; };

extern "C" __global__ void __launch_bounds__(256, 1) torchpace_schedule_free_adamw_begin(
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
        const double t0 = group.constants[2] / step;
        const double t1 = larger(t0, group.constants[3]);
        const double t2 = lr / t1;
        const double t3 = pow(step, group.constants[5]);
        const double t4 = pow(group.constants[1], step);
        const double t5 = group.constants[0] - t4;
        const double t6 = sqrt(t5);
        const double t7 = group.constants[0] / t6;
        const double t8 = group.constants[0] - group.constants[1];
        const double t9 = larger(lr_max, t2);
        const double t10 = pow(t9, group.constants[4]);
        const double t11 = t3 * t10;
        const double t12 = weight_sum + t11;
        const double t13 = t11 / t12;
        const double t14 = t12 == group.constants[9] ? group.constants[9] : t13;
        const double t15 = group.constants[10] - t14;
        const double t16 = group.constants[11] * t15;
        const double t17 = t16 - group.constants[10];
        const double t18 = t2 * t17;
        Setting &set = settings[task];
        set.lr = (T)t2;
        set.share = (T)t14;
        set.y_rate = (T)t18;
        set.beta1 = (T)group.constants[6];
        set.beta2 = (T)group.constants[1];
        set.beta2_rest = (T)t8;
        set.unbias = (T)t7;
        set.eps = (T)group.constants[7];
        set.decay = (T)group.constants[8];
        set.sign = (T)group.sign;
        set.limit = (T)group.limit;
        *counts[task] = (float)step;
        *weight_sums[task] = (double)t12;
        *lr_maxs[task] = (double)t9;
    }
}
