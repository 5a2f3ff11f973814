package frame

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/streams"
)

// Headers that only a tensor message has.
const (
	HeaderModel     = "Sightline-Model"
	HeaderLane      = "Sightline-Lane"
	HeaderShape     = "Sightline-Shape"
	HeaderColor     = "Sightline-Color"
	HeaderTransform = "Sightline-Transform"
	HeaderQuality   = "Sightline-Quality"
)

// Tensor describes the pixels of a tensor message: uint8, height x width x channels, rows top to bottom.
type Tensor struct {
	Facts
	Model    string
	Lane     streams.Lane
	Width    int // px
	Height   int // px
	Channels int // 3, or 1 for gray
	Color    string
	// Transform maps a point of the tensor to the source picture, both in pixels:
	// x_src = x*Transform[0] + Transform[2], y_src = y*Transform[1] + Transform[3].
	Transform [4]float64
	Quality   Quality
}

// Quality are figures of the picture that a model saw, over the region of interest.
type Quality struct {
	Luma       float64 // mean of BT.601 grey, 0 to 255
	Contrast   float64 // standard deviation of that grey (RMS contrast)
	Sharpness  float64 // variance of its Laplacian (3x3, aperture 1, reflect-101 border)
	Saturation float64 // mean of OpenCV's HSV saturation, 0 to 255
	Hash       uint64  // perceptual hash (DCT, 8x8): equal pictures are a few bits apart
}

// Encode writes facts and tensor description into h.
func (t Tensor) Encode(h nats.Header) {
	t.Facts.Encode(h)
	delete(h, HeaderModels) // decided: Model is what is left of it
	h[HeaderModel] = []string{t.Model}
	h[HeaderLane] = []string{string(t.Lane)}
	h[HeaderShape] = []string{strconv.Itoa(t.Height) + "," + strconv.Itoa(t.Width) + "," + strconv.Itoa(t.Channels)}
	setOrDelete(h, HeaderColor, t.Color)
	h[HeaderTransform] = []string{formatFloats(t.Transform[:])}
	q := t.Quality
	b := strconv.AppendFloat(nil, q.Luma, 'f', 2, 64)
	for _, v := range []float64{q.Contrast, q.Sharpness, q.Saturation} {
		b = strconv.AppendFloat(append(b, ','), v, 'f', 2, 64)
	}
	b = strconv.AppendUint(append(b, ','), q.Hash, 16)
	h[HeaderQuality] = []string{string(b)}
}

// DecodeTensor reads a tensor message's headers and holds its payload to the shape they declare.
func DecodeTensor(h nats.Header, data []byte) (Tensor, error) {
	var t Tensor
	var err error
	t.Model, t.Lane, t.Color = first(h, HeaderModel), streams.Lane(first(h, HeaderLane)), first(h, HeaderColor)
	if err := streams.CheckToken(t.Model); err != nil {
		return t, fmt.Errorf("%s: %w", HeaderModel, err)
	}
	if err := streams.CheckToken(string(t.Lane)); err != nil {
		return t, fmt.Errorf("%s: %w", HeaderLane, err)
	}
	if t.Facts, err = decodeFacts(h); err != nil {
		return t, err
	}
	t.Models = []string{t.Model}
	if t.Height, t.Width, t.Channels, err = decodeShape(first(h, HeaderShape)); err != nil {
		return t, err
	}
	if want := t.Height * t.Width * t.Channels; want != len(data) {
		return t, fmt.Errorf("%s %dx%dx%d needs %d bytes, payload has %d", HeaderShape, t.Height, t.Width, t.Channels, want, len(data))
	}
	if err := parseFloats(first(h, HeaderTransform), t.Transform[:]); err != nil {
		return t, fmt.Errorf("%s: %w", HeaderTransform, err)
	}
	if t.Transform[0] <= 0 || t.Transform[1] <= 0 {
		return t, fmt.Errorf("%s: %q: scales must be positive", HeaderTransform, first(h, HeaderTransform))
	}
	t.Quality, err = decodeQuality(first(h, HeaderQuality))
	return t, err
}

func decodeShape(s string) (h, w, c int, err error) {
	var v [3]int64
	parts := strings.Split(s, ",")
	for i, p := range parts {
		x, err := parseInt(p)
		if err != nil || len(parts) != len(v) || x < 1 || x > maxSide {
			return 0, 0, 0, fmt.Errorf("%s: %q is not height,width,channels", HeaderShape, s)
		}
		v[i] = x
	}
	if v[2] != 1 && v[2] != 3 {
		return 0, 0, 0, fmt.Errorf("%s: %q: channels are 1 or 3", HeaderShape, s)
	}
	return int(v[0]), int(v[1]), int(v[2]), nil
}

func decodeQuality(s string) (Quality, error) {
	cut := strings.LastIndexByte(s, ',')
	var v [4]float64
	if cut < 0 {
		return Quality{}, fmt.Errorf("%s: %q: want 4 numbers and a hash", HeaderQuality, s)
	}
	if err := parseFloatsAs(s[:cut], v[:], 'f', 2); err != nil {
		return Quality{}, fmt.Errorf("%s: %w", HeaderQuality, err)
	}
	hash, err := strconv.ParseUint(s[cut+1:], 16, 64)
	if err != nil || strconv.FormatUint(hash, 16) != s[cut+1:] {
		return Quality{}, fmt.Errorf("%s: %q is not a hash", HeaderQuality, s[cut+1:])
	}
	return Quality{Luma: v[0], Contrast: v[1], Sharpness: v[2], Saturation: v[3], Hash: hash}, nil
}
