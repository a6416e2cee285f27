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
struct Setting { T lr, beta1, beta1_rest, unbias_fast, beta2, beta2_rest, unbias, beta3, beta3_rest, alpha, eps, decay, sign, limit; };

// The options of a group: `lr_at` or `wide_lr_at` is where its learning rate is, `lr` what it is where both are null.
struct Group { const float *lr_at; const double *wide_lr_at; double lr, sign, limit, constants[12]; };
struct Groups { Group at[16]; };

extern "C" __global__ void __launch_bounds__(256, 1) torchpace_ademamix_begin(
    unsigned int tasks, float *const *counts, const unsigned int *group_of, const __grid_constant__ Groups groups,
    Setting *settings, const float *found_inf, const Clip *clip)
{
    if (is_left_out(found_inf, clip)) return;
    for (unsigned int task = blockIdx.x * blockDim.x + threadIdx.x; task < tasks; task += gridDim.x * blockDim.x) {
        const Group &group = groups.at[group_of[task]];
        const double lr = group.lr_at ? (double)*group.lr_at : group.wide_lr_at ? *group.wide_lr_at : group.lr;
        const double step = (double)*counts[task] + 1.0;
        const double t0 = step / group.constants[5];
        const double t1 = t0 * group.constants[4];
        const double t2 = step < group.constants[5] ? t1 : group.constants[4];
        const double t3 = step / group.constants[8];
        const double t4 = group.constants[0] - t3;
        const double t5 = t4 * group.constants[6];
        const double t6 = t3 * group.constants[7];
        const double t7 = t5 + t6;
        const double t8 = t7 + group.constants[0];
        const double t9 = group.constants[0] / t8;
        const double t10 = pow(group.constants[9], t9);
        const double t11 = step < group.constants[8] ? t10 : group.constants[3];
        const double t12 = group.constants[0] - group.constants[1];
        const double t13 = pow(group.constants[1], step);
        const double t14 = group.constants[0] - t13;
        const double t15 = group.constants[0] / t14;
        const double t16 = group.constants[0] - group.constants[2];
        const double t17 = pow(group.constants[2], step);
        const double t18 = group.constants[0] - t17;
        const double t19 = sqrt(t18);
        const double t20 = group.constants[0] / t19;
        const double t21 = group.constants[0] - t11;
        const double t22 = lr * group.constants[11];
        const double t23 = group.constants[0] - t22;
        Setting &set = settings[task];
        set.lr = (T)lr;
        set.beta1 = (T)group.constants[1];
        set.beta1_rest = (T)t12;
        set.unbias_fast = (T)t15;
        set.beta2 = (T)group.constants[2];
        set.beta2_rest = (T)t16;
        set.unbias = (T)t20;
        set.beta3 = (T)t11;
        set.beta3_rest = (T)t21;
        set.alpha = (T)t2;
        set.eps = (T)group.constants[10];
        set.decay = (T)t23;
        set.sign = (T)group.sign;
        set.limit = (T)group.limit;
        *counts[task] = (float)step;
    }
}
