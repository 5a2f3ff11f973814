#ifndef SIGHTLINE_QUALITY_H
#define SIGHTLINE_QUALITY_H

#include <stddef.h>
#include <stdint.h>

enum { SIGHTLINE_CELLS = 32 };

typedef struct {
	int64_t luma, luma_sq, edge, edge_sq, saturation;
	uint32_t cells[SIGHTLINE_CELLS * SIGHTLINE_CELLS];
} sightline_sums;

/* Adds up width x height pixels of 8-bit B, G, R whose rows are stride bytes apart. grey is room for width*height
 * bytes; neither side may exceed 16384. See package quality for the definitions. */
void sightline_measure(const uint8_t *bgr, size_t stride, int width, int height, uint8_t *grey, sightline_sums *out);

#endif
