/* The gradient of a 7×7 depthwise convolution's weights and bias, for channels_last tensors on a CPU.

   Sixteen channels at a time: their pixels are widened to float and laid out with a border of zeros, then the seven
   sums of a kernel row run through an image row in registers. Every sum is in fp32 and in an order that does not depend
   on the number of threads. Compiled by facerep.nets.depthwise, once for uint16_t (bfloat16) and once for float. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { K = 7, PAD = 3, TAPS = K * K + 1, LANES = 16, PARTS = 8 }; /* the last tap is the bias */
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef uint32_t bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t half __attribute__((vector_size(2 * LANES)));

/* n ≤ LANES neighbouring channels of one pixel as floats; the others are zero. */
static inline vec load(const PIXEL *p, int64_t n) {
  PIXEL part[LANES];
  if (n < LANES) {
    memset(part, 0, sizeof part);
    memcpy(part, p, n * sizeof(PIXEL));
    p = part;
  }
  vec out;
  if (sizeof(PIXEL) == 2) { /* a bfloat16 is the upper half of a float */
    half h;
    memcpy(&h, p, sizeof h);
    bits wide = __builtin_convertvector(h, bits) << 16;
    memcpy(&out, &wide, sizeof out);
  } else {
    memcpy(&out, p, sizeof out);
  }
  return out;
}

/* The sums of images b0 … b1-1 for the channels c0 … c0+n-1, into sum[TAPS]. */
static void sums_of(const PIXEL *x, const PIXEL *g, int64_t H, int64_t W, int64_t C, int64_t c0, int64_t n, int64_t b0,
                    int64_t b1, vec *padded, vec *row, vec *sum) {
  const int64_t wide = W + 2 * PAD;
  memset(sum, 0, TAPS * sizeof(vec));
  memset(padded, 0, (H + 2 * PAD) * wide * sizeof(vec));
  for (int64_t b = b0; b < b1; b++) {
    const PIXEL *xb = x + b * H * W * C + c0, *gb = g + b * H * W * C + c0;
    for (int64_t h = 0; h < H; h++)
      for (int64_t w = 0; w < W; w++) padded[(h + PAD) * wide + w + PAD] = load(xb + (h * W + w) * C, n);
    for (int64_t h = 0; h < H; h++) {
      for (int64_t w = 0; w < W; w++) sum[K * K] += row[w] = load(gb + (h * W + w) * C, n);
      for (int64_t i = h < PAD ? PAD - h : 0; i < K && h + i < H + PAD; i++) {
        const vec *q = padded + (h + i) * wide;
        vec *s = sum + i * K;
        vec s0 = s[0], s1 = s[1], s2 = s[2], s3 = s[3], s4 = s[4], s5 = s[5], s6 = s[6];
        for (int64_t w = 0; w < W; w++, q++) {
          s0 += row[w] * q[0], s1 += row[w] * q[1], s2 += row[w] * q[2], s3 += row[w] * q[3];
          s4 += row[w] * q[4], s5 += row[w] * q[5], s6 += row[w] * q[6];
        }
        s[0] = s0, s[1] = s1, s[2] = s2, s[3] = s3, s[4] = s4, s[5] = s5, s[6] = s6;
      }
    }
  }
}

/* x, g: B×H×W×C in memory. weight: C×7×7 and bias: C are written. Returns 0, or 1 when there is no memory. */
int depthwise_gradient(const PIXEL *x, const PIXEL *g, int64_t B, int64_t H, int64_t W, int64_t C, float *weight,
                       float *bias, int threads) {
  const int64_t blocks = (C + LANES - 1) / LANES, parts = B < PARTS ? B : PARTS;
  const int64_t area = (H + 2 * PAD) * (W + 2 * PAD), each = area + W + TAPS;
  int failed = 0;
  vec *all = aligned_alloc(sizeof(vec), blocks * parts * TAPS * sizeof(vec));
  if (!all) return 1;
#pragma omp parallel num_threads(threads) reduction(| : failed)
  {
    vec *own = aligned_alloc(sizeof(vec), each * sizeof(vec));
    failed = !own;
#pragma omp for schedule(static) collapse(2)
    for (int64_t p = 0; p < parts; p++)
      for (int64_t k = 0; k < blocks; k++)
        if (own) {
          int64_t c0 = k * LANES, n = C - c0 < LANES ? C - c0 : LANES;
          sums_of(x, g, H, W, C, c0, n, B * p / parts, B * (p + 1) / parts, own, own + area, own + area + W);
          memcpy(all + (k * parts + p) * TAPS, own + area + W, TAPS * sizeof(vec));
        }
    free(own);
  }
  for (int64_t k = 0; k < blocks && !failed; k++)
    for (int64_t t = 0; t < TAPS; t++) {
      vec total = {0};
      for (int64_t p = 0; p < parts; p++) total += all[(k * parts + p) * TAPS + t];
      for (int64_t c = k * LANES; c < C && c < (k + 1) * LANES; c++)
        *(t < K * K ? weight + c * K * K + t : bias + c) = total[c - k * LANES];
    }
  free(all);
  return failed;
}
