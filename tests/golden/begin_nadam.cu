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
struct Setting { T lr, beta1, beta1_rest, beta2, beta2_rest, unbias, eps, decay, grad_share, mean_share, sign, limit; };

// The options of a group: `lr_at` or `wide_lr_at` is where its learning rate is, `lr` what it is where both are null.
struct Group { const float *lr_at; const double *wide_lr_at; double lr, sign, limit, constants[13]; };
struct Groups { Group at[16]; };

extern "C" __global__ void __launch_bounds__(256, 1) torchpace_nadam_begin(
    unsigned int tasks, float *const *counts, float *const *mu_products, const unsigned int *group_of, const __grid_constant__ Groups groups,
    Setting *settings, const float *found_inf, const Clip *clip)
{
    if (is_left_out(found_inf, clip)) return;
    for (unsigned int task = blockIdx.x * blockDim.x + threadIdx.x; task < tasks; task += gridDim.x * blockDim.x) {
        const Group &group = groups.at[group_of[task]];
        const double lr = group.lr_at ? (double)*group.lr_at : group.wide_lr_at ? *group.wide_lr_at : group.lr;
        const double step = (double)*counts[task] + 1.0;
        const double mu_product = (double)*mu_products[task];
        const double t0 = pow(group.constants[2], step);
        const double t1 = group.constants[0] - t0;
        const double t2 = sqrt(t1);
        const double t3 = group.constants[0] / t2;
        const double t4 = step * group.constants[4];
        const double t5 = pow(group.constants[6], t4);
        const double t6 = group.constants[5] * t5;
        const double t7 = group.constants[0] - t6;
        const double t8 = group.constants[1] * t7;
        const double t9 = step + group.constants[0];
        const double t10 = t9 * group.constants[4];
        const double t11 = pow(group.constants[8], t10);
        const double t12 = group.constants[7] * t11;
        const double t13 = group.constants[0] - t12;
        const double t14 = group.constants[1] * t13;
        const double t15 = group.constants[0] - group.constants[1];
        const double t16 = group.constants[0] - group.constants[2];
        const double t17 = t8 * group.constants[11];
        const double t18 = t17 - t8;
        const double t19 = t17 - t18;
        const double t20 = mu_product * t19;
        const double t21 = t20 * group.constants[12];
        const double t22 = t21 - t20;
        const double t23 = t21 - t22;
        const double t24 = group.constants[10] - t8;
        const double t25 = group.constants[10] - t23;
        const double t26 = t24 / t25;
        const double t27 = t23 * t14;
        const double t28 = group.constants[10] - t27;
        const double t29 = t14 / t28;
        Setting &set = settings[task];
        set.lr = (T)lr;
        set.beta1 = (T)group.constants[1];
        set.beta1_rest = (T)t15;
        set.beta2 = (T)group.constants[2];
        set.beta2_rest = (T)t16;
        set.unbias = (T)t3;
        set.eps = (T)group.constants[9];
        set.decay = (T)group.constants[3];
        set.grad_share = (T)t26;
        set.mean_share = (T)t29;
        set.sign = (T)group.sign;
        set.limit = (T)group.limit;
        *counts[task] = (float)step;
        *mu_products[task] = (float)t23;
    }
}
