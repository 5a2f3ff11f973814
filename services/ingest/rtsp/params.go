package rtsp

import (
	"github.com/sightline-dev/sightline/services/ingest"
)

// NAL unit types (ITU-T H.264 table 7-1, H.265 table 7-1).
const (
	h264Slice, h264IDR, h264SPS, h264PPS, h264AUD = 1, 5, 7, 8, 9

	h265LastVCL                        = 31
	h265BLA, h265CRA                   = 16, 21 // the range of random access pictures
	h265VPS, h265SPS, h265PPS, h265AUD = 32, 33, 34, 35
)

// paramSets remembers the newest parameter sets, first those of the SDP, then those in the stream, so that a key
// frame never arrives at the decoder without. The zero value knows none.
type paramSets struct {
	byKind [3][][]byte // VPS, SPS, PPS
}

// picture is what take learnt about the NAL units of one access unit.
type picture struct {
	coded     bool // it holds a slice at all
	key       bool
	fromStart bool // its first slice is the first of the picture
	carries   [3]bool
}

func naluType(codec ingest.Codec, nalu []byte) int {
	if codec == ingest.H264 {
		return int(nalu[0] & 0x1F)
	}
	return int(nalu[0]>>1) & 0x3F
}

// paramKind is 0, 1, 2 for VPS, SPS, PPS, or -1.
func paramKind(codec ingest.Codec, typ int) int {
	if codec == ingest.H265 && typ >= h265VPS && typ <= h265PPS {
		return typ - h265VPS
	}
	if codec == ingest.H264 && (typ == h264SPS || typ == h264PPS) {
		return typ - h264SPS + 1
	}
	return -1
}

func (p *paramSets) set(codec ingest.Codec, nalus ...[]byte) {
	for _, n := range nalus {
		if len(n) == 0 {
			continue
		}
		if kind := paramKind(codec, naluType(codec, n)); kind >= 0 {
			p.byKind[kind] = [][]byte{n}
		}
	}
}

// take looks at one access unit and keeps its parameter sets: all of a kind together replace those known of it.
func (p *paramSets) take(codec ingest.Codec, nalus [][]byte) picture {
	var pic picture
	for _, n := range nalus {
		if len(n) == 0 {
			continue
		}
		typ := naluType(codec, n)
		if kind := paramKind(codec, typ); kind >= 0 {
			if !pic.carries[kind] {
				pic.carries[kind] = true
				p.byKind[kind] = nil
			}
			p.byKind[kind] = append(p.byKind[kind], n)
			continue
		}
		slice, key, first := sliceOf(codec, typ, n)
		if slice && !pic.coded {
			pic.coded, pic.fromStart = true, first
		}
		pic.key = pic.key || key
	}
	return pic
}

// sliceOf reads a NAL unit's header and the one bit behind it that says whether a slice is the first of its picture
// (H.264: first_mb_in_slice is ue(0), which is a single 1).
func sliceOf(codec ingest.Codec, typ int, n []byte) (slice, key, first bool) {
	if codec == ingest.H264 {
		slice = typ >= h264Slice && typ <= h264IDR
		// Data partitions B and C carry no slice position; nobody's camera sends them.
		return slice, typ == h264IDR, slice && len(n) > 1 && n[1]&0x80 != 0
	}
	slice = typ <= h265LastVCL
	return slice, slice && typ >= h265BLA && typ <= h265CRA, slice && len(n) > 2 && n[2]&0x80 != 0
}

// annexB joins the NAL units with start codes and gives a key frame the parameter sets that it lacks.
func (p *paramSets) annexB(codec ingest.Codec, nalus [][]byte, pic picture) []byte {
	var all [][]byte
	if pic.key {
		for kind, sets := range p.byKind {
			if !pic.carries[kind] {
				all = append(all, sets...)
			}
		}
	}
	for _, n := range nalus {
		if len(n) == 0 {
			continue
		}
		if typ := naluType(codec, n); codec == ingest.H264 && typ == h264AUD || codec == ingest.H265 && typ == h265AUD {
			continue // it would have to come first, and says nothing
		}
		all = append(all, n)
	}
	size := 0
	for _, n := range all {
		size += 4 + len(n)
	}
	data := make([]byte, 0, size)
	for _, n := range all {
		data = append(data, 0, 0, 0, 1)
		data = append(data, n...)
	}
	return data
}
