/* One fused pass over a weight for N:M sparsity on the CPU. Compiled on first use (see _native.py).

   A weight is seen as (outer, size, inner), contiguous. A group is M consecutive elements along `size` at one
   (outer, inner); the last group may be short. Elements are compared by the bits of their absolute value, whose
   order as integers is that of the numbers (NaN and infinity are reported apart).

     nm_update_B    mask (in: the old one, out: the new one), flips, checksum, and w * mask if `out` is given
     nm_apply_B     w * mask, and the checksum of w
     nm_decay_T     g += lambda * w where the mask is 0

   B is the element's width in bits. The checksum depends on every bit and its position: equal sums mean that the
   weight was not changed behind our back since the mask was made. */
#include <stdint.h>
#include <stddef.h>

#define LANES 64
#define MAXM 64

typedef struct { int64_t flips; int64_t nonfinite; uint64_t checksum; } nm_result;

static inline uint64_t mix16(uint16_t v, uint32_t i) { return (uint64_t)v * (uint32_t)((i * 0x9E3779B1u) | 1u); }
static inline uint64_t mix32(uint32_t v, uint32_t i) { return (uint64_t)v * (uint32_t)((i * 0x9E3779B1u) | 1u); }
static inline uint64_t mix64(uint64_t v, uint32_t i) {
    return mix32((uint32_t)v, i) + 0x85EBCA6Bull * mix32((uint32_t)(v >> 32), i);
}

#define DEFINE(B, KEY, BITS, ABSMASK) \
/* keep[j][l] = 1 if element j of lane l is among the n largest of its r elements; ties keep the lowest j. */       \
static inline __attribute__((always_inline)) void rank_##B(KEY (*restrict key)[LANES], KEY (*restrict keep)[LANES],  \
                                                          int n, int r) { \
    if (n >= r) { \
        for (int j = 0; j < r; j++) for (int l = 0; l < LANES; l++) keep[j][l] = 1; \
        return; \
    } \
    if (n == 1) { \
        KEY best[LANES], at[LANES]; \
        for (int l = 0; l < LANES; l++) { best[l] = key[0][l]; at[l] = 0; } \
        for (int j = 1; j < r; j++) for (int l = 0; l < LANES; l++) { \
            KEY better = (KEY)-(key[j][l] > best[l]); \
            best[l] = (key[j][l] & better) | (best[l] & ~better); \
            at[l] = ((KEY)j & better) | (at[l] & ~better); \
        } \
        for (int j = 0; j < r; j++) for (int l = 0; l < LANES; l++) keep[j][l] = at[l] == (KEY)j; \
        return; \
    } \
    for (int j = 0; j < r; j++) for (int l = 0; l < LANES; l++) keep[j][l] = 0; \
    for (int j = 0; j + 1 < r; j++) for (int k = j + 1; k < r; k++) for (int l = 0; l < LANES; l++) { \
        KEY first = key[j][l] >= key[k][l]; \
        keep[k][l] += first; \
        keep[j][l] += 1 - first; \
    } \
    for (int j = 0; j < r; j++) for (int l = 0; l < LANES; l++) keep[j][l] = keep[j][l] < (KEY)n; \
} \
 \
/* a run of contiguous elements whose new mask is known: store it, count flips, write w * mask, add to the sum */   \
static inline __attribute__((always_inline)) void finish_##B(const BITS *restrict w, const uint8_t *restrict fresh,  \
        uint8_t *restrict mask, BITS *restrict out, int64_t start, int64_t count, int64_t *flips, uint64_t *sum) {   \
    uint64_t s = 0; uint32_t f = 0; \
    for (int64_t i = 0; i < count; i++) { \
        s += mix##B(w[start + i], (uint32_t)(start + i)); \
        f += fresh[i] ^ mask[start + i]; \
    } \
    for (int64_t i = 0; i < count; i++) mask[start + i] = fresh[i]; \
    if (out) for (int64_t i = 0; i < count; i++) out[start + i] = w[start + i] & (BITS)-(BITS)fresh[i]; \
    *sum += s; *flips += f; \
} \
 \
/* `groups` whole groups of r elements side by side, inner < LANES: several groups share the lanes */ \
static inline __attribute__((always_inline)) void block_##B(const BITS *restrict w, uint8_t *restrict mask, \
        BITS *restrict out, int64_t start, int groups, int inner, int n, int r, KEY *top, nm_result *res) { \
    KEY key[MAXM][LANES], keep[MAXM][LANES]; uint8_t fresh[MAXM * LANES]; \
    int used = groups * inner; \
    if (used < LANES) for (int j = 0; j < r; j++) for (int l = used; l < LANES; l++) key[j][l] = 0; \
    for (int g = 0; g < groups; g++) for (int j = 0; j < r; j++) for (int i = 0; i < inner; i++) \
        key[j][g * inner + i] = (KEY)(w[start + ((int64_t)g * r + j) * inner + i] & ABSMASK); \
    KEY t = *top; \
    for (int j = 0; j < r; j++) for (int l = 0; l < LANES; l++) t = key[j][l] > t ? key[j][l] : t; \
    *top = t; \
    rank_##B(key, keep, n, r); \
    for (int g = 0; g < groups; g++) for (int j = 0; j < r; j++) for (int i = 0; i < inner; i++) \
        fresh[(g * r + j) * inner + i] = (uint8_t)keep[j][g * inner + i]; \
    finish_##B(w, fresh, mask, out, start, (int64_t)used * r, &res->flips, &res->checksum); \
} \
 \
/* one group per lane, lanes along a long `inner` */ \
static void strip_##B(const BITS *w, uint8_t *mask, BITS *out, int64_t start, int64_t inner, int n, int r, \
                      KEY *top, nm_result *res) { \
    KEY key[MAXM][LANES], keep[MAXM][LANES]; uint8_t fresh[LANES]; \
    for (int64_t at = 0; at < inner; at += LANES) { \
        int used = inner - at < LANES ? (int)(inner - at) : LANES; \
        for (int j = 0; j < r; j++) { \
            for (int l = 0; l < used; l++) key[j][l] = (KEY)(w[start + j * inner + at + l] & ABSMASK); \
            for (int l = used; l < LANES; l++) key[j][l] = 0; \
            for (int l = 0; l < LANES; l++) *top = key[j][l] > *top ? key[j][l] : *top; \
        } \
        rank_##B(key, keep, n, r); \
        for (int j = 0; j < r; j++) { \
            for (int l = 0; l < used; l++) fresh[l] = (uint8_t)keep[j][l]; \
            finish_##B(w, fresh, mask, out, start + j * inner + at, used, &res->flips, &res->checksum); \
        } \
    } \
} \
 \
/* the same for any sizes, in one copy: what is left of a row, and the uncommon cases */ \
static __attribute__((noinline)) void any_##B(const BITS *w, uint8_t *mask, BITS *out, int64_t start, int groups,   \
        int inner, int n, int r, KEY *top, nm_result *res) { \
    block_##B(w, mask, out, start, groups, inner, n, r, top, res); \
} \
 \
static inline __attribute__((always_inline)) void row_##B(const BITS *w, uint8_t *mask, BITS *out, int64_t start,   \
        int64_t groups, int inner, int n, int r, KEY *top, nm_result *res) { \
    int step = LANES / inner; int64_t g = 0; \
    for (; g + step <= groups; g += step) \
        block_##B(w, mask, out, start + g * r * inner, step, inner, n, r, top, res); \
    if (g < groups) any_##B(w, mask, out, start + g * r * inner, (int)(groups - g), inner, n, r, top, res);         \
} \
 \
static void rows_##B(const BITS *w, uint8_t *mask, BITS *out, int64_t start, int64_t groups, int inner, int n, int r,\
                     KEY *top, nm_result *res) { \
    int64_t step = LANES / inner; \
    for (int64_t g = 0; g < groups; g += step) \
        any_##B(w, mask, out, start + g * r * inner, (int)(groups - g < step ? groups - g : step), inner, n, r, top, res);\
} \
 \
void nm_update_##B(const BITS *w, uint8_t *mask, BITS *out, int64_t outer, int64_t size, int64_t inner, \
                   int n, int m, uint64_t infinity, nm_result *res) { \
    KEY top = 0; nm_result sum = {0, 0, 0}; \
    if (size % m == 0) { size *= outer; outer = 1; } \
    for (int64_t o = 0; o < outer; o++) { \
        int64_t start = o * size * inner, groups = size / m; int rest = (int)(size % m); \
        if (inner > LANES / 2) { \
            for (int64_t g = 0; g < groups; g++) strip_##B(w, mask, out, start + g * m * inner, inner, n, m, &top, &sum); \
            if (rest) strip_##B(w, mask, out, start + groups * m * inner, inner, n, rest, &top, &sum); \
            continue; \
        } \
        /* the common cases with constants, so that the compiler unrolls and vectorises them */ \
        if (B < 64 && inner == 1 && m == 4) row_##B(w, mask, out, start, groups, 1, n, 4, &top, &sum); \
        else if (B < 64 && inner == 1 && m == 8) row_##B(w, mask, out, start, groups, 1, n, 8, &top, &sum); \
        else if (B < 64 && inner == 1 && m == 16) row_##B(w, mask, out, start, groups, 1, n, 16, &top, &sum); \
        else if (B < 64 && inner == 9 && m == 4) row_##B(w, mask, out, start, groups, 9, n, 4, &top, &sum); \
        else if (B < 64 && inner == 9 && m == 8) row_##B(w, mask, out, start, groups, 9, n, 8, &top, &sum); \
        else if (B < 64 && inner == 9 && m == 16) row_##B(w, mask, out, start, groups, 9, n, 16, &top, &sum); \
        else rows_##B(w, mask, out, start, groups, (int)inner, n, m, &top, &sum); \
        if (rest) rows_##B(w, mask, out, start + groups * m * inner, 1, (int)inner, n, rest, &top, &sum); \
    } \
    sum.nonfinite = (uint64_t)top >= infinity; \
    *res = sum; \
} \
 \
void nm_apply_##B(const BITS *restrict w, const uint8_t *restrict mask, BITS *restrict out, int64_t count, \
                  nm_result *res) { \
    uint64_t s = 0; \
    for (int64_t i = 0; i < count; i++) { \
        s += mix##B(w[i], (uint32_t)i); \
        out[i] = w[i] & (BITS)-(BITS)mask[i]; \
    } \
    res->checksum = s; \
}

DEFINE(16, int16_t, uint16_t, 0x7FFFu)
DEFINE(32, int32_t, uint32_t, 0x7FFFFFFFu)
DEFINE(64, int64_t, uint64_t, 0x7FFFFFFFFFFFFFFFull)

#define DECAY(NAME, REAL) \
void nm_decay_##NAME(const REAL *restrict w, const uint8_t *restrict mask, REAL *restrict g, int64_t count, \
                     double lambda) { \
    REAL l = (REAL)lambda; \
    for (int64_t i = 0; i < count; i++) g[i] = mask[i] ? g[i] : g[i] + l * w[i]; \
}
DECAY(f32, float)
DECAY(f64, double)
