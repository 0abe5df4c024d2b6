// The vector instructions of AVX-512 that lanes.c and rows.c use, in plain loops: its forms for processors that have them run
// anywhere so, under sanitizers. For tests, found before the compiler's own header of this name.
#pragma once
#include <stdint.h>
#include <string.h>

typedef float __m512 __attribute__((vector_size(64), may_alias));
typedef double __m512d __attribute__((vector_size(64), may_alias));
typedef uint16_t __mmask16;
typedef long long __m512i __attribute__((vector_size(64), may_alias));
typedef short __m512bh __attribute__((vector_size(64), may_alias));
typedef long long __m256i __attribute__((vector_size(32), may_alias));
typedef uint32_t words __attribute__((vector_size(64), may_alias));
typedef uint16_t halves __attribute__((vector_size(64), may_alias));
typedef uint16_t few __attribute__((vector_size(32), may_alias));
#define STAND_IN static inline __attribute__((always_inline, unused))

STAND_IN __m512 _mm512_loadu_ps(const void *from) { __m512 v; memcpy(&v, from, 64); return v; }
STAND_IN __m512i _mm512_loadu_si512(const void *from) { __m512i v; memcpy(&v, from, 64); return v; }
STAND_IN __m256i _mm256_loadu_si256(const void *from) { __m256i v; memcpy(&v, from, 32); return v; }
STAND_IN void _mm256_storeu_si256(void *to, __m256i v) { memcpy(to, &v, 32); }
STAND_IN __m512 _mm512_permutexvar_ps(__m512i at, __m512 x) {
    __m512 r;
    for (int i = 0; i < 16; i++) r[i] = x[((words)at)[i] & 15];
    return r;
}
STAND_IN __m512i _mm512_permutexvar_epi16(__m512i at, __m512i x) {
    halves r;
    for (int i = 0; i < 32; i++) r[i] = ((halves)x)[((halves)at)[i] & 31];
    return (__m512i)r;
}
STAND_IN __m512i _mm512_srli_epi16(__m512i x, unsigned count) { return (__m512i)((halves)x >> (uint16_t)count); }
STAND_IN __m512i _mm512_slli_epi32(__m512i x, unsigned count) { return (__m512i)((words)x << count); }
STAND_IN __m512i _mm512_set1_epi16(short value) { return (__m512i)((halves){0} + (uint16_t)value); }
STAND_IN __m512i _mm512_set1_epi32(int value) { return (__m512i)((words){0} + (uint32_t)value); }
STAND_IN __m512i _mm512_ternarylogic_epi32(__m512i a, __m512i b, __m512i c, int table) {
    __m512i r = {0};
    for (int row = 0; row < 8; row++) if (table >> row & 1)
        r |= (row & 4 ? a : ~a) & (row & 2 ? b : ~b) & (row & 1 ? c : ~c);
    return r;
}
STAND_IN float wide(uint16_t half) { uint32_t bits = (uint32_t)half << 16; float v; memcpy(&v, &bits, 4); return v; }
STAND_IN __m512 _mm512_dpbf16_ps(__m512 sum, __m512bh a, __m512bh b) {
    for (int i = 0; i < 32; i++) sum[i / 2] += wide(((halves)a)[i]) * wide(((halves)b)[i]);
    return sum;
}
STAND_IN __m512i _mm512_cvtepu16_epi32(__m256i x) {
    words r;
    for (int i = 0; i < 16; i++) r[i] = ((few)x)[i];
    return (__m512i)r;
}
STAND_IN __m256i _mm512_cvtneps_pbh(__m512 x) {
    few r;
    for (int i = 0; i < 16; i++) {
        const uint32_t bits = ((words)x)[i];
        r[i] = (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
    }
    return (__m256i)r;
}
STAND_IN __m512 _mm512_load_ps(const void *from) { return _mm512_loadu_ps((const void *)((uintptr_t)from & ~(uintptr_t)63)); }
STAND_IN void _mm512_store_ps(void *to, __m512 v) { memcpy((void *)((uintptr_t)to & ~(uintptr_t)63), &v, 64); }
STAND_IN __m512 _mm512_maskz_loadu_ps(__mmask16 some, const float *from) {
    __m512 v = {0};
    for (int i = 0; i < 16; i++) if (some >> i & 1) v[i] = from[i];
    return v;
}
STAND_IN void _mm512_mask_storeu_ps(float *to, __mmask16 some, __m512 v) {
    for (int i = 0; i < 16; i++) if (some >> i & 1) to[i] = v[i];
}
// of each quarter of a, then of b, the lower or the upper half, interleaved
STAND_IN __m512 _mm512_unpack(__m512 a, __m512 b, int high) {
    __m512 r;
    for (int i = 0; i < 16; i++) r[i] = (i % 2 ? b : a)[i / 4 * 4 + 2 * high + i % 4 / 2];
    return r;
}
STAND_IN __m512d _mm512_unpack_pd(__m512d a, __m512d b, int high) {
    __m512d r;
    for (int i = 0; i < 8; i++) r[i] = (i % 2 ? b : a)[i / 2 * 2 + high];
    return r;
}
#define _mm512_unpacklo_ps(a, b) _mm512_unpack(a, b, 0)
#define _mm512_unpackhi_ps(a, b) _mm512_unpack(a, b, 1)
#define _mm512_unpacklo_pd(a, b) _mm512_unpack_pd(a, b, 0)
#define _mm512_unpackhi_pd(a, b) _mm512_unpack_pd(a, b, 1)
STAND_IN __m512 _mm512_shuffle_f32x4(__m512 a, __m512 b, int which) {
    __m512 r;
    for (int q = 0; q < 4; q++) for (int i = 0; i < 4; i++) r[q * 4 + i] = (q < 2 ? a : b)[(which >> 2 * q & 3) * 4 + i];
    return r;
}
