// As many of the `N` elements as there are, 16 bytes at a time if they are `whole`: all there, and aligned.
template <typename E> struct alignas(16) Pack { E at[16 / sizeof(E)]; };

template <typename E> __device__ __forceinline__ bool is_aligned(const E *at) { return (size_t)at % 16 == 0; }

template <typename E> __device__ __forceinline__ void load(const E *from, bool whole, int count, T (&to)[N])
{
    constexpr int each = 16 / sizeof(E);
    if (whole) {
        #pragma unroll
        for (int k = 0; k < N; k += each) {
            const Pack<E> pack = *reinterpret_cast<const Pack<E> *>(from + k);
            #pragma unroll
            for (int j = 0; j < each; j++) to[k + j] = widen(pack.at[j]);
        }
    } else {
        #pragma unroll
        for (int k = 0; k < N; k++) to[k] = k < count ? (T)widen(from[k]) : (T)0;
    }
}

template <typename E> __device__ __forceinline__ void store(E *to, bool whole, int count, const T (&from)[N])
{
    constexpr int each = 16 / sizeof(E);
    if (whole) {
        #pragma unroll
        for (int k = 0; k < N; k += each) {
            Pack<E> pack;
            #pragma unroll
            for (int j = 0; j < each; j++) narrow(from[k + j], pack.at[j]);
            *reinterpret_cast<Pack<E> *>(to + k) = pack;
        }
    } else {
        #pragma unroll
        for (int k = 0; k < N; k++) {
            if (k < count) narrow(from[k], to[k]);
        }
    }
}
