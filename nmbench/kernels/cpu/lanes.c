// Products with an N:M weight on a CPU, "outputs in lanes": a lane of a vector is one output, and a permute picks each
// lane's operand out of 16 inputs that lie in registers. Compiled once a pattern: -DNM_N=2 -DNM_M=4, M one of 2, 4, 8, 16.
//
// Packed, for each block of NM_LANES outputs and each tap of the kernel: chunks of [positions][values].
// A step is 16 inputs (32 of bf16 in the form DOT) with ENTRIES kept ones; a chunk is as many whole steps as the bits of
// one vector of positions can tell, or one step with several vectors of positions.
//   WIDE    float32; 4 bits a position, counted within the 16 inputs of the step: the permute takes them shifted, as they are
//   NARROW  float32; 2 bits, counted within the group (M <= 4): fewer bytes, for few rows
//   HALF    float32 inputs and sums, values in bf16: those of entries 2i and 2i + 1 share a word
//   DOT     bf16 inputs and values, sums in float32, two products an instruction (AVX512_BF16)
// Entries that a group does not use have the value zero and the position of the group's first input.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if !defined(NM_PORTABLE) && (defined(__AVX512F__) || defined(__AVX2__))
#include <immintrin.h>
#endif
#if defined(__AVX512F__) && !defined(NM_PORTABLE)
#define NM_LANES 16
#elif defined(__AVX2__) && !defined(NM_PORTABLE)
#define NM_LANES 8
#else
#define NM_LANES 16
#define NM_PLAIN 1
#endif
#define L NM_LANES
#define INLINE static inline __attribute__((always_inline))
#if defined(NM_PLAIN)
#define UNROLL
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif
typedef float vf __attribute__((vector_size(4 * L), aligned(4), may_alias));
typedef uint32_t vu __attribute__((vector_size(4 * L), aligned(4), may_alias));

enum { WIDE, NARROW, HALF, DOT, FORMS };
enum { MOST_ROWS = 14, MOST_BLOCKS = 4, STEP = 16, AHEAD = 2048 };  // AHEAD: bytes of a block that are fetched early
#define PER_STEP (STEP / NM_M * NM_N)

// ---- the layout -------------------------------------------------------------------------------------------------
INLINE int bits_of(int form) { return NM_M <= 4 && (form == NARROW || form == HALF) ? 2 : 4; }
INLINE int inputs_of(int form) { return form == DOT ? 2 * STEP : STEP; }
// entries of a step; in DOT words of two
INLINE int entries_of(int form) { (void)form; return PER_STEP; }
// entries (words in DOT, which has two positions in a word) that one vector of positions tells
INLINE int told_of(int form) { return form == DOT ? 4 : 32 / bits_of(form); }
INLINE int steps_of(int form) { return entries_of(form) <= told_of(form) ? told_of(form) / entries_of(form) : 1; }
INLINE int vectors_of(int form) { return entries_of(form) <= told_of(form) ? 1 : (entries_of(form) + told_of(form) - 1) / told_of(form); }
INLINE int words_of(int form) { int n = steps_of(form) * entries_of(form); return form == HALF ? (n + 1) / 2 : n; }
INLINE size_t chunk_of(int form) { return (size_t)(vectors_of(form) + words_of(form)) * 4 * L; }
INLINE size_t tap_bytes(int form, long inputs) {
    long steps = (inputs + inputs_of(form) - 1) / inputs_of(form);
    return (size_t)((steps + steps_of(form) - 1) / steps_of(form)) * chunk_of(form);
}

// ---- a vector's operands ----------------------------------------------------------------------------------------
#if defined(NM_PLAIN)
INLINE vf pick(const float *x, vu at, int entry, int form) {
    vf r;
    (void)entry; (void)form;
    for (int l = 0; l < L; l++) r[l] = x[at[l] & 15];
    return r;
}
#elif NM_LANES == 16
INLINE vf pick(const float *x, vu at, int entry, int form) {
    (void)entry; (void)form;
    return (vf)_mm512_permutexvar_ps((__m512i)at, _mm512_loadu_ps(x));
}
#else
INLINE vf pick(const float *x, vu at, int entry, int form) {
    (void)form;
    if (NM_M <= 8) return (vf)_mm256_permutevar8x32_ps(_mm256_loadu_ps(x + entry / NM_N * NM_M / 8 * 8), (__m256i)at);
    __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(x), (__m256i)at);
    __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(x + 8), (__m256i)at);
    return (vf)_mm256_blendv_ps(low, high, _mm256_castsi256_ps((__m256i)(at << 28)));
}
#endif
// the positions of an entry of a step, `shift` bits up in their vector; what lies above the 4 bits is ignored by `pick`
INLINE vu where(vu positions, int shift, int entry, int form) {
    vu at = positions >> shift;
    if (bits_of(form) == 2) at = (at & (NM_M - 1)) | (uint32_t)(entry / NM_N * NM_M);
    return at;
}

// ---- R rows x B blocks of outputs, over one tap -----------------------------------------------------------------
INLINE void tile(int form, int R, int B, const float *const *rows, const char *w, size_t apart, long inputs, int fetch, vf sum[][MOST_BLOCKS]) {
    const int E = PER_STEP, S = steps_of(form), P = vectors_of(form), T = told_of(form), bits = bits_of(form);
    const int split = R * B < 4 ? 2 : 1;  // chains of additions, so that one does not wait for the other
    const long whole = inputs / STEP, steps = (inputs + STEP - 1) / STEP;
    // of a layer with one tap the next tile's blocks are fetched from here on, not what lies behind these
    const size_t turn = apart > AHEAD ? apart - AHEAD : 0;
    const char *const begin = w;
    vf acc[MOST_ROWS][MOST_BLOCKS][2];
    float rest[MOST_ROWS][STEP];
    const float *x[MOST_ROWS];
    UNROLL for (int r = 0; r < R; r++) x[r] = rows[r];
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int b = 0; b < B; b++) { acc[r][b][0] = sum[r][b]; acc[r][b][1] = (vf){0}; }
    for (long s = 0; s < steps; w += chunk_of(form)) {
        vu at[MOST_BLOCKS][4];
        UNROLL for (int b = 0; b < B; b++) UNROLL for (int p = 0; p < P; p++) at[b][p] = *(const vu *)(w + b * apart + p * 4 * L);
        if (fetch) {
            const char *const far = w + AHEAD + ((size_t)(w - begin) < turn ? 0 : (size_t)(B - 1) * apart);
            UNROLL for (int b = 0; b < B; b++) UNROLL for (int l = 0; l < (int)chunk_of(form); l += 64) __builtin_prefetch(far + b * apart + l);
        }
        UNROLL for (int i = 0; i < S; i++) {
            if (__builtin_expect(s >= whole, 0)) {
                if (s == steps) break;
                UNROLL for (int r = 0; r < R; r++) {  // the last, short step: nothing is read behind a row
                    memset(rest[r], 0, sizeof rest[r]);
                    memcpy(rest[r], x[r], (size_t)(inputs - whole * STEP) * sizeof(float));
                    x[r] = rest[r];
                }
            }
            UNROLL for (int e = 0; e < E; e++) UNROLL for (int b = 0; b < B; b++) {
                const int n = i * E + e;
                const vu here = where(at[b][P > 1 ? e / T : 0], n % T * bits, e, form);
                const char *value = w + b * apart + (size_t)P * 4 * L;
                vf v;
                if (form == HALF) {
                    vu pair = *(const vu *)(value + n / 2 * 4 * L);
                    pair = n % 2 ? (vu)(pair & 0xffff0000u) : (vu)(pair << 16);
                    v = (vf)pair;
                } else v = *(const vf *)(value + n * 4 * L);
                UNROLL for (int r = 0; r < R; r++) acc[r][b][n % split] += pick(x[r], here, e, form) * v;
            }
            UNROLL for (int r = 0; r < R; r++) x[r] += STEP;
            s++;
        }
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int b = 0; b < B; b++) sum[r][b] = acc[r][b][0] + acc[r][b][1];
}

// ---- the same with pairs of bf16 --------------------------------------------------------------------------------
#if defined(__AVX512BF16__) && NM_LANES == 16 && !defined(NM_PLAIN)
#define NM_DOT 1
// where in 32 inputs the groups of a word's two entries begin
#define BASE(word) ((uint32_t)((word) * 2 / NM_N * NM_M) | (uint32_t)(((word) * 2 + 1) / NM_N * NM_M) << 16)
INLINE void tile_dot(int R, int B, const uint16_t *const *rows, const char *w, size_t apart, long inputs, vf sum[][MOST_BLOCKS]) {
    const int E = PER_STEP, S = steps_of(DOT), P = vectors_of(DOT);
    const long whole = inputs / 32, steps = (inputs + 31) / 32;
    uint16_t rest[MOST_ROWS][32];
    const uint16_t *x[MOST_ROWS];
    __m512 acc[MOST_ROWS][MOST_BLOCKS];
    UNROLL for (int r = 0; r < R; r++) x[r] = rows[r];
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int b = 0; b < B; b++) acc[r][b] = (__m512)sum[r][b];
    for (long s = 0; s < steps; w += chunk_of(DOT)) {
        vu at[MOST_BLOCKS][4];
        UNROLL for (int b = 0; b < B; b++) UNROLL for (int p = 0; p < P; p++) at[b][p] = *(const vu *)(w + b * apart + p * 4 * L);
        UNROLL for (int i = 0; i < S; i++) {
            if (__builtin_expect(s >= whole, 0)) {
                if (s == steps) break;
                UNROLL for (int r = 0; r < R; r++) {
                    memset(rest[r], 0, sizeof rest[r]);
                    memcpy(rest[r], x[r], (size_t)(inputs - whole * 32) * sizeof(uint16_t));
                    x[r] = rest[r];
                }
            }
            UNROLL for (int e = 0; e < E; e++) UNROLL for (int b = 0; b < B; b++) {
                const int n = i * E + e;
                const __m512i four = _mm512_srli_epi16((__m512i)at[b][P > 1 ? e / 4 : 0], n % 4 * 4);
                const __m512i here = _mm512_ternarylogic_epi32(four, _mm512_set1_epi16(NM_M - 1), _mm512_set1_epi32((int)BASE(e)), 0xEA);  // (four & mask) | base
                const __m512bh v = (__m512bh)_mm512_loadu_si512(w + b * apart + (size_t)(P + n) * 64);
                UNROLL for (int r = 0; r < R; r++) acc[r][b] = _mm512_dpbf16_ps(acc[r][b], (__m512bh)_mm512_permutexvar_epi16(here, _mm512_loadu_si512(x[r])), v);
            }
            UNROLL for (int r = 0; r < R; r++) x[r] += 32;
            s++;
        }
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int b = 0; b < B; b++) sum[r][b] = (vf)acc[r][b];
}
INLINE vf widened(const uint16_t *from) { return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)from)), 16); }
INLINE void narrowed(uint16_t *to, vf v) { _mm256_storeu_si256((void *)to, (__m256i)_mm512_cvtneps_pbh((__m512)v)); }
#else
#define NM_DOT 0
#endif

// ---- a tile over all taps, with bias, an addend of the result's shape, and ReLU ---------------------------------
// rows: for each tap R pointers, `pitch` apart from those of the next. valid: how many of the B * L outputs there are.
// fetch: are these weights met for the first time, so that they are fetched early? Outputs and addend are of the inputs'
// type, the bias is float.
typedef void (*tile_fn)(const void *const *rows, long pitch, long taps, const char *w, size_t apart, size_t tap, long inputs,
                        const float *bias, const void *const *addend, void *const *out, int relu, int fetch, long valid);
#define ARGUMENTS const void *const *rows, long pitch, long taps, const char *w, size_t apart, size_t tap, long inputs, \
                  const float *bias, const void *const *addend, void *const *out, int relu, int fetch, long valid
INLINE vf some(const float *from, long count) {
    if (count >= L) return *(const vf *)from;
    float part[L] = {0};
    if (count > 0) memcpy(part, from, (size_t)count * sizeof(float));
    return *(const vf *)part;
}
INLINE vf rectified(vf v) {
    // NaN stays NaN, as in torch
    return (vf)((vu)v & ~(vu)(v < 0));
}
INLINE void whole_tile(int form, int R, int B, ARGUMENTS) {
    vf sum[MOST_ROWS][MOST_BLOCKS];
    UNROLL for (int b = 0; b < B; b++) {
        vf first = bias ? some(bias + b * L, valid - b * L) : (vf){0};
        UNROLL for (int r = 0; r < R; r++) sum[r][b] = first;
    }
    for (long t = 0; t < taps; t++, w += tap, rows += pitch) {
#if NM_DOT
        if (form == DOT) { tile_dot(R, B, (const uint16_t *const *)rows, w, apart, inputs, sum); continue; }
#endif
        tile(form, R, B, (const float *const *)rows, w, apart, inputs, fetch, sum);
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int b = 0; b < B; b++) {
        const long count = valid - b * L;
        vf v = sum[r][b];
        if (count <= 0) continue;
#if NM_DOT
        if (form == DOT) {
            uint16_t part[L] = {0}, *to = (uint16_t *)out[r] + b * L;
            if (addend) {
                const uint16_t *from = (const uint16_t *)addend[r] + b * L;
                if (count < L) { memcpy(part, from, (size_t)count * 2); from = part; }
                v += widened(from);
            }
            if (relu) v = rectified(v);
            if (count >= L) narrowed(to, v);
            else { narrowed(part, v); memcpy(to, part, (size_t)count * 2); }
            continue;
        }
#endif
        float *to = (float *)out[r] + b * L;
        if (addend) v += some((const float *)addend[r] + b * L, count);
        if (relu) v = rectified(v);
        if (count >= L) *(vf *)to = v;
        else memcpy(to, &v, (size_t)count * sizeof(float));
    }
}
#define TILE(form, R, B) static __attribute__((noinline)) void t_##form##_##R##_##B(ARGUMENTS) { \
    whole_tile(form, R, B, rows, pitch, taps, w, apart, tap, inputs, bias, addend, out, relu, fetch, valid); }
#define ENTRY(form, R, B) [form][B][R] = t_##form##_##R##_##B,
// rows times blocks fill the registers; what is missing here is made of smaller ones
#if defined(NM_PLAIN)
#define FEW(F, form) F(form, 1, 1)
#define MANY(F, form) F(form, 4, 1)
#elif NM_LANES == 16  // 32 registers
#define FEW(F, form) F(form, 1, 1) F(form, 4, 1) F(form, 1, 2) F(form, 2, 2) F(form, 4, 2) F(form, 1, 4) F(form, 2, 4) F(form, 4, 4)
#define MANY(F, form) F(form, 8, 1) F(form, 6, 2) F(form, 7, 2) F(form, 8, 2)
#else  // 16 registers
#define FEW(F, form) F(form, 1, 1) F(form, 4, 1) F(form, 1, 2) F(form, 2, 2) F(form, 1, 4) F(form, 2, 4)
#define MANY(F, form) F(form, 8, 1) F(form, 4, 2) F(form, 5, 2)
#endif
#if NM_DOT
#define IF_DOT(F) FEW(F, DOT) MANY(F, DOT)
#else
#define IF_DOT(F)
#endif
#if NM_M <= 4
#define IF_NARROW(F) FEW(F, NARROW)
#else
#define IF_NARROW(F)
#endif
#define ALL(F) FEW(F, WIDE) MANY(F, WIDE) FEW(F, HALF) IF_NARROW(F) IF_DOT(F)
ALL(TILE)
static const tile_fn tiles[FORMS][MOST_BLOCKS + 1][MOST_ROWS + 1] = {ALL(ENTRY)};

// ---- a whole layer ----------------------------------------------------------------------------------------------
// A linear layer is a convolution of `images` rows with a 1x1 kernel. x, addend and y: channels last.
struct layer {
    const void *x, *w, *addend;
    const float *bias;
    void *y;
    long images, height, width, channels, outputs, groups, out_height, out_width;
    long kernel[2], stride[2], padding[2], dilation[2];
    int form, rows, blocks, relu, threads;
};
int nm_lanes(void) { return L; }
int nm_portable(void) {
#ifdef NM_PLAIN
    return 1;
#else
    return 0;
#endif
}
int nm_has(int form) { return form == DOT ? NM_DOT : form == NARROW ? NM_M <= 4 : form >= 0 && form < FORMS; }
static long blocks_of(const struct layer *a) { return (a->outputs / a->groups + L - 1) / L; }
size_t nm_bytes(int form, long outputs, long groups, long taps, long inputs) {
    return (size_t)((outputs / groups + L - 1) / L * groups * taps) * tap_bytes(form, inputs);
}
// where the R rows of a tile begin, tap by tap; a tap outside the image reads `zeros`
static void point(const struct layer *a, long first, long R, long group, const char *zeros, const void **rows) {
    const long size = a->form == DOT ? 2 : 4, per = a->channels / a->groups, area = a->out_height * a->out_width;
    for (long r = 0; r < R; r++) {
        const long p = first + r, image = p / area, y = p % area / a->out_width, x = p % area % a->out_width;
        const void **q = rows + r;
        for (long i = 0; i < a->kernel[0]; i++) for (long j = 0; j < a->kernel[1]; j++, q += R) {
            const long iy = y * a->stride[0] - a->padding[0] + i * a->dilation[0], ix = x * a->stride[1] - a->padding[1] + j * a->dilation[1];
            const int inside = iy >= 0 && iy < a->height && ix >= 0 && ix < a->width;
            *q = inside ? (const char *)a->x + (((image * a->height + iy) * a->width + ix) * a->channels + group * per) * size : zeros;
        }
    }
}
static long fitting(int form, long blocks, long rows) {
    while (rows > 1 && !tiles[form][blocks][rows]) rows--;
    return rows;
}
// rows `from` to `to`, blocks `low` to `high` of a group: all blocks over a stretch of rows that stays in the cache
static void part(const struct layer *a, long group, long from, long to, long low, long high, const char *zeros, const void **rows) {
    const long taps = a->kernel[0] * a->kernel[1], inputs = a->channels / a->groups, per = a->outputs / a->groups;
    const size_t size = a->form == DOT ? 2 : 4, tap = tap_bytes(a->form, inputs), apart = tap * (size_t)taps;
    for (long p = from, R; p < to; p += R) {
        R = fitting(a->form, a->blocks, to - p < a->rows ? to - p : a->rows);
        point(a, p, R, group, zeros, rows + (p - from) * taps);
    }
    for (long b = low, B; b < high; b += B) {
        for (B = a->blocks; B > high - b; B /= 2) {}
        const long output = group * per + b * L;
        const char *w = (const char *)a->w + (size_t)(group * blocks_of(a) + b) * apart;
        for (long first = from, pitch; first < to; first += pitch) {
            pitch = fitting(a->form, a->blocks, to - first < a->rows ? to - first : a->rows);
            for (long r = 0, R; r < pitch; r += R) {
                const void *addend[MOST_ROWS];
                void *out[MOST_ROWS];
                R = fitting(a->form, B, pitch - r);
                for (long i = 0; i < R; i++) {
                    const size_t at = (size_t)((first + r + i) * a->outputs + output) * size;
                    out[i] = (char *)a->y + at;
                    addend[i] = a->addend ? (const char *)a->addend + at : 0;
                }
                tiles[a->form][B][R](rows + (first - from) * taps + r, pitch, taps, w, apart, tap, inputs, a->bias ? a->bias + output : 0,
                                     a->addend ? addend : 0, out, a->relu, first + r == from, per - b * L);
            }
        }
    }
}
// how many rows of x stay in half of a second-level cache of 1 MiB, whole tiles of them
static long stretch(const struct layer *a) {
    const long size = a->form == DOT ? 2 : 4, row = a->channels / a->groups * size * a->stride[0] * a->stride[1];
    long fit = (512 << 10) / (row > 0 ? row : 1);
    fit = fit > 1024 ? 1024 : fit < a->rows ? a->rows : fit;
    return fit / a->rows * a->rows;
}
// 0, or -1 where there is no memory for the pointers. rows and blocks: the nearest smaller tile that there is
int nm_run(const struct layer *given) {
    struct layer own = *given, *a = &own;
    a->blocks = a->blocks > MOST_BLOCKS ? MOST_BLOCKS : a->blocks < 1 ? 1 : a->blocks;
    while (a->blocks > 1 && !tiles[a->form][a->blocks][1]) a->blocks--;
    a->rows = a->rows > MOST_ROWS ? MOST_ROWS : a->rows < 1 ? 1 : a->rows;
    a->rows = (int)fitting(a->form, a->blocks, a->rows);
    const long total = a->images * a->out_height * a->out_width, taps = a->kernel[0] * a->kernel[1], blocks = blocks_of(a);
    const long inputs = a->channels / a->groups, threads = a->threads > 1 ? a->threads : 1;
    long rows = stretch(a), pieces = (total + rows - 1) / rows, cuts = 1;
    if (pieces > threads) pieces = (pieces + threads - 1) / threads * threads;
    if (pieces > 0) rows = ((total + pieces - 1) / pieces + a->rows - 1) / a->rows * a->rows;  // all alike: no thread waits for a longer one
    pieces = (total + rows - 1) / rows;
    if (pieces < 2 * threads && threads > 1) {  // rather cut the outputs, so that each weight is read once
        const long groups = (blocks + a->blocks - 1) / a->blocks, wanted = (2 * threads + pieces * a->groups - 1) / (pieces * a->groups);
        cuts = wanted < groups ? wanted : groups;
    }
    const long each = ((blocks + cuts - 1) / cuts + a->blocks - 1) / a->blocks * a->blocks, jobs = a->groups * pieces * cuts;
    const size_t held = (size_t)((rows < total ? rows : total) * taps) * sizeof(void *);
    char *zeros = calloc((size_t)inputs + 2 * STEP, 4);
    int failed = zeros == 0;
#pragma omp parallel num_threads((int)threads) if (threads > 1 && jobs > 1)
    {
        const void **pointers = malloc(held);
        if (!pointers) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (long job = 0; job < jobs; job++) {
            const long group = job / (pieces * cuts), piece = job / cuts % pieces, cut = job % cuts;
            const long from = piece * rows, to = from + rows < total ? from + rows : total;
            const long low = cut * each, high = low + each < blocks ? low + each : blocks;
            if (pointers && zeros && low < high) part(a, group, from, to, low, high, zeros, pointers);
        }
        free(pointers);
    }
    free(zeros);
    return failed ? -1 : 0;
}

// ---- packing ----------------------------------------------------------------------------------------------------
static uint16_t bf16_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 64);  // NaN
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
// where entry `slot` of group `group` of a lane lies: its value, and its position
struct place { char *word; int half; uint32_t *at; int shift; uint32_t base; };
static struct place place_of(int form, char *tap, long group, int slot, int lane) {
    const long entry = group * NM_N + slot;
    struct place q = {0};
    if (form == DOT) {
        const long word = entry / 2, per = (long)steps_of(DOT) * PER_STEP, n = word % per;
        char *chunk = tap + (size_t)(word / per) * chunk_of(DOT);
        q.at = (uint32_t *)chunk + (n / 4) * L + lane;
        q.shift = (int)(n % 4 * 4 + entry % 2 * 16);
        q.word = chunk + ((size_t)vectors_of(DOT) + (size_t)n) * 4 * L + (size_t)lane * 4;
        q.half = 1 + (int)(entry % 2);
        return q;
    }
    const long per = (long)steps_of(form) * PER_STEP, n = entry % per;
    char *chunk = tap + (size_t)(entry / per) * chunk_of(form), *values = chunk + (size_t)vectors_of(form) * 4 * L;
    q.at = (uint32_t *)chunk + (n / told_of(form)) * L + lane;
    q.shift = (int)(n % told_of(form)) * bits_of(form);
    q.base = bits_of(form) == 4 ? (uint32_t)(group * NM_M % STEP) : 0;
    q.half = form == HALF ? 1 + (int)(n % 2) : 0;
    q.word = values + (size_t)(form == HALF ? n / 2 : n) * 4 * L + (size_t)lane * 4;
    return q;
}
static void put(struct place q, int position, float value) {
    *q.at |= (q.base + (uint32_t)position) << q.shift;
    if (q.half) ((uint16_t *)q.word)[q.half - 1] = bf16_of(value);
    else memcpy(q.word, &value, 4);
}
// weight: (outputs, taps, inputs) of float, inputs those of one group; packed: nm_bytes of zeros.
// 0, or 1 + output where a group of that output has more than N non-zeros
long nm_pack(int form, const float *weight, long outputs, long groups, long taps, long inputs, char *packed) {
    const long per = outputs / groups, blocks = (per + L - 1) / L;
    const size_t tap = tap_bytes(form, inputs);
    for (long o = 0; o < outputs; o++) for (long t = 0; t < taps; t++) {
        const long block = o / per * blocks + o % per / L;
        char *to = packed + (size_t)(block * taps + t) * tap;
        const float *w = weight + (o * taps + t) * inputs;
        for (long g = 0; g * NM_M < inputs; g++) {
            int slot = 0;
            for (int k = 0; k < NM_M && g * NM_M + k < inputs; k++) {
                const float value = w[g * NM_M + k];
                if (value == 0) continue;
                if (slot == NM_N) return 1 + o;
                put(place_of(form, to, g, slot++, (int)(o % per % L)), k, value);
            }
            for (; slot < NM_N; slot++) put(place_of(form, to, g, slot, (int)(o % per % L)), 0, 0);
        }
    }
    return 0;
}
// the way back; weight: zeros
void nm_unpack(int form, const char *packed, long outputs, long groups, long taps, long inputs, float *weight) {
    const long per = outputs / groups, blocks = (per + L - 1) / L;
    const size_t tap = tap_bytes(form, inputs);
    for (long o = 0; o < outputs; o++) for (long t = 0; t < taps; t++) {
        char *from = (char *)packed + (size_t)((o / per * blocks + o % per / L) * taps + t) * tap;
        for (long g = 0; g * NM_M < inputs; g++) for (int slot = 0; slot < NM_N; slot++) {
            const struct place q = place_of(form, from, g, slot, (int)(o % per % L));
            const long k = (*q.at >> q.shift) & (bits_of(form) == 2 ? 3 : 15);
            uint32_t bits;
            float value;
            if (q.half) bits = (uint32_t)((uint16_t *)q.word)[q.half - 1] << 16;
            else memcpy(&bits, q.word, 4);
            memcpy(&value, &bits, 4);
            if (value != 0) weight[(o * taps + t) * inputs + g * NM_M + k - (long)q.base] = value;
        }
    }
}
