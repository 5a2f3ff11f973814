#include "quality.h"

#include <math.h>
#include <string.h>

/* Every loop below is written for GCC's vectoriser; the fastest clone for the CPU is chosen when the program starts. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("avx2", "default")))
#else
#define CLONES
#endif

enum { CHUNK = 2048, MAX_SIDE = 16384 }; /* a chunk's sums of squares fit 32 bits: 2048 * 1020 * 1020 */

static inline int max_int(int a, int b) { return a > b ? a : b; }
static inline int min_int(int a, int b) { return a < b ? a : b; }

/* Grey and the sums of single pixels, n <= CHUNK. The reciprocal is that of OpenCV's table: a float quotient rounds to
 * the same integer for all 255 divisors. */
CLONES void sightline_pixels(const uint8_t *restrict bgr, int n, uint8_t *restrict grey, uint32_t *restrict sums) {
	uint32_t luma = 0, luma_sq = 0, saturation = 0;
	for (int i = 0; i < n; i++) {
		int b = bgr[3 * i], g = bgr[3 * i + 1], r = bgr[3 * i + 2];
		int v = (r * 9798 + g * 19235 + b * 3735 + (1 << 14)) >> 15;
		grey[i] = (uint8_t)v;
		luma += (uint32_t)v;
		luma_sq += (uint32_t)(v * v);
		int top = max_int(b, max_int(g, r)), low = min_int(b, min_int(g, r));
		int reciprocal = (int)rintf((float)(255 << 12) / (float)max_int(top, 1));
		saturation += (uint32_t)(((top - low) * reciprocal + (1 << 11)) >> 12);
	}
	sums[0] = luma, sums[1] = luma_sq, sums[2] = saturation;
}

/* The Laplacian of n <= CHUNK pixels that have neighbours on both sides. */
CLONES void sightline_edges(const uint8_t *up, const uint8_t *row, const uint8_t *down, int n, int32_t *sum, uint32_t *sum_sq) {
	int32_t s = 0;
	uint32_t sq = 0;
	for (int i = 0; i < n; i++) {
		int e = up[i] + down[i] + row[i - 1] + row[i + 1] - 4 * row[i];
		s += e;
		sq += (uint32_t)(e * e);
	}
	*sum = s, *sum_sq = sq;
}

CLONES void sightline_add_row(uint32_t *restrict columns, const uint8_t *restrict row, int n) {
	for (int i = 0; i < n; i++) {
		columns[i] += row[i];
	}
}

static void border_edge(const uint8_t *up, const uint8_t *row, const uint8_t *down, int at, int inner, sightline_sums *out) {
	int e = up[at] + down[at] + 2 * row[inner] - 4 * row[at]; /* reflect-101: both neighbours are the inner one */
	out->edge += e;
	out->edge_sq += (int64_t)e * e;
}

static void edges(const uint8_t *grey, int width, int height, sightline_sums *out) {
	for (int y = 0; y < height; y++) {
		const uint8_t *row = grey + (size_t)y * width;
		const uint8_t *up = y > 0 ? row - width : row + (height > 1 ? width : 0);
		const uint8_t *down = y < height - 1 ? row + width : row - (height > 1 ? width : 0);
		border_edge(up, row, down, 0, min_int(1, width - 1), out);
		if (width > 1) {
			border_edge(up, row, down, width - 1, width - 2, out);
		}
		for (int x = 1; x < width - 1; x += CHUNK) {
			int32_t sum;
			uint32_t sum_sq;
			sightline_edges(up + x, row + x, down + x, min_int(CHUNK, width - 1 - x), &sum, &sum_sq);
			out->edge += sum;
			out->edge_sq += sum_sq;
		}
	}
}

static int cell_from(int i, int n) { return i * n / SIGHTLINE_CELLS; }
static int cell_to(int i, int n) { return max_int((i + 1) * n / SIGHTLINE_CELLS, cell_from(i, n) + 1); }

static void cells(const uint8_t *grey, int width, int height, sightline_sums *out) {
	uint32_t columns[MAX_SIDE];
	for (int i = 0; i < SIGHTLINE_CELLS; i++) {
		memset(columns, 0, sizeof(columns[0]) * (size_t)width);
		for (int y = cell_from(i, height); y < cell_to(i, height); y++) {
			sightline_add_row(columns, grey + (size_t)y * width, width);
		}
		for (int j = 0; j < SIGHTLINE_CELLS; j++) {
			uint32_t sum = 0;
			for (int x = cell_from(j, width); x < cell_to(j, width); x++) {
				sum += columns[x];
			}
			out->cells[i * SIGHTLINE_CELLS + j] = sum;
		}
	}
}

void sightline_measure(const uint8_t *bgr, size_t stride, int width, int height, uint8_t *grey, sightline_sums *out) {
	memset(out, 0, sizeof(*out));
	for (int y = 0; y < height; y++) {
		for (int x = 0; x < width; x += CHUNK) {
			uint32_t sums[3];
			sightline_pixels(bgr + (size_t)y * stride + (size_t)3 * x, min_int(CHUNK, width - x), grey + (size_t)y * width + x, sums);
			out->luma += sums[0];
			out->luma_sq += sums[1];
			out->saturation += sums[2];
		}
	}
	edges(grey, width, height, out);
	cells(grey, width, height, out);
}
