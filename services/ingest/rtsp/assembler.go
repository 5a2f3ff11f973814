package rtsp

import (
	"errors"
	"fmt"
	"time"

	"github.com/bluenviron/gortsplib/v4/pkg/format"
	"github.com/bluenviron/gortsplib/v4/pkg/format/rtph264"
	"github.com/bluenviron/gortsplib/v4/pkg/format/rtph265"
	"github.com/bluenviron/gortsplib/v4/pkg/format/rtpmjpeg"
	"github.com/pion/rtp"

	"github.com/sightline-dev/sightline/services/ingest"
)

// unpack turns the packets of one picture into its NAL units (or one JPEG). It returns nil with an error until the
// last packet came.
type unpack func(*rtp.Packet) ([][]byte, error)

// assembler makes access units out of RTP packets, and hands on only whole ones: a picture with a hole would be
// decoded into garbage that carries no flag. It is used by one goroutine.
type assembler struct {
	codec   ingest.Codec
	rate    int64 // RTP clock, Hz
	restart func() (unpack, error)
	sink    func(ingest.AccessUnit)
	now     func() time.Time
	params  paramSets

	unpack    unpack
	lost      bool // packets were lost just before the next packet
	afterLoss bool // something was lost since the last unit handed on
	open      bool // some packets of the picture at ts are in
	ts        uint32
	skipping  bool // the rest of the picture at skipTS is useless
	skipTS    uint32

	clock struct {
		started bool
		last    uint32
		ticks   int64
	}

	dropped, bad uint64 // units left out, packets that made no sense
}

func newAssembler(f format.Format, now func() time.Time, sink func(ingest.AccessUnit)) (*assembler, error) {
	a := &assembler{rate: int64(f.ClockRate()), sink: sink, now: now}
	switch f := f.(type) {
	case *format.H264:
		a.codec = ingest.H264
		a.params.set(a.codec, f.SPS, f.PPS)
		a.restart = func() (unpack, error) {
			d, err := f.CreateDecoder()
			if err != nil {
				return nil, err
			}
			return d.Decode, nil
		}
	case *format.H265:
		a.codec = ingest.H265
		a.params.set(a.codec, f.VPS, f.SPS, f.PPS)
		a.restart = func() (unpack, error) {
			d, err := f.CreateDecoder()
			if err != nil {
				return nil, err
			}
			return d.Decode, nil
		}
	case *format.MJPEG:
		a.codec = ingest.MJPEG
		a.restart = func() (unpack, error) {
			d, err := f.CreateDecoder()
			if err != nil {
				return nil, err
			}
			return func(p *rtp.Packet) ([][]byte, error) {
				jpeg, err := d.Decode(p)
				if err != nil {
					return nil, err
				}
				return [][]byte{jpeg}, nil
			}, nil
		}
	default:
		return nil, fmt.Errorf("codec %s is not supported", f.Codec())
	}
	var err error
	a.unpack, err = a.restart()
	return a, err
}

// packetsLost is called before the packet that follows the hole.
func (a *assembler) packetsLost() { a.lost = true }

func (a *assembler) packet(p *rtp.Packet) {
	if a.lost {
		a.lost, a.afterLoss = false, true
		if a.open { // its end may be in the hole, or its middle: either way it is not whole
			a.skipping, a.skipTS = p.Timestamp == a.ts, a.ts
			a.drop()
		}
	}
	if a.skipping && p.Timestamp == a.skipTS {
		a.skipping = !p.Marker
		return
	}
	a.skipping = false

	nalus, err := a.decode(p)
	switch {
	case isIncomplete(err):
		a.open, a.ts = true, p.Timestamp
		return
	case isMidway(err):
		a.skipping, a.skipTS = !p.Marker, p.Timestamp
		return
	case err != nil:
		a.bad++
		a.afterLoss = true
		a.skipping, a.skipTS = !p.Marker, p.Timestamp
		a.drop()
		return
	}
	ts := p.Timestamp
	if a.open && a.ts != ts { // a camera without marker bits: the packet closed the picture before it
		ts, a.ts = a.ts, ts
	} else {
		a.open = false
	}
	a.emit(nalus, ts)
}

// decode keeps a panic of the depacketizer, which chews on bytes from outside, from ending the process.
func (a *assembler) decode(p *rtp.Packet) (nalus [][]byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			nalus, err = nil, fmt.Errorf("depacketizer: %v", r)
		}
	}()
	return a.unpack(p)
}

// drop forgets the picture in progress.
func (a *assembler) drop() {
	a.dropped++
	a.open = false
	if u, err := a.restart(); err == nil { // it worked before, with the same parameters
		a.unpack = u
	}
}

func (a *assembler) emit(nalus [][]byte, ts uint32) {
	unit := ingest.AccessUnit{Codec: a.codec, PTS: a.pts(ts), Received: a.now()}
	switch a.codec {
	case ingest.MJPEG:
		unit.Data, unit.Key = nalus[0], true
	default:
		pic := a.params.take(a.codec, nalus)
		if !pic.coded {
			return
		}
		if !pic.fromStart { // its first slices are in a hole, or were never sent
			a.dropped++
			a.afterLoss = true
			return
		}
		unit.Key = pic.key
		unit.Data = a.params.annexB(a.codec, nalus, pic)
	}
	unit.AfterLoss = a.afterLoss
	a.afterLoss = false
	a.sink(unit)
}

// pts unrolls the 32-bit RTP clock.
func (a *assembler) pts(ts uint32) time.Duration {
	if !a.clock.started {
		a.clock.started, a.clock.last = true, ts
	}
	a.clock.ticks += int64(int32(ts - a.clock.last)) //nolint:gosec // the wrap is the point
	a.clock.last = ts
	whole, rest := a.clock.ticks/a.rate, a.clock.ticks%a.rate
	return time.Duration(whole)*time.Second + time.Duration(rest)*time.Second/time.Duration(a.rate)
}

func isIncomplete(err error) bool {
	return errors.Is(err, rtph264.ErrMorePacketsNeeded) || errors.Is(err, rtph265.ErrMorePacketsNeeded) ||
		errors.Is(err, rtpmjpeg.ErrMorePacketsNeeded)
}

// isMidway is what a depacketizer says when we joined in the middle of a picture.
func isMidway(err error) bool {
	return errors.Is(err, rtph264.ErrNonStartingPacketAndNoPrevious) ||
		errors.Is(err, rtph265.ErrNonStartingPacketAndNoPrevious) ||
		errors.Is(err, rtpmjpeg.ErrNonStartingPacketAndNoPrevious)
}
