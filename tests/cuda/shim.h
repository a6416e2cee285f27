// CUDA C++ as a host compiler takes it: the threads of a launch one after the other, or at once where they wait for
// each other.
#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <memory>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__ static

struct Index { unsigned int x; };
static thread_local Index threadIdx;
static Index blockIdx, blockDim, gridDim;
static std::unique_ptr<std::barrier<>> together;

static void __syncthreads() { together->arrive_and_wait(); }

// What the compiler is told of pointers, which no host needs to know.
#define __builtin_assume(what)

using std::min;

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
    const int exponent = std::max(magnitude > 0.0f ? std::ilogb(magnitude) : -14, -14);
    const int units = (int)std::nearbyint(std::ldexp(magnitude, 10 - exponent));
    return (unsigned short)(sign | (units + ((exponent + 14) << 10)));
}

template <typename... A, std::size_t... K>
static void run(void (*kernel)(A...), unsigned int grid, unsigned int block, bool lockstep, void **arguments,
                std::index_sequence<K...>)
{
    const auto thread = [&](unsigned int index) {
        threadIdx.x = index;
        kernel(*static_cast<std::remove_cv_t<std::remove_reference_t<A>> *>(arguments[K])...);
    };
    gridDim.x = grid;
    blockDim.x = block;
    for (blockIdx.x = 0; blockIdx.x < grid; blockIdx.x++) {
        if (lockstep) {
            together = std::make_unique<std::barrier<>>(block);
            std::vector<std::thread> threads;
            for (unsigned int index = 0; index < block; index++) threads.emplace_back(thread, index);
            for (auto &each : threads) each.join();
        } else {
            for (unsigned int index = 0; index < block; index++) thread(index);
        }
    }
}

template <typename... A>
static void run(void (*kernel)(A...), unsigned int grid, unsigned int block, bool lockstep, void **arguments)
{
    run(kernel, grid, block, lockstep, arguments, std::index_sequence_for<A...>{});
}

// The sizes of a kernel's arguments; how many there are.
template <typename... A> static unsigned int list_sizes(void (*)(A...), std::size_t *to)
{
    const std::size_t all[] = {sizeof(A)...};
    std::copy(std::begin(all), std::end(all), to);
    return sizeof...(A);
}
