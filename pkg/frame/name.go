package frame

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sightline-dev/sightline/streams"
)

// Name is the one name of a frame, everywhere: in messages, metrics, traces and the ledger.
type Name struct {
	Camera string // the operator's name for the camera
	Epoch  uint64 // revision of the lease under which the camera was owned; only grows, so it is a fencing token
	Seq    uint64 // counts captured frames of that epoch from 1, without holes
}

// String is <camera>/<epoch>/<seq>.
func (n Name) String() string {
	return n.Camera + "/" + strconv.FormatUint(n.Epoch, 10) + "/" + strconv.FormatUint(n.Seq, 10)
}

// ParseName is the inverse of String.
func ParseName(s string) (Name, error) {
	camera, rest, ok := strings.Cut(s, "/")
	epoch, seq, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 {
		return Name{}, fmt.Errorf("frame name %q: want <camera>/<epoch>/<seq>", s)
	}
	if err := streams.CheckToken(camera); err != nil {
		return Name{}, fmt.Errorf("frame name %q: %w", s, err)
	}
	e, err := parsePositive(epoch)
	if err != nil {
		return Name{}, fmt.Errorf("frame name %q: epoch: %w", s, err)
	}
	q, err := parsePositive(seq)
	if err != nil {
		return Name{}, fmt.Errorf("frame name %q: seq: %w", s, err)
	}
	return Name{Camera: camera, Epoch: e, Seq: q}, nil
}

// parsePositive accepts only the form that String writes, so that one frame has one name.
func parsePositive(s string) (uint64, error) {
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil || v == 0 || strconv.FormatUint(v, 10) != s {
		return 0, fmt.Errorf("%q is not a positive number", s)
	}
	return v, nil
}
