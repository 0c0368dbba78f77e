/* A CUDA device that computes nothing: driver, runtime, cuBLAS, cuRAND and the kernels that candle
 * links, in one library. Memory is the host's; kernels take the time that a
 * simple law gives them, behind the host's back as on a real device, and are counted.
 *
 * It shows what the host's part of the program does: opening, launching, waiting, events, memory
 * pools, refusals. It says nothing of any real device's speed.
 *
 *   FAKE_CUDA_LOG=FILE     a line for every copy to the host: launches since the last one, and
 *                          their names with counts
 *   FAKE_CUDA_DEVICES=N    devices there are (1)
 *   FAKE_CUDA_MEMORY=BYTES memory of a device (8 GiB)
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The law: seconds of a kernel = FIXED + bytes / BANDWIDTH + flop / PEAK. */
static const double FIXED = 2e-6, BANDWIDTH = 4e11, PEAK = 2e13;

typedef int Result;
enum { SUCCESS = 0, OUT_OF_MEMORY = 2, NOT_FOUND = 500, INVALID_DEVICE = 101 };

static double host_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

/* When the device will have done all that it was given. */
static double device_done;

static void wait_for_device(void) {
    while (host_now() < device_done) {
    }
}

static uint64_t setting(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

/* ---- counting ---- */

enum { MOST_NAMES = 512 };
static struct {
    char name[96];
    unsigned count;
} counted[MOST_NAMES];
static unsigned names, launches;

static void count(const char *name) {
    launches++;
    for (unsigned i = 0; i < names; i++) {
        if (strcmp(counted[i].name, name) == 0) {
            counted[i].count++;
            return;
        }
    }
    if (names < MOST_NAMES) {
        snprintf(counted[names].name, sizeof counted[names].name, "%s", name);
        counted[names++].count = 1;
    }
}

static void write_counts(void) {
    static FILE *file;
    const char *path = getenv("FAKE_CUDA_LOG");
    if (!path) return;
    if (!file) file = fopen(path, "a");
    if (!file) return;
    fprintf(file, "%u", launches);
    for (unsigned i = 0; i < names; i++)
        if (counted[i].count) fprintf(file, " %s:%u", counted[i].name, counted[i].count);
    fprintf(file, "\n");
    fflush(file);
    for (unsigned i = 0; i < names; i++) counted[i].count = 0;
    launches = 0;
}

static void launch(const char *name, double bytes, double flop) {
    count(name);
    double start = host_now();
    if (device_done > start) start = device_done;
    device_done = start + FIXED + bytes / BANDWIDTH + flop / PEAK;
}

/* ---- memory ---- */

static uint64_t used, highest;

/* The size stands before the block, which keeps its alignment. */
enum { HEAD = 256 };

static Result take(void **place, size_t bytes) {
    if (used + bytes > setting("FAKE_CUDA_MEMORY", 8ull << 30)) return OUT_OF_MEMORY;
    char *block = calloc(1, bytes + HEAD);
    if (!block) return OUT_OF_MEMORY;
    *(size_t *)block = bytes;
    *place = block + HEAD;
    used += bytes;
    if (used > highest) highest = used;
    return SUCCESS;
}

static Result give(void *place) {
    if (!place) return SUCCESS;
    char *block = (char *)place - HEAD;
    used -= *(size_t *)block;
    free(block);
    return SUCCESS;
}

/* ---- driver ---- */

Result cuInit(unsigned flags) { return SUCCESS; }
Result cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
Result cuDeviceGetCount(int *count) { return *count = setting("FAKE_CUDA_DEVICES", 1), SUCCESS; }
Result cuDeviceGet(int *device, int ordinal) {
    if (ordinal < 0 || (uint64_t)ordinal >= setting("FAKE_CUDA_DEVICES", 1)) return INVALID_DEVICE;
    *device = ordinal;
    return SUCCESS;
}
Result cuDeviceGetName(char *name, int length, int device) {
    snprintf(name, length, "Fake GPU");
    return SUCCESS;
}
Result cuDeviceGetUuid_v2(char *uuid, int device) { return memset(uuid, 7, 16), SUCCESS; }
Result cuDeviceTotalMem_v2(size_t *bytes, int device) {
    return *bytes = setting("FAKE_CUDA_MEMORY", 8ull << 30), SUCCESS;
}
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 10: *value = 32; break;                /* warp size */
    case 16: *value = 64; break;                /* multiprocessors */
    case 33: *value = 1; break;                 /* PCI bus */
    case 38: *value = 32 << 20; break;          /* L2 */
    case 75: *value = 9; break;                 /* compute capability */
    case 76: *value = 0; break;
    case 97: *value = 232448; break;            /* shared memory by request */
    case 115: *value = 1; break;                /* memory pools */
    default: *value = 0;
    }
    return SUCCESS;
}
Result cuDevicePrimaryCtxRetain(void **context, int device) { return *context = (void *)8, SUCCESS; }
Result cuCtxGetCurrent(void **context) { return *context = (void *)8, SUCCESS; }
Result cuGetErrorName(Result error, const char **name) {
    *name = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_UNKNOWN";
    return SUCCESS;
}
Result cuGetErrorString(Result error, const char **text) {
    *text = error == OUT_OF_MEMORY ? "out of memory" : "unknown error";
    return SUCCESS;
}

Result cuMemAlloc_v2(void **place, size_t bytes) { return take(place, bytes); }
Result cuMemAllocAsync(void **place, size_t bytes, void *stream) { return take(place, bytes); }
Result cuMemFree_v2(void *place) { return give(place); }
Result cuMemFreeAsync(void *place, void *stream) { return give(place); }
Result cuMemHostAlloc(void **place, size_t bytes, unsigned flags) {
    return *place = calloc(1, bytes), SUCCESS;
}
Result cuMemFreeHost(void *place) { return free(place), SUCCESS; }
Result cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    *total = setting("FAKE_CUDA_MEMORY", 8ull << 30);
    *free_bytes = *total - used;
    return SUCCESS;
}
Result cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t bytes, void *stream) {
    launch("copy_to_device", bytes, 0);
    return memcpy(to, from, bytes), SUCCESS;
}
/* Into pageable memory the driver waits, as a real one does. What arrives are ones: nothing was
 * computed, and of zeros no token can be drawn. */
Result cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t bytes, void *stream) {
    launch("copy_to_host", bytes, 0);
    wait_for_device();
    write_counts();
    for (size_t i = 0; i < bytes / sizeof(float); i++) ((float *)to)[i] = 1;
    return SUCCESS;
}
Result cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t bytes, void *stream) {
    launch("copy", 2.0 * bytes, 0);
    return SUCCESS;
}
Result cuMemsetD8Async(void *to, unsigned char value, size_t bytes, void *stream) {
    launch("memset", bytes, 0);
    return SUCCESS;
}

Result cuDeviceGetDefaultMemPool(void **pool, int device) { return *pool = (void *)9, SUCCESS; }
Result cuDeviceGetMemPool(void **pool, int device) { return *pool = (void *)9, SUCCESS; }
Result cuMemPoolGetAttribute(void *pool, int attribute, void *value) {
    *(uint64_t *)value = attribute == 7 ? used : attribute == 8 ? highest : 0;
    return SUCCESS;
}
Result cuMemPoolSetAttribute(void *pool, int attribute, void *value) {
    if (attribute == 8) highest = used;
    return SUCCESS;
}

Result cuModuleLoadData(void **module, const void *image) { return *module = (void *)10, SUCCESS; }
Result cuModuleGetFunction(void **function, void *module, const char *name) {
    return *function = strdup(name), SUCCESS;
}
Result cuLaunchKernel(const char *name, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                      unsigned by, unsigned bz, unsigned shared, void *stream, void **arguments,
                      void **extra) {
    /* One thread handles an f32 of input and one of output, or so. */
    launch(name, 8.0 * gx * gy * gz * bx * by * bz, 0);
    return SUCCESS;
}

Result cuStreamCreate(void **stream, unsigned flags) { return *stream = (void *)11, SUCCESS; }
Result cuStreamSynchronize(void *stream) { return wait_for_device(), SUCCESS; }
Result cuCtxSynchronize(void) { return wait_for_device(), SUCCESS; }
Result cuEventCreate(void **event, unsigned flags) {
    return *event = calloc(1, sizeof(double)), SUCCESS;
}
Result cuEventDestroy_v2(void *event) { return free(event), SUCCESS; }
Result cuEventRecord(void *event, void *stream) {
    double now = host_now();
    *(double *)event = device_done > now ? device_done : now;
    return SUCCESS;
}
Result cuEventSynchronize(void *event) { return wait_for_device(), SUCCESS; }
static Result elapsed(float *milliseconds, void *start, void *end) {
    *milliseconds = 1e3 * (*(double *)end - *(double *)start);
    return SUCCESS;
}
Result cuEventElapsedTime(float *ms, void *start, void *end) { return elapsed(ms, start, end); }
Result cuEventElapsedTime_v2(float *ms, void *start, void *end) { return elapsed(ms, start, end); }

/* ---- cuBLAS and cuRAND ---- */

Result cublasCreate_v2(void **handle) { return *handle = (void *)12, SUCCESS; }
Result cublasGemmStridedBatchedEx(void *h, int ta, int tb, int m, int n, int k, const void *alpha,
                                  const void *a, int at, int lda, long long sa, const void *b,
                                  int bt, int ldb, long long sb, const void *beta, void *c, int ct,
                                  int ldc, long long sc, int batch, int compute, int algorithm) {
    double bytes = 4.0 * batch * ((double)m * k + (double)n * k + (double)m * n);
    launch("gemm", bytes, 2.0 * m * n * k * batch);
    return SUCCESS;
}
Result cublasSgemmStridedBatched(void *h, int ta, int tb, int m, int n, int k, const void *alpha,
                                 const void *a, int lda, long long sa, const void *b, int ldb,
                                 long long sb, const void *beta, void *c, int ldc, long long sc,
                                 int batch) {
    return cublasGemmStridedBatchedEx(h, ta, tb, m, n, k, alpha, a, 0, lda, sa, b, 0, ldb, sb, beta,
                                      c, 0, ldc, sc, batch, 0, 0);
}
Result curandCreateGenerator(void **generator, int kind) { return *generator = (void *)13, SUCCESS; }

/* ---- the runtime, for a program whose kernels were compiled by nvcc ---- */

typedef struct {
    unsigned x, y, z;
} Grid;

static struct {
    const void *function;
    char name[96];
} registered[4096];
static unsigned registrations;
static struct {
    Grid grid, block;
    size_t shared;
    void *stream;
} call;

void **__cudaRegisterFatBinary(void *binary) { return (void **)&registrations; }
void __cudaRegisterFatBinaryEnd(void **handle) {}
void __cudaUnregisterFatBinary(void **handle) {}
void __cudaRegisterVar(void **handle, char *variable, char *address, const char *name, int external,
                       size_t size, int constant, int global) {}
void __cudaRegisterFunction(void **handle, const char *function, char *device_function,
                            const char *name, int limit, void *tid, void *bid, void *block,
                            void *grid, int *size) {
    if (registrations < sizeof registered / sizeof *registered) {
        registered[registrations].function = function;
        snprintf(registered[registrations++].name, sizeof registered->name, "%s", name);
    }
}
unsigned __cudaPushCallConfiguration(Grid grid, Grid block, size_t shared, void *stream) {
    call.grid = grid, call.block = block, call.shared = shared, call.stream = stream;
    return 0;
}
Result __cudaPopCallConfiguration(Grid *grid, Grid *block, size_t *shared, void **stream) {
    *grid = call.grid, *block = call.block, *shared = call.shared, *stream = call.stream;
    return SUCCESS;
}
Result __cudaGetKernel(const void **kernel, const void *function) {
    return *kernel = function, SUCCESS;
}
Result __cudaLaunchKernel_ptsz(const void *kernel, Grid grid, Grid block, void **arguments,
                               size_t shared, void *stream) {
    const char *name = "unknown";
    for (unsigned i = 0; i < registrations; i++)
        if (registered[i].function == kernel) name = registered[i].name;
    launch(name, 8.0 * grid.x * grid.y * grid.z * block.x * block.y * block.z, 0);
    return SUCCESS;
}
Result cudaGetDevice(int *device) { return *device = 0, SUCCESS; }
Result cudaGetDeviceCount(int *count) { return cuDeviceGetCount(count); }
Result cudaDeviceGetAttribute(int *value, int attribute, int device) {
    return cuDeviceGetAttribute(value, attribute, device);
}
Result cudaMalloc(void **place, size_t bytes) { return take(place, bytes); }
Result cudaMallocAsync_ptsz(void **place, size_t bytes, void *stream) { return take(place, bytes); }
Result cudaFree(void *place) { return give(place); }
Result cudaFreeAsync_ptsz(void *place, void *stream) { return give(place); }
Result cudaMemsetAsync_ptsz(void *place, int value, size_t bytes, void *stream) {
    return cuMemsetD8Async(place, value, bytes, stream);
}
Result cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *function,
                                                              int threads, size_t shared,
                                                              unsigned flags) {
    return *blocks = 2, SUCCESS;
}
Result cudaStreamSynchronize_ptsz(void *stream) { return wait_for_device(), SUCCESS; }

/* ---- the kernels that candle links (candle-kernels, src/ffi.rs), where they are not ---- */

#define QUANTIZED(type, bytes_per_weight)                                                          \
    static void vector_##type(double weights, int rows) {                                          \
        launch("mmvq_" #type, bytes_per_weight * weights, 2.0 * weights * rows);                   \
    }                                                                                              \
    void launch_mmvq_gguf_##type##_f32_plain(void *x, void *y, void *to, int columns, int rows,    \
                                             int sy, int st, int batch, void *stream) {            \
        vector_##type((double)columns * rows, batch);                                              \
    }                                                                                              \
    void launch_mmvq_gguf_##type##_f16_plain(void *x, void *y, void *to, int columns, int rows,    \
                                             int sy, int st, int batch, void *stream) {            \
        vector_##type((double)columns * rows, batch);                                              \
    }                                                                                              \
    void launch_mmvq_gguf_##type##_bf16_plain(void *x, void *y, void *to, int columns, int rows,   \
                                              int sy, int st, int batch, void *stream) {           \
        vector_##type((double)columns * rows, batch);                                              \
    }                                                                                              \
    void launch_mmq_gguf_##type(void *fixup, void *x, void *y, void *to, int64_t columns,          \
                                int64_t rows, int64_t y_columns, int64_t sx, int64_t st, int cc,   \
                                int units, int64_t shared, int warp, void *stream) {               \
        launch("mmq_" #type, bytes_per_weight * columns * rows,                                    \
               2.0 * columns * rows * y_columns);                                                  \
        launch("mmq_fixup", 8.0 * rows * y_columns, 0);                                            \
    }

QUANTIZED(q4_0, 18 / 32.0)
QUANTIZED(q4_1, 20 / 32.0)
QUANTIZED(q5_0, 22 / 32.0)
QUANTIZED(q5_1, 24 / 32.0)
QUANTIZED(q8_0, 34 / 32.0)
QUANTIZED(q2_k, 84 / 256.0)
QUANTIZED(q3_k, 110 / 256.0)
QUANTIZED(q4_k, 144 / 256.0)
QUANTIZED(q5_k, 176 / 256.0)
QUANTIZED(q6_k, 210 / 256.0)

#define QUANTIZE_ROWS(type)                                                                        \
    void launch_mmvq_gguf_quantize_q8_1_##type(void *x, void *y, int k, int padded, int rows,      \
                                               void *stream) {                                     \
        launch("quantize_rows", 5.0 * k * rows, 0);                                                \
    }
QUANTIZE_ROWS(f32)
QUANTIZE_ROWS(f16)
QUANTIZE_ROWS(bf16)

#define QUANTIZE_TILES(layout)                                                                     \
    void launch_mmq_quantize_q8_1_##layout(void *x, void *ids, void *y, int type, int64_t columns, \
                                           int64_t s1, int64_t s2, int64_t s3, int64_t n0,         \
                                           int64_t n1, int64_t n2, int64_t n3, void *stream) {     \
        launch("quantize_tiles", 5.0 * columns * n1, 0);                                           \
    }
QUANTIZE_TILES(D4)
QUANTIZE_TILES(DS4)
QUANTIZE_TILES(D2S6)
