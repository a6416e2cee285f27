// A driver of CUDA without a GPU: it writes down each call with its arguments, and fails the one that it is told to.

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define HANDLE(number) ((void *)(size_t)(number))
#define NUMBER(handle) ((unsigned long)(size_t)(handle))

static char calls[1 << 14];
static size_t length;
static char failing[64];
static int failing_code, capture_status;
// That of a thread which a test is in is CU_STREAM_CAPTURE_MODE_THREAD_LOCAL.
static int mode = 1;

// What was called since the last time, a call a line.
const char *fake_calls(void)
{
    static char said[sizeof calls];
    memcpy(said, calls, sizeof calls);
    calls[0] = 0;
    length = 0;
    return said;
}

void fake_fail(const char *call, int code)
{
    snprintf(failing, sizeof failing, "%s", call);
    failing_code = code;
}

void fake_capture(int status)
{
    capture_status = status;
}

static int called(const char *call, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    length += snprintf(calls + length, sizeof calls - length, "%s(", call);
    length += vsnprintf(calls + length, sizeof calls - length, format, arguments);
    length += snprintf(calls + length, sizeof calls - length, ")\n");
    va_end(arguments);
    return strcmp(call, failing) ? 0 : failing_code;
}

int cuInit(unsigned int flags)
{
    return called("cuInit", "%u", flags);
}

int cuDeviceGet(int *device, int ordinal)
{
    *device = 100 + ordinal;
    return called("cuDeviceGet", "%d", ordinal);
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    *value = attribute == 75 ? 12 : attribute == 76 ? 1 : attribute == 16 ? 132 : -1;
    return called("cuDeviceGetAttribute", "%d, %d", attribute, device);
}

int cuDevicePrimaryCtxRetain(void **context, int device)
{
    *context = HANDLE(11);
    return called("cuDevicePrimaryCtxRetain", "%d", device);
}

int cuCtxPushCurrent_v2(void *context)
{
    return called("cuCtxPushCurrent", "%lu", NUMBER(context));
}

int cuCtxPopCurrent_v2(void **context)
{
    *context = HANDLE(11);
    return called("cuCtxPopCurrent", "");
}

int cuModuleLoadData(void **module, const void *image)
{
    *module = HANDLE(22);
    return called("cuModuleLoadData", "%s", (const char *)image);
}

int cuModuleGetFunction(void **function, void *module, const char *name)
{
    *function = HANDLE(33);
    return called("cuModuleGetFunction", "%lu, %s", NUMBER(module), name);
}

int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *function, int block, size_t shared)
{
    *blocks = 5;
    return called("cuOccupancyMaxActiveBlocksPerMultiprocessor", "%lu, %d, %zu", NUMBER(function), block, shared);
}

int cuThreadExchangeStreamCaptureMode(int *exchanged)
{
    int before = mode;
    mode = *exchanged;
    *exchanged = before;
    return called("cuThreadExchangeStreamCaptureMode", "%d", mode);
}

// Of a kernel of two arguments, `unsigned int` and `double`.
int cuLaunchKernel(void *function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x,
                   unsigned int block_y, unsigned int block_z, unsigned int shared, void *stream, void **arguments,
                   void **extra)
{
    return called("cuLaunchKernel", "%lu, %u %u %u, %u %u %u, %u, %lu, %u %g, %lu", NUMBER(function), grid_x, grid_y,
                  grid_z, block_x, block_y, block_z, shared, NUMBER(stream), *(unsigned int *)arguments[0],
                  *(double *)arguments[1], NUMBER(extra));
}

int cuMemcpyDtoHAsync_v2(void *to, unsigned long long from, size_t count, void *stream)
{
    memset(to, 7, count);
    return called("cuMemcpyDtoHAsync", "%llu, %zu, %lu", from, count, NUMBER(stream));
}

int cuStreamSynchronize(void *stream)
{
    return called("cuStreamSynchronize", "%lu", NUMBER(stream));
}

#ifndef WITHOUT_IS_CAPTURING
int cuStreamIsCapturing(void *stream, int *status)
{
    *status = capture_status;
    return called("cuStreamIsCapturing", "%lu", NUMBER(stream));
}
#endif

// It knows two errors, and has no words for the second.
int cuGetErrorName(int code, const char **text)
{
    *text = code == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : code == 999 ? "CUDA_ERROR_UNKNOWN" : NULL;
    return *text ? 0 : 1;
}

int cuGetErrorString(int code, const char **text)
{
    *text = code == 700 ? "an illegal memory access was encountered" : NULL;
    return *text ? 0 : 1;
}
