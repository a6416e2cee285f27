// CUDA C++ as a host compiler takes it: a thread of a launch at a time, or at once where they wait for each other. A
// kernel is compiled by itself, so what is included here is nearly all that the compiler has to do.
#include <cmath>
#include <cstddef>
#include <cstring>
#include <utility>

#define __device__
#define __global__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__ static

struct Index { unsigned int x; };
static thread_local Index threadIdx, blockIdx, blockDim, gridDim;

// A thread of a launch: which one, and how it waits for the others of its block.
struct Place { unsigned int grid, block, block_index, thread_index; void (*wait)(const void *); const void *waited_for; };
static thread_local const Place *place;

static void __syncthreads() { place->wait(place->waited_for); }

// What the compiler is told of pointers, which no host needs to know.
#define __builtin_assume(what)

template <typename T> static T min(T a, T b) { return b < a ? b : a; }

static float __uint_as_float(unsigned int bits)
{
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

static unsigned int __float_as_uint(float value)
{
    unsigned int bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

static float host_f16_to_float(unsigned short bits)
{
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const float magnitude = exponent == 31 ? (mantissa ? NAN : INFINITY)
        : exponent == 0 ? std::ldexp((float)mantissa, -24)
                        : std::ldexp((float)(1024 + mantissa), exponent - 25);
    return bits & 0x8000 ? -magnitude : magnitude;
}

static unsigned short host_float_to_f16(float value)
{
    const unsigned short sign = std::signbit(value) ? 0x8000 : 0;
    const float magnitude = std::fabs(value);
    if (std::isnan(value)) return sign | 0x7e00;
    if (magnitude >= 65520.0f) return sign | 0x7c00;
    // In units of the last place; the mode of rounding is to nearest, ties to even. A carry goes to the exponent.
    const int least = -14, found = magnitude > 0.0f ? std::ilogb(magnitude) : least;
    const int exponent = found < least ? least : found;
    const int units = (int)std::nearbyint(std::ldexp(magnitude, 10 - exponent));
    return (unsigned short)(sign | (units + ((exponent + 14) << 10)));
}

template <typename... A, std::size_t... K>
static void run(void (*kernel)(A...), void **arguments, std::index_sequence<K...>)
{
    kernel(*static_cast<typename std::remove_reference<A>::type *>(arguments[K])...);
}

template <typename... A> static void run(void (*kernel)(A...), const Place &here, void **arguments)
{
    place = &here;
    gridDim.x = here.grid;
    blockDim.x = here.block;
    blockIdx.x = here.block_index;
    threadIdx.x = here.thread_index;
    run(kernel, arguments, std::index_sequence_for<A...>{});
}

// The sizes of a kernel's arguments; how many there are.
template <typename... A> static unsigned int list_sizes(void (*)(A...), std::size_t *to)
{
    for (const std::size_t size : {sizeof(A)...}) *to++ = size;
    return sizeof...(A);
}
