package ingest

import (
	"context"
	"time"
)

// Codec names the coding of a stream of access units.
type Codec string

// The codecs that a [Source] may deliver and a [Decoder] must accept.
const (
	H264  Codec = "h264"
	H265  Codec = "h265"
	MJPEG Codec = "mjpeg"
)

// An AccessUnit is one coded picture.
type AccessUnit struct {
	Codec Codec

	// Data is Annex B for H.264 and H.265, where key frames carry their parameter sets, and one complete
	// JPEG for MJPEG. It belongs to the receiver: the source does not touch it again.
	Data []byte

	// PTS is the presentation time on the camera's own clock, counted from an arbitrary start. It is monotonic
	// only as far as the camera is, and starts anew with every connection.
	PTS time.Duration

	// Received is when the last packet of the unit arrived here.
	Received time.Time

	// Key is true when decoding can start here.
	Key bool

	// AfterLoss is true when packets were lost between the previous unit and this one. The unit itself is whole:
	// sources drop those that are not.
	AfterLoss bool
}

// A Source is one camera protocol.
type Source interface {
	// Run connects, hands every access unit to sink in order, and blocks until ctx ends or the session fails.
	// Its error carries a [Cause] and no password. sink never blocks and is called from one goroutine at a time;
	// it is not called after Run has returned. Run may be called again after it has returned, which is how a
	// [Session] reconnects: what a source learnt (say, the transport that works) it may keep.
	Run(ctx context.Context, sink func(AccessUnit)) error
}

// A Decoder turns the access units of one stream into pictures. It is not safe for concurrent use.
type Decoder interface {
	// Decode takes one access unit and returns the next picture in presentation order, if there is one:
	// nil, nil means that the decoder holds it back or had nothing to show. An error concerns this unit only;
	// the decoder stays usable and finds its way back at the next key frame.
	Decode(au AccessUnit) (Picture, error)

	// Close frees the decoder and its pictures. It may be called twice.
	Close()
}

// A Picture is one decoded picture. It is valid until the next Decode or Close of the decoder that made it,
// and is not safe for concurrent use.
type Picture interface {
	// Size is in pixels, as coded (after cropping).
	Size() (width, height int)

	// PTS is that of the access unit the picture was coded in.
	PTS() time.Duration

	// Received is that of the access unit the picture was coded in.
	Received() time.Time

	// Damaged is true when the decoder had to conceal errors.
	Damaged() bool

	// JPEG scales the picture to w x h pixels, without keeping its aspect ratio, and appends a JFIF file (BT.601,
	// full range, 4:2:0) to dst. quality is 1 to 100.
	JPEG(dst []byte, w, h, quality int) ([]byte, error)

	// RGB scales the picture to w x h pixels, without keeping its aspect ratio, and writes packed 8-bit
	// R, G, B rows without padding into the first w*h*3 bytes of dst.
	RGB(dst []byte, w, h int) error

	// Luma writes the mean luma of the cells of a w x h grid over the picture into the first w*h values of dst, full
	// range, in 256ths of a grey level. A picture with fewer pixels than that, or with a pixel format that has no plane of luma,
	// is an error.
	Luma(dst []uint16, w, h int) error
}

// SourceStats are a source's own counters, since it was made.
type SourceStats struct {
	PacketsLost    uint64 // packets that never arrived
	UnitsDropped   uint64 // access units that were not whole and not handed on
	PayloadErrors  uint64 // packets that made no sense
	Transport      string // what the last connection used, such as "udp" or "tcp"
	TransportFalls uint64 // connections that had to fall back to another transport

	AnnouncedFPS float64      // pictures a second that the last connection's description promised; 0: it did not say
	Report       SenderReport // the last one
}

// SenderReport is what a camera says its time of day is.
type SenderReport struct {
	NTP      time.Time // its clock when it sent the report
	Received time.Time // ours when that came
}

// A CountingSource is a [Source] that counts what it had to leave out; [Session.Stats] includes it. SourceStats may be
// called at any time.
type CountingSource interface {
	Source
	SourceStats() SourceStats
}
