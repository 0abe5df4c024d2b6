// lanes.c, or with -DNM_ROWS rows.c, in buffers of exactly the size they need, against plain loops; built with
// sanitizers by test_cpu_memory.py.
#if defined(NM_ROWS)
#include "rows.c"
enum { DOT = -1, ROWS = 4, FORMS = 5 };
#define HEAD(form) NM_N, NM_M
#define nm_has(form) ((form) == ROWS)
static uint16_t bf16_of(float value) { return value != 0; }
#else
#include "lanes.c"
#define HEAD(form) form
#endif
#include <math.h>
#include <stdio.h>

static uint32_t state = 1;
static uint32_t draw(void) { return state = state * 1664525u + 1013904223u; }
static long within(long low, long high) { return low + (long)((draw() >> 8) % (uint32_t)(high - low + 1)); }
static float number(void) { return (float)((int)(draw() >> 16) % 255 - 127) / 64; }  // exact in bf16
static float rounded(float v) { uint32_t b = (uint32_t)bf16_of(v) << 16; memcpy(&v, &b, 4); return v; }

static void *exactly(size_t size) { return malloc(size ? size : 1); }
static void *inputs_for(int form, long count, float **plain) {
    float *x = exactly((size_t)count * 4);
    for (long i = 0; i < count; i++) x[i] = number();
    *plain = x;
    if (form != DOT) return x;
    uint16_t *narrow = exactly((size_t)count * 2);
    for (long i = 0; i < count; i++) narrow[i] = bf16_of(x[i]);
    return narrow;
}

static int check(int form) {
    struct layer a = {0};
    const long per = within(1, within(0, 3) ? 37 : 230), each = within(1, within(0, 3) ? 40 : 150);  // many enough to be cut between threads
    a.groups = within(1, 2);
    a.channels = per * a.groups, a.outputs = each * a.groups;
    for (int d = 0; d < 2; d++) a.kernel[d] = within(1, 3), a.stride[d] = within(1, 2), a.padding[d] = within(0, 2), a.dilation[d] = within(1, 2);
    a.images = within(1, 2), a.height = within(5, 9), a.width = within(5, 9);
    a.out_height = (a.height + 2 * a.padding[0] - a.dilation[0] * (a.kernel[0] - 1) - 1) / a.stride[0] + 1;
    a.out_width = (a.width + 2 * a.padding[1] - a.dilation[1] * (a.kernel[1] - 1) - 1) / a.stride[1] + 1;
#if defined(NM_ROWS)
    a.n = NM_N, a.m = NM_M;
#endif
    a.form = form, a.rows = (int)within(0, 12), a.blocks = 1 << within(0, 2), a.relu = (int)within(0, 1), a.threads = (int)within(1, 3);
    const long taps = a.kernel[0] * a.kernel[1], count = a.images * a.out_height * a.out_width * a.outputs;
    const size_t size = form == DOT ? 2 : 4, bytes = nm_bytes(HEAD(form), a.outputs, a.groups, taps, per);
    float *w = calloc((size_t)(a.outputs * taps * per), 4), *back = calloc((size_t)(a.outputs * taps * per), 4), *x, *plain_addend;
    for (long row = 0; row < a.outputs * taps; row++) for (long g = 0; g < per; g += NM_M) for (int kept = 0; kept < NM_N; kept++) {
        const long k = g + within(0, NM_M - 1);
        if (k < per) w[row * per + k] = number();
    }
    char *packed = calloc(bytes ? bytes : 1, 1);
    float *bias = exactly((size_t)a.outputs * 4);
    for (long o = 0; o < a.outputs; o++) bias[o] = number();
    a.x = inputs_for(form, a.images * a.height * a.width * a.channels, &x), a.w = packed;
    a.bias = within(0, 1) ? bias : 0;
    void *addend = inputs_for(form, count, &plain_addend);
    a.addend = within(0, 1) ? addend : 0;
    a.y = exactly((size_t)count * size);
    int wrong = nm_pack(HEAD(form), w, a.outputs, a.groups, taps, per, (void *)packed) != 0;
    nm_unpack(HEAD(form), (void *)packed, a.outputs, a.groups, taps, per, back);
    wrong |= memcmp(w, back, (size_t)(a.outputs * taps * per) * 4) != 0;
    wrong |= nm_run(&a) != 0;
    for (long i = 0; i < count; i++) {
        const long o = i % a.outputs, p = i / a.outputs, image = p / (a.out_height * a.out_width), y = p / a.out_width % a.out_height, c = p % a.out_width;
        double sum = a.bias ? bias[o] : 0;
        for (long t = 0; t < taps; t++) {
            const long iy = y * a.stride[0] - a.padding[0] + t / a.kernel[1] * a.dilation[0], ix = c * a.stride[1] - a.padding[1] + t % a.kernel[1] * a.dilation[1];
            if (iy < 0 || iy >= a.height || ix < 0 || ix >= a.width) continue;
            for (long k = 0; k < per; k++) sum += (double)w[(o * taps + t) * per + k] * x[((image * a.height + iy) * a.width + ix) * a.channels + o / each * per + k];
        }
        if (a.addend) sum += plain_addend[i];
        if (a.relu && sum < 0) sum = 0;
        float got;
        uint32_t bits = form == DOT ? (uint32_t)((uint16_t *)a.y)[i] << 16 : 0;
        if (form == DOT) memcpy(&got, &bits, 4);
        else got = ((float *)a.y)[i];
        wrong |= !(fabs(got - (form == DOT ? rounded((float)sum) : sum)) <= (form == DOT ? 1e-2 : 1e-4) * (1 + fabs(sum)));
    }
    if (a.x != (void *)x) free(x);
    if (addend != (void *)plain_addend) free(plain_addend);
    free((void *)a.x), free(addend), free(a.y), free(w), free(back), free(packed), free(bias);
    return wrong;
}

int main(void) {
    int failed = 0, done = 0;
    for (int turn = 0; turn < 60; turn++) for (int form = 0; form < FORMS; form++) if (nm_has(form)) failed += check(form), done++;
    printf("%d layers, %d wrong\n", done, failed);
    return failed != 0;
}
