// The C side of package ffmpeg: one decoder, its last picture, and the scalers that read it.
#ifndef SIGHTLINE_DECODER_H
#define SIGHTLINE_DECODER_H

#include <stdint.h>

enum { SL_H264 = 1, SL_H265 = 2, SL_MJPEG = 3 };

// Results of sl_decode besides negative AVERROR codes.
enum { SL_NOTHING = 0, SL_PICTURE = 1 };

typedef struct sl_decoder sl_decoder;

typedef struct {
	int width, height;
	int64_t pts; // the id given to sl_decode with the access unit this picture was coded in
	int damaged;
} sl_picture;

// Routes FFmpeg's log lines away from stderr: the last one of each thread is kept for sl_error.
void sl_log_init(void);

sl_decoder *sl_open(int codec);
void sl_close(sl_decoder *d);
int sl_decode(sl_decoder *d, const uint8_t *data, int len, int64_t id, sl_picture *out);

// Scales the last picture. Both return 0 or a negative AVERROR; sl_jpeg sets *len.
int sl_rgb(sl_decoder *d, uint8_t *dst, int w, int h);
int sl_jpeg(sl_decoder *d, uint8_t *dst, unsigned long *len, int w, int h, int quality);

// Mean luma of the cells of a w x h grid over the last picture, full range, in 256ths of a grey level. It looks at a few rows
// of each cell. Returns 0 or a negative AVERROR.
int sl_luma(sl_decoder *d, uint16_t *dst, int w, int h);

// Describes an AVERROR together with the last log line of the calling thread.
void sl_error(int err, char *dst, int len);

#endif
