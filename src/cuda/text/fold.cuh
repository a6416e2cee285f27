// The norm of all gradients from the sums of all chunks, in one block, and what comes of it: torch's factor, in which a
// NaN stays. Under `skip_nonfinite` a norm that is not finite leaves the step out. Whoever wants an error instead reads
// `clip->norm` on the host between this kernel and the next.
extern "C" __global__ void __launch_bounds__(THREADS, 1) torchpace_fold(
    const double *sums, unsigned int count, double max_norm, unsigned int skip_nonfinite, const float *grad_scale,
    Clip *clip, float *grad_norm)
{
    double sum = 0.0;
    for (unsigned int i = threadIdx.x; i < count; i += blockDim.x) sum += sums[i];
    sum = sum_of_block(sum);
    if (threadIdx.x == 0) {
        const float unscale = grad_scale ? 1.0f / *grad_scale : 1.0f;
        const double norm = sqrt(sum) * fabs((double)unscale);
        const double factor = max_norm / (norm + 1e-6);
        clip->norm = norm;
        clip->factor = factor > 1.0 ? 1.0 : factor;
        clip->skip = skip_nonfinite && !(norm - norm == 0.0);
        if (grad_norm) *grad_norm = (float)norm;
    }
}
