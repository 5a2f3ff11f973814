#include "decoder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libavcodec/avcodec.h>
#include <libavutil/imgutils.h>
#include <libavutil/log.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
#include <turbojpeg.h>

// A scaler and what it was made for. sws_getCachedContext would do, but does not know colours.
typedef struct {
	struct SwsContext *sws;
	struct scaler_key {
		int sw, sh, format, full, matrix, dw, dh;
	} key;
} scaler;

struct sl_decoder {
	AVCodecContext *ctx;
	AVPacket *pkt;
	AVFrame *frame;
	uint8_t *in; // the access unit, with FFmpeg's padding behind it
	unsigned int in_size;
	scaler to_rgb, to_yuv;
	tjhandle jpeg;
	uint8_t *planes[4]; // I420 at the size of the last JPEG
	int strides[4], w, h;
	uint8_t *rgb; // one scaled picture with the slack behind each row that swscale's SIMD may write to
	unsigned int rgb_size;
};

static _Thread_local char last_log[160];

static void on_log(void *avcl, int level, const char *fmt, va_list args) {
	(void)avcl;
	if (level <= AV_LOG_ERROR) vsnprintf(last_log, sizeof last_log, fmt, args);
}

void sl_log_init(void) { av_log_set_callback(on_log); }

void sl_error(int err, char *dst, int len) {
	char text[AV_ERROR_MAX_STRING_SIZE] = {0};
	av_strerror(err, text, sizeof text);
	last_log[strcspn(last_log, "\r\n")] = 0;
	if (last_log[0]) snprintf(dst, len, "%s (%s)", text, last_log);
	else snprintf(dst, len, "%s", text);
}

sl_decoder *sl_open(int codec) {
	enum AVCodecID id = codec == SL_H264 ? AV_CODEC_ID_H264 : codec == SL_H265 ? AV_CODEC_ID_HEVC : AV_CODEC_ID_MJPEG;
	const AVCodec *c = avcodec_find_decoder(id);
	sl_decoder *d = c ? calloc(1, sizeof *d) : NULL;
	if (!d) return NULL;
	d->ctx = avcodec_alloc_context3(c);
	d->pkt = av_packet_alloc();
	d->frame = av_frame_alloc();
	d->jpeg = tjInitCompress();
	if (d->ctx && d->pkt && d->frame && d->jpeg) {
		d->ctx->thread_count = 1; // frame threads hold pictures back
		d->ctx->max_pixels = 8192LL * 8192; // a damaged SPS must not make us allocate gigabytes
		if (avcodec_open2(d->ctx, c, NULL) == 0) return d;
	}
	sl_close(d);
	return NULL;
}

void sl_close(sl_decoder *d) {
	if (!d) return;
	sws_freeContext(d->to_rgb.sws);
	sws_freeContext(d->to_yuv.sws);
	if (d->jpeg) tjDestroy(d->jpeg);
	av_freep(&d->planes[0]);
	av_freep(&d->in);
	av_freep(&d->rgb);
	av_frame_free(&d->frame);
	av_packet_free(&d->pkt);
	avcodec_free_context(&d->ctx);
	free(d);
}

int sl_decode(sl_decoder *d, const uint8_t *data, int len, int64_t id, sl_picture *out) {
	last_log[0] = 0;
	av_frame_unref(d->frame);
	av_fast_padded_malloc(&d->in, &d->in_size, len);
	if (!d->in) return AVERROR(ENOMEM);
	memcpy(d->in, data, len);
	d->pkt->data = d->in;
	d->pkt->size = len;
	d->pkt->pts = id;
	int sent = avcodec_send_packet(d->ctx, d->pkt);
	int got = avcodec_receive_frame(d->ctx, d->frame);
	if (sent == AVERROR(EAGAIN) && got == 0) sent = avcodec_send_packet(d->ctx, d->pkt);
	if (got == 0 && d->frame->data[0]) {
		out->width = d->frame->width;
		out->height = d->frame->height;
		out->pts = d->frame->pts;
		out->damaged = d->frame->decode_error_flags != 0 || (d->frame->flags & AV_FRAME_FLAG_CORRUPT) != 0;
		return SL_PICTURE;
	}
	if (sent < 0) return sent;
	return got == AVERROR(EAGAIN) || got == AVERROR_EOF || got == 0 ? SL_NOTHING : got;
}

// The deprecated J formats say in the format what the colour range says better.
static enum AVPixelFormat plain_format(enum AVPixelFormat f, int *full) {
	switch (f) {
	case AV_PIX_FMT_YUVJ420P: *full = 1; return AV_PIX_FMT_YUV420P;
	case AV_PIX_FMT_YUVJ422P: *full = 1; return AV_PIX_FMT_YUV422P;
	case AV_PIX_FMT_YUVJ444P: *full = 1; return AV_PIX_FMT_YUV444P;
	case AV_PIX_FMT_YUVJ440P: *full = 1; return AV_PIX_FMT_YUV440P;
	case AV_PIX_FMT_YUVJ411P: *full = 1; return AV_PIX_FMT_YUV411P;
	default: return f;
	}
}

// Readies s for the last picture and returns its context; NULL if that cannot be.
static struct SwsContext *prepare(const AVFrame *f, scaler *s, enum AVPixelFormat dst, int w, int h) {
	if (!f->data[0] || w <= 0 || h <= 0) return NULL; // sws_scale would abort the process
	int full = f->color_range == AVCOL_RANGE_JPEG;
	enum AVPixelFormat src = plain_format(f->format, &full);
	int matrix = f->colorspace == AVCOL_SPC_UNSPECIFIED ? SWS_CS_DEFAULT : f->colorspace;
	struct scaler_key key = {f->width, f->height, src, full, matrix, w, h};
	if (s->sws && memcmp(&key, &s->key, sizeof key) == 0) return s->sws;
	sws_freeContext(s->sws);
	s->sws = sws_alloc_context();
	if (!s->sws) return NULL;
	s->key = key;
	// AREA averages what it shrinks: as smooth as a detector wants, at the price of bilinear.
	int flags = (w < f->width || h < f->height ? SWS_AREA : SWS_BILINEAR) | SWS_ACCURATE_RND;
	av_opt_set_int(s->sws, "srcw", f->width, 0);
	av_opt_set_int(s->sws, "srch", f->height, 0);
	av_opt_set_int(s->sws, "src_format", src, 0);
	av_opt_set_int(s->sws, "src_range", full, 0); // must be known at init, which may choose a plain copy
	av_opt_set_int(s->sws, "dstw", w, 0);
	av_opt_set_int(s->sws, "dsth", h, 0);
	av_opt_set_int(s->sws, "dst_format", dst, 0);
	av_opt_set_int(s->sws, "dst_range", 1, 0);
	av_opt_set_int(s->sws, "sws_flags", flags, 0);
	// YUV to YUV keeps the matrix here (swscale would make a detour through RGB); sl_jpeg turns it afterwards.
	const int *from = sws_getCoefficients(matrix);
	const int *to = dst == AV_PIX_FMT_RGB24 ? sws_getCoefficients(SWS_CS_DEFAULT) : from;
	if (sws_init_context(s->sws, NULL, NULL) < 0) {
		sws_freeContext(s->sws);
		return s->sws = NULL;
	}
	sws_setColorspaceDetails(s->sws, from, full, to, 1, 0, 1 << 16, 1 << 16);
	return s->sws;
}

static int scale(struct SwsContext *sws, const AVFrame *f, uint8_t *const planes[4], const int strides[4], int h) {
	int n = sws_scale(sws, (const uint8_t *const *)f->data, f->linesize, 0, f->height, planes, strides);
	return n == h ? 0 : n < 0 ? n : AVERROR(EINVAL);
}

int sl_rgb(sl_decoder *d, uint8_t *dst, int w, int h) {
	struct SwsContext *sws = prepare(d->frame, &d->to_rgb, AV_PIX_FMT_RGB24, w, h);
	if (!sws) return AVERROR(EINVAL);
	size_t row = (size_t)w * 3, stride = FFALIGN(row + 32, 64);
	av_fast_malloc(&d->rgb, &d->rgb_size, stride * h);
	if (!d->rgb) return AVERROR(ENOMEM);
	uint8_t *planes[4] = {d->rgb};
	int strides[4] = {(int)stride};
	int err = scale(sws, d->frame, planes, strides, h);
	if (err) return err;
	for (int y = 0; y < h; y++) memcpy(dst + y * row, d->rgb + y * stride, row);
	return 0;
}

enum { LUMA_ROWS = 8 }; // of a cell that are looked at

static uint64_t sum_row(const uint8_t *row, int from, int to, int wide) {
	uint64_t sum = 0;
	if (wide) {
		for (int x = from; x < to; x++) sum += row[2 * x] | row[2 * x + 1] << 8;
		return sum;
	}
	uint32_t part = 0; // 16k pixels of 255 fit
	for (int x = from; x < to; x++) part += row[x];
	return part;
}

int sl_luma(sl_decoder *d, uint16_t *dst, int w, int h) {
	const AVFrame *f = d->frame;
	if (!f->data[0] || w < 1 || h < 1 || w > f->width || h > f->height) return AVERROR(EINVAL);
	int full = f->color_range == AVCOL_RANGE_JPEG;
	const AVPixFmtDescriptor *desc = av_pix_fmt_desc_get(plain_format(f->format, &full));
	if (!desc || desc->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_BE | AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_BITSTREAM)) return AVERROR(ENOSYS);
	const AVComponentDescriptor *c = &desc->comp[0];
	int wide = c->depth > 8;
	if (c->plane != 0 || c->offset != 0 || c->step != 1 + wide || c->depth > 16) return AVERROR(ENOSYS);
	double unit = (double)(1 << c->shift) * (1 << (c->depth - 8)), low = full ? 0 : 16, span = full ? 255 : 219;
	for (int j = 0; j < h; j++) {
		int y0 = (int)((int64_t)j * f->height / h), y1 = (int)((int64_t)(j + 1) * f->height / h);
		int step = (y1 - y0 + LUMA_ROWS - 1) / LUMA_ROWS;
		for (int i = 0; i < w; i++) {
			int x0 = (int)((int64_t)i * f->width / w), x1 = (int)((int64_t)(i + 1) * f->width / w), rows = 0;
			uint64_t sum = 0;
			for (int y = y0; y < y1; y += step, rows++) sum += sum_row(f->data[0] + (ptrdiff_t)y * f->linesize[0], x0, x1, wide);
			double v = ((double)sum / ((double)rows * (x1 - x0)) / unit - low) * 255 / span;
			dst[j * w + i] = (uint16_t)((v < 0 ? 0 : v > 255 ? 255 : v) * 256 + 0.5);
		}
	}
	return 0;
}

static uint8_t clip(int v) { return v < 0 ? 0 : v > 255 ? 255 : v; }

// Turns full-range BT.709 into full-range BT.601, which is what JFIF means by YCbCr. Fixed point, 16 bits.
static void bt709_to_601(uint8_t *const planes[4], const int strides[4], int w, int h) {
	for (int y = 0; y < h; y++) {
		uint8_t *l = planes[0] + (size_t)y * strides[0];
		const uint8_t *u = planes[1] + (size_t)(y / 2) * strides[1], *v = planes[2] + (size_t)(y / 2) * strides[2];
		for (int x = 0; x < w; x++) l[x] = clip(l[x] + ((6657 * (u[x / 2] - 128) + 12850 * (v[x / 2] - 128) + 32768) >> 16));
	}
	for (int y = 0; y < (h + 1) / 2; y++) {
		uint8_t *u = planes[1] + (size_t)y * strides[1], *v = planes[2] + (size_t)y * strides[2];
		for (int x = 0; x < (w + 1) / 2; x++) {
			int cb = u[x] - 128, cr = v[x] - 128;
			u[x] = clip(128 + ((64871 * cb - 7252 * cr + 32768) >> 16));
			v[x] = clip(128 + ((-4748 * cb + 64448 * cr + 32768) >> 16));
		}
	}
}

int sl_jpeg(sl_decoder *d, uint8_t *dst, unsigned long *len, int w, int h, int quality) {
	struct SwsContext *sws = prepare(d->frame, &d->to_yuv, AV_PIX_FMT_YUV420P, w, h);
	if (!sws) return AVERROR(EINVAL);
	int err = 0;
	if (d->w != w || d->h != h) {
		av_freep(&d->planes[0]);
		d->w = d->h = 0;
		err = av_image_alloc(d->planes, d->strides, w, h, AV_PIX_FMT_YUV420P, 64);
		if (err < 0) return err;
		d->w = w;
		d->h = h;
	}
	err = scale(sws, d->frame, d->planes, d->strides, h);
	if (err) return err;
	if (d->frame->colorspace == AVCOL_SPC_BT709) bt709_to_601(d->planes, d->strides, w, h);
	int flags = TJFLAG_NOREALLOC | (quality < 96 ? TJFLAG_FASTDCT : TJFLAG_ACCURATEDCT);
	const uint8_t *planes[3] = {d->planes[0], d->planes[1], d->planes[2]};
	if (tjCompressFromYUVPlanes(d->jpeg, planes, w, d->strides, h, TJSAMP_420, &dst, len, quality, flags) == 0) return 0;
	snprintf(last_log, sizeof last_log, "%s", tjGetErrorStr2(d->jpeg));
	return AVERROR_EXTERNAL;
}
