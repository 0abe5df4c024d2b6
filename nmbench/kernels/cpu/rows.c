// Products with an N:M weight on a CPU, "rows in lanes": a lane of a vector is one row of the product (a pixel), every
// kept weight is broadcast and multiplied with T vectors of one input. For many rows: nothing is permuted, so that all
// but the loads is arithmetic; in return the inputs of T * L rows are transposed first, a stretch of them at a time,
// into a panel that stays in the first-level cache. One object for every pattern: N and M are arguments.
//
// Packed, for each group and stretch of inputs (within a tap), for each SIDE outputs: their kept weights side by side,
// then the place of each within the stretch, a byte. Entries that a group does not use have the value zero and its first
// input. M is at most 64 (nmbench.sparsity.NMPattern).
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if !defined(NM_PORTABLE) && defined(__AVX2__)
#include <immintrin.h>
#endif
#if !defined(__AVX2__) || defined(NM_PORTABLE)
#define NM_PLAIN 1
#endif
#if defined(__AVX512F__) && !defined(NM_PLAIN)
#define L 16
#else
#define L 8
#endif
// outputs at once, vectors of rows: they fill the registers. The more rows, the fewer loads a multiplication; the longer
// the stretch, the more seldom sums are put away, which counts where little is kept. 32 KiB of inputs at most.
#if L == 16
enum { SIDE = 3, MOST = 7, MOST_OF_FEW = 5 };
#elif defined(NM_PLAIN)
enum { SIDE = 2, MOST = 4, MOST_OF_FEW = 4 };
#else
enum { SIDE = 2, MOST = 7, MOST_OF_FEW = 7 };
#endif
#define INLINE static inline __attribute__((always_inline))
#if defined(NM_PLAIN)
#define UNROLL
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif
typedef float vf __attribute__((vector_size(4 * L), aligned(4), may_alias));
typedef uint32_t vu __attribute__((vector_size(4 * L), aligned(4), may_alias));
enum { WIDTH = L == 16 ? 16 : 8, STRETCH = 96, SHORT = L == 16 ? 64 : STRETCH };  // inputs; SHORT where half of the weights is kept, or more
INLINE vf splat(float value) { return value - (vf){0}; }

// the struct of lanes.c, and the pattern
struct layer {
    const void *x, *w, *addend;
    const float *bias;
    void *y;
    long images, height, width, channels, outputs, groups, out_height, out_width;
    long kernel[2], stride[2], padding[2], dilation[2];
    int form, rows, blocks, relu, threads, n, m;
};
static int is_full(long n, long m) { return 2 * n >= m; }
static long stretch_of(long n, long m) { return (is_full(n, m) ? SHORT : STRETCH) / m * m; }
static long least(long a, long b) { return a < b ? a : b; }
static long groups_in(long inputs, long m) { return (inputs + m - 1) / m; }
static long sides(long outputs) { return (outputs + SIDE - 1) / SIDE; }
// bytes of SIDE outputs with `kept` weights each
static size_t block_bytes(long kept) { return (size_t)(kept * SIDE) * 4 + (size_t)(kept * SIDE + 3) / 4 * 4; }
// of a tap of a group of outputs
static size_t tap_bytes(long outputs, long inputs, long n, long m) {
    size_t all = 0;
    for (long from = 0; from < inputs; from += stretch_of(n, m))
        all += (size_t)sides(outputs) * block_bytes(groups_in(least(stretch_of(n, m), inputs - from), m) * n);
    return all;
}

// ---- SIDE outputs x T vectors of rows, over one stretch of inputs ------------------------------------------------
// part: for each output T vectors, the sums so far; `first`: they begin at the bias. soon: memory that is written, and
// read, behind all outputs: it comes into the cache meanwhile
struct soon { char *written; const char *read; long bytes; };
INLINE void stretch(int T, const float *panel, const char *w, long count, long outputs, const float *bias, int first, float *part, struct soon soon) {
    const long share = (soon.bytes / sides(outputs) + 63) / 64 * 64;
    long fetched = 0;
    for (long o = 0; o < outputs; o += SIDE, part += SIDE * T * L, w += block_bytes(count)) {
        const float *const values = (const float *)w;
        const uint8_t *const places = (const uint8_t *)(values + count * SIDE);
        vf sum[SIDE][MOST];
        UNROLL for (int u = 0; u < SIDE; u++) UNROLL for (int t = 0; t < T; t++)
            sum[u][t] = first ? splat(bias && o + u < outputs ? bias[o + u] : 0) : *(const vf *)(part + (u * T + t) * L);
        for (long ahead = 0; ahead < (long)block_bytes(count); ahead += 64) __builtin_prefetch(w + block_bytes(count) + ahead);
        for (const long end = least(fetched + share, soon.bytes); fetched < end; fetched += 64) {
            __builtin_prefetch(soon.written + fetched, 1);
            if (soon.read) __builtin_prefetch(soon.read + fetched);
        }
        for (long e = 0; e < count * SIDE; e += SIDE)
            UNROLL for (int u = 0; u < SIDE; u++) {
                const float *x = panel + (size_t)places[e + u] * (size_t)(T * L);
                const vf v = splat(values[e + u]);
                UNROLL for (int t = 0; t < T; t++) sum[u][t] += v * *(const vf *)(x + t * L);
            }
        UNROLL for (int u = 0; u < SIDE; u++) UNROLL for (int t = 0; t < T; t++) *(vf *)(part + (u * T + t) * L) = sum[u][t];
    }
}
typedef void (*stretch_fn)(const float *, const char *, long, long, const float *, int, float *, struct soon);
#define STRETCHES(T) static __attribute__((noinline)) void s_##T(const float *panel, const char *w, long count, long outputs, \
    const float *bias, int first, float *part, struct soon soon) { stretch(T, panel, w, count, outputs, bias, first, part, soon); }
STRETCHES(1) STRETCHES(2) STRETCHES(3) STRETCHES(4)
#if !defined(NM_PLAIN)
STRETCHES(5) STRETCHES(6) STRETCHES(7)
static const stretch_fn stretches[MOST + 1] = {0, s_1, s_2, s_3, s_4, s_5, s_6, s_7};
#else
static const stretch_fn stretches[MOST + 1] = {0, s_1, s_2, s_3, s_4};
#endif

// ---- transposed, WIDTH x WIDTH numbers at a time ----------------------------------------------------------------
// transpose_in: inputs `from` to `to` of the rows whose pointers are given, T * L of them: panel[input][row]
// transpose_out: the sums of `count` rows and all outputs of a group, to y; with an addend and ReLU. apart: from row to
// row there
#if L == 16 && !defined(NM_PLAIN)
INLINE void transposed(__m512 r[16]) {
    __m512 a[16], b[16];
    UNROLL for (int i = 0; i < 16; i += 2) { a[i] = _mm512_unpacklo_ps(r[i], r[i + 1]); a[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]); }
    UNROLL for (int i = 0; i < 16; i++) {
        const __m512d low = (__m512d)a[i / 4 * 4 + i % 4 / 2], high = (__m512d)a[i / 4 * 4 + i % 4 / 2 + 2];
        b[i] = (__m512)(i % 2 ? _mm512_unpackhi_pd(low, high) : _mm512_unpacklo_pd(low, high));
    }
    UNROLL for (int j = 0; j < 4; j++) {  // quarter q of b[4 * k + j] is quarter k of r[4 * q + j]
        const __m512 even = _mm512_shuffle_f32x4(b[j], b[4 + j], 0x88), odd = _mm512_shuffle_f32x4(b[j], b[4 + j], 0xdd);
        const __m512 more = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0x88), rest = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0xdd);
        r[j] = _mm512_shuffle_f32x4(even, more, 0x88);
        r[4 + j] = _mm512_shuffle_f32x4(odd, rest, 0x88);
        r[8 + j] = _mm512_shuffle_f32x4(even, more, 0xdd);
        r[12 + j] = _mm512_shuffle_f32x4(odd, rest, 0xdd);
    }
}
INLINE __mmask16 first(long count) { return (__mmask16)(count >= 16 ? 0xffff : (1 << count) - 1); }
static void transpose_in(const float *const *rows, long from, long to, int T, float *panel) {
    for (int g = 0; g < T * L; g += WIDTH) for (long c = from; c < to; c += WIDTH) {
        __m512 r[16];
        float *at = panel + (c - from) * T * L + g;
        UNROLL for (int i = 0; i < 16; i++) r[i] = _mm512_maskz_loadu_ps(first(to - c), rows[g + i] + c);
        transposed(r);
        UNROLL for (int i = 0; i < 16; i++) if (i < to - c) _mm512_store_ps(at + i * T * L, r[i]);
    }
}
static void transpose_out(const float *part, int T, long count, long outputs, const float *addend, int relu, float *y, long apart) {
    for (long g = 0; g < count; g += WIDTH) for (long o = 0; o < outputs; o += WIDTH) {
        __m512 r[16];
        const __mmask16 some = first(outputs - o);
        UNROLL for (int i = 0; i < 16; i++) r[i] = _mm512_load_ps(part + (o + i) * T * L + g);
        transposed(r);
        UNROLL for (int i = 0; i < 16; i++) if (i < count - g) {
            const long at = (g + i) * apart + o;
            vf v = (vf)r[i];
            if (addend) v += (vf)_mm512_maskz_loadu_ps(some, addend + at);
            if (relu) v = (vf)((vu)v & ~(vu)(v < 0));  // NaN stays NaN, as in torch
            _mm512_mask_storeu_ps(y + at, some, (__m512)v);
        }
    }
}
#else
typedef uint32_t u8 __attribute__((vector_size(32), aligned(4), may_alias));
#if defined(NM_PLAIN)
typedef float v8 __attribute__((vector_size(32), aligned(4), may_alias));
INLINE v8 pair(const float *a, const float *b) {
    v8 v;
    memcpy(&v, a, 16);
    memcpy((char *)&v + 16, b, 16);
    return v;
}
INLINE void transposed(v8 r[4]) {
    for (int h = 0; h < 8; h += 4) for (int i = 0; i < 4; i++) for (int j = 0; j < i; j++) {
        float a = r[i][h + j];
        r[i][h + j] = r[j][h + i];
        r[j][h + i] = a;
    }
}
#else
typedef __m256 v8;
INLINE v8 pair(const float *a, const float *b) { return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(a)), _mm_loadu_ps(b), 1); }
// both halves, 4 x 4 each
INLINE void transposed(v8 r[4]) {
    const v8 a = _mm256_unpacklo_ps(r[0], r[1]), b = _mm256_unpackhi_ps(r[0], r[1]), c = _mm256_unpacklo_ps(r[2], r[3]), d = _mm256_unpackhi_ps(r[2], r[3]);
    r[0] = _mm256_shuffle_ps(a, c, 0x44);
    r[1] = _mm256_shuffle_ps(a, c, 0xee);
    r[2] = _mm256_shuffle_ps(b, d, 0x44);
    r[3] = _mm256_shuffle_ps(b, d, 0xee);
}
#endif
INLINE const float *whole(const float *from, long count, float some[4]) {
    if (count >= 4) return from;
    memset(some, 0, 16);
    if (count > 0) memcpy(some, from, (size_t)count * sizeof(float));
    return some;
}
static void transpose_in(const float *const *rows, long from, long to, int T, float *panel) {
    for (int g = 0; g < T * L; g += WIDTH) for (long c = from; c < to; c += 4) {
        v8 r[4];
        float *at = panel + (c - from) * T * L + g;
        if (__builtin_expect(to - c < 4, 0)) {
            float low[4], high[4];
            for (int i = 0; i < 4; i++) r[i] = pair(whole(rows[g + i] + c, to - c, low), whole(rows[g + i + 4] + c, to - c, high));
        } else UNROLL for (int i = 0; i < 4; i++) r[i] = pair(rows[g + i] + c, rows[g + i + 4] + c);
        transposed(r);
        UNROLL for (int i = 0; i < 4; i++) memcpy(at + i * T * L, &r[i], sizeof r[i]);
    }
}
INLINE v8 read8(const float *from, long count) {
    v8 v = {0};
    if (count >= WIDTH) memcpy(&v, from, sizeof v);
    else memcpy(&v, from, (size_t)count * sizeof(float));
    return v;
}
static void transpose_out(const float *part, int T, long count, long outputs, const float *addend, int relu, float *y, long apart) {
    for (long g = 0; g < count; g += 4) for (long o = 0; o < outputs; o += WIDTH) {
        v8 r[4];
        const long wide = least(WIDTH, outputs - o), behind = T * L;
        const float *from = part + o * behind + g;
        UNROLL for (int i = 0; i < 4; i++) r[i] = pair(from + least(i, wide - 1) * behind, from + least(i + 4, wide - 1) * behind);
        transposed(r);
        for (long i = 0; i < least(4, count - g); i++) {
            const long at = (g + i) * apart + o;
            v8 v = r[i];
            if (addend) v += read8(addend + at, wide);
            if (relu) v = (v8)((u8)v & ~(u8)(v < 0));  // NaN stays NaN, as in torch
            if (wide == WIDTH) memcpy(y + at, &v, sizeof v);
            else memcpy(y + at, &v, (size_t)wide * sizeof(float));
        }
    }
}
#endif

// ---- a whole layer ----------------------------------------------------------------------------------------------
int nm_lanes(void) { return L; }
int nm_portable(void) {
#ifdef NM_PLAIN
    return 1;
#else
    return 0;
#endif
}
size_t nm_bytes(long n, long m, long outputs, long groups, long taps, long inputs) {
    return (size_t)(groups * taps) * tap_bytes(outputs / groups, inputs, n, m);
}
// where the rows of a tile lie: the place that the kernel's first tap meets, and the image's inputs
struct spot { const float *image; long y, x; };
static void locate(const struct layer *a, long first, long count, long group, struct spot *spots) {
    const long area = a->out_height * a->out_width, total = a->images * area;
    long image = first / area, y = first % area / a->out_width, x = first % area % a->out_width;
    for (long r = 0; r < count; r++) {
        const int there = first + r < total;
        spots[r].image = there ? (const float *)a->x + image * a->height * a->width * a->channels + group * (a->channels / a->groups) : 0;
        spots[r].y = y * a->stride[0] - a->padding[0];
        spots[r].x = x * a->stride[1] - a->padding[1];
        if (++x == a->out_width) { x = 0; if (++y == a->out_height) { y = 0; image++; } }
    }
}
// where they begin at tap (i, j); what lies outside the image or behind the last row reads `zeros`
static void point(const struct layer *a, const struct spot *spots, long count, long i, long j, const float *zeros, const float **rows) {
    for (long r = 0; r < count; r++) {
        const long y = spots[r].y + i * a->dilation[0], x = spots[r].x + j * a->dilation[1];
        const int inside = spots[r].image && y >= 0 && y < a->height && x >= 0 && x < a->width;
        rows[r] = inside ? spots[r].image + (y * a->width + x) * a->channels : zeros;
    }
}
// rows `first` to `last` of a group, T vectors at most; outputs `low` on, `count` of them, low a multiple of SIDE
static void tile(const struct layer *a, long group, long first, long last, long low, long count, const float *zeros, float *panel, float *part) {
    const long per = a->channels / a->groups, outputs = a->outputs / a->groups, taps = a->kernel[0] * a->kernel[1];
    const int T = (int)((last - first + L - 1) / L);
    const long most = stretch_of(a->n, a->m);
    const float *rows[MOST * L];
    struct spot spots[MOST * L];
    int begun = 0;
    const long at = first * a->outputs + group * outputs + low;
    float *const y = (float *)a->y + at;
    const float *const addend = a->addend ? (const float *)a->addend + at : 0;
    // in one piece where the tile has all outputs
    const struct soon soon = {(char *)y, (const char *)addend, count == a->outputs ? (last - first) * count * 4 : 0}, nothing = {0};
    locate(a, first, T * L, group, spots);
    for (long t = 0; t < taps; t++) {
        const char *w = (const char *)a->w + (size_t)(group * taps + t) * tap_bytes(outputs, per, a->n, a->m);
        point(a, spots, T * L, t / a->kernel[1], t % a->kernel[1], zeros, rows);
        for (long from = 0; from < per; from += most) {
            const long to = least(per, from + most), kept = groups_in(to - from, a->m) * a->n;
            transpose_in(rows, from, to, T, panel);
            stretches[T](panel, w + (size_t)(low / SIDE) * block_bytes(kept), kept, count, a->bias ? a->bias + group * outputs + low : 0, !begun, part,
                         t == taps - 1 && to == per ? soon : nothing);
            begun = 1;
            w += (size_t)sides(outputs) * block_bytes(kept);
        }
    }
    transpose_out(part, T, last - first, count, addend, a->relu, y, a->outputs);
}
// 0, or -1 where there is no memory. rows: vectors of rows at once, at most; 0: as they fit best
int nm_run(const struct layer *a) {
    const long total = a->images * a->out_height * a->out_width, outputs = a->outputs / a->groups, per = a->channels / a->groups;
    const long threads = a->threads > 1 ? a->threads : 1, full = is_full(a->n, a->m) ? MOST : MOST_OF_FEW;
    const long most = a->rows > 0 && a->rows < full ? a->rows : full;
    const long vectors = (total + L - 1) / L, tiles = (vectors + most - 1) / most, high = (vectors + tiles - 1) / tiles;
    long cuts = 1;
    if (threads > 1) while (tiles * a->groups * cuts < 3 * threads && cuts * 64 < outputs) cuts *= 2;
    const long each = sides((outputs + cuts - 1) / cuts) * SIDE, jobs = a->groups * cuts * tiles;
    float *zeros = calloc((size_t)per + WIDTH, sizeof(float));
    int failed = zeros == 0;
#pragma omp parallel num_threads((int)threads) if (threads > 1 && jobs > 1)
    {
        const size_t held = (size_t)((stretch_of(a->n, a->m) + WIDTH + each + SIDE + WIDTH) * high * L) * sizeof(float);
        float *panel = aligned_alloc(64, (held + 63) / 64 * 64), *part = panel ? panel + (stretch_of(a->n, a->m) + WIDTH) * high * L : 0;
        if (!panel) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (long job = 0; job < jobs; job++) {
            const long group = job / (cuts * tiles), low = job / tiles % cuts * each, first = job % tiles * high * L;
            const long count = least(each, outputs - low);
            if (panel && zeros && count > 0 && first < total) tile(a, group, first, least(total, first + high * L), low, count, zeros, panel, part);
        }
        free(panel);
    }
    free(zeros);
    return failed ? -1 : 0;
}

// ---- packing ----------------------------------------------------------------------------------------------------
// where output o of a group finds its entries of a stretch: SIDE apart
struct place { float *values; uint8_t *places; };
static struct place place_of(char *stretch, long o, long kept) {
    float *values = (float *)(stretch + (size_t)(o / SIDE) * block_bytes(kept));
    return (struct place){values + o % SIDE, (uint8_t *)(values + kept * SIDE) + o % SIDE};
}
// weight: (outputs, taps, inputs) of float, inputs those of one group; packed: nm_bytes of zeros.
// 0, or 1 + output where a group of that output has more than N non-zeros
long nm_pack(long n, long m, const float *weight, long outputs, long groups, long taps, long inputs, char *packed) {
    const long per = outputs / groups;
    for (long o = 0; o < outputs; o++) for (long t = 0; t < taps; t++) {
        const float *w = weight + (o * taps + t) * inputs;
        char *at = packed + (size_t)(o / per * taps + t) * tap_bytes(per, inputs, n, m);
        for (long from = 0; from < inputs; from += stretch_of(n, m)) {
            const long to = least(inputs, from + stretch_of(n, m)), kept = groups_in(to - from, m) * n;
            const struct place q = place_of(at, o % per, kept);
            for (long g = from, e = 0; g < to; g += m) {
                long slot = 0;
                for (long k = g; k < least(to, g + m); k++) {
                    if (w[k] == 0) continue;
                    if (slot++ == n) return 1 + o;
                    q.values[e] = w[k];
                    q.places[e] = (uint8_t)(k - from);
                    e += SIDE;
                }
                for (; slot < n; slot++, e += SIDE) q.places[e] = (uint8_t)(g - from);
            }
            at += (size_t)sides(per) * block_bytes(kept);
        }
    }
    return 0;
}
// the way back; weight: zeros
void nm_unpack(long n, long m, char *packed, long outputs, long groups, long taps, long inputs, float *weight) {
    const long per = outputs / groups;
    for (long o = 0; o < outputs; o++) for (long t = 0; t < taps; t++) {
        char *at = packed + (size_t)(o / per * taps + t) * tap_bytes(per, inputs, n, m);
        for (long from = 0; from < inputs; from += stretch_of(n, m)) {
            const long to = least(inputs, from + stretch_of(n, m)), kept = groups_in(to - from, m) * n;
            const struct place q = place_of(at, o % per, kept);
            for (long e = 0; e < kept * SIDE; e += SIDE) if (q.values[e] != 0) weight[(o * taps + t) * inputs + from + q.places[e]] = q.values[e];
            at += (size_t)sides(per) * block_bytes(kept);
        }
    }
}
