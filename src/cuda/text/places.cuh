// The way through the tensors of a task that are laid out unlike each other or with gaps, in bytes. Elements are counted
// in 32 bits, in which dividing takes neither a call nor memory.
struct Dim { unsigned int count; long long strides[TENSORS]; };
struct Layout { unsigned int dims; Dim at[8]; };

// Where an element is in each of the tensors, from its first one.
__device__ __forceinline__ void find(const Layout &layout, unsigned int element, long long (&at)[TENSORS])
{
    #pragma unroll
    for (int k = 0; k < TENSORS; k++) at[k] = 0;
    for (int d = (int)layout.dims - 1; d >= 0; d--) {
        const Dim &dim = layout.at[d];
        const long long index = element % dim.count;
        element /= dim.count;
        #pragma unroll
        for (int k = 0; k < TENSORS; k++) at[k] += index * dim.strides[k];
    }
}

template <typename E> __device__ __forceinline__ E *after(E *base, long long bytes)
{
    return reinterpret_cast<E *>((size_t)base + (size_t)bytes);
}
