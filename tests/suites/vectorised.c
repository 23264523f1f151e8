/* Loops that a compiler turns into vector instructions, and their results. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define N 1037

static int32_t a[N], b[N];
static float f[N], g[N];
static double d[N];
static uint8_t u[N];
static int16_t s[N];
static uint32_t state = 12345;

static uint32_t next(void) { return state = state * 1664525u + 1013904223u; }

__attribute__((noinline)) static long dot(const int32_t *x, const int32_t *y, int n) {
    long sum = 0;
    for (int i = 0; i < n; i++) sum += (long)x[i] * y[i];
    return sum;
}
__attribute__((noinline)) static void axpy(float k, const float *x, float *y, int n) {
    for (int i = 0; i < n; i++) y[i] = k * x[i] + y[i];
}
__attribute__((noinline)) static void lengths(const float *x, double *y, int n) {
    for (int i = 0; i < n; i++) y[i] = sqrt(x[i] * x[i] + 1.0);
}
__attribute__((noinline)) static int above(const uint8_t *x, int n) {
    int count = 0;
    for (int i = 0; i < n; i++) count += x[i] > 100;
    return count;
}
__attribute__((noinline)) static void saturate(const int16_t *x, uint8_t *y, int n) {
    for (int i = 0; i < n; i++) {
        int v = x[i] >> 2;
        y[i] = v < 0 ? 0 : v > 255 ? 255 : v;
    }
}
__attribute__((noinline)) static void split(const int32_t *x, int32_t *p, int32_t *q, int n) {
    for (int i = 0; i < n; i++) p[i] = x[2 * i], q[i] = x[2 * i + 1];
}
__attribute__((noinline)) static int greatest(const int32_t *x, int n) {
    int m = x[0];
    for (int i = 1; i < n; i++)
        if (x[i] > m) m = x[i];
    return m;
}
__attribute__((noinline)) static void gather(const int32_t *x, const uint8_t *at, int32_t *y, int n) {
    for (int i = 0; i < n; i++) y[i] = x[at[i]] / 3 + (y[i] >> 3);
}
__attribute__((noinline)) static void reverse(int16_t *x, int n) {
    for (int i = 0; i < n / 2; i++) {
        int16_t t = x[i];
        x[i] = x[n - 1 - i];
        x[n - 1 - i] = t;
    }
}

int main(void) {
    int32_t p[N / 2], q[N / 2];
    char text[300];
    double total = 0;
    uint32_t hash = 0;

    for (int i = 0; i < N; i++) {
        a[i] = next(), b[i] = next() >> 7, f[i] = (int)next() / 1e6f, g[i] = i * 0.5f;
        u[i] = next() >> 24, s[i] = next() >> 16;
    }
    printf("%ld %d %d\n", dot(a, b, N), above(u, N), greatest(a, N));
    gather(a, u, b, N);
    axpy(1.5f, f, g, N);
    lengths(g, d, N);
    for (int i = 0; i < N; i++) total += d[i];
    printf("%.17g %.9g\n", total, g[77]);
    reverse(s, N);
    saturate(s, u, N);
    split(a, p, q, N / 2);
    for (int i = 0; i < N; i++) hash = hash * 31 + u[i] + b[i];
    for (int i = 0; i < N / 2; i++) hash = hash * 33 + p[i] * 3 + q[i];
    memset(text, 'x', 299);
    text[299] = 0;
    printf("%u %zu %d\n", hash, strlen(text), strchr(text, 'y') != 0);
    return 0;
}
