package frame

import (
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"github.com/sightline-dev/sightline/streams"
)

func tokens() *rapid.Generator[string] {
	return rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9_-]{0,62}`)
}

func names() *rapid.Generator[Name] {
	return rapid.Custom(func(t *rapid.T) Name {
		positive := rapid.Uint64Range(1, math.MaxUint64)
		return Name{tokens().Draw(t, "camera"), positive.Draw(t, "epoch"), positive.Draw(t, "seq")}
	})
}

func times() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time { return time.Unix(0, rapid.Int64Range(1, math.MaxInt64).Draw(t, "ns")) })
}

func facts() *rapid.Generator[Facts] {
	return rapid.Custom(func(t *rapid.T) Facts {
		f := Facts{
			Name: names().Draw(t, "name"), Captured: times().Draw(t, "captured"),
			SourceW: rapid.IntRange(1, maxSide).Draw(t, "w"), SourceH: rapid.IntRange(1, maxSide).Draw(t, "h"),
			Models: rapid.SliceOfN(tokens(), 1, maxModels).Draw(t, "models"),
			Status: rapid.SampledFrom([]string{"", "ok", "degraded"}).Draw(t, "status"),
			Trace:  rapid.SampledFrom([]string{"", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}).Draw(t, "trace"),
		}
		if rapid.Bool().Draw(t, "live") {
			f.Deadline = times().Draw(t, "deadline")
		}
		if rapid.Bool().Draw(t, "region") {
			l, u := rapid.Float64Range(0, 0.9).Draw(t, "left"), rapid.Float64Range(0, 0.9).Draw(t, "top")
			f.ROI = ROI{l, u, rapid.Float64Range(l+0.02, 1).Draw(t, "right"), rapid.Float64Range(u+0.02, 1).Draw(t, "bottom")}
			if f.ROI.Whole() {
				f.ROI = ROI{}
			}
		}
		if rapid.Bool().Draw(t, "moves") {
			diff := float64(rapid.IntRange(0, 255000).Draw(t, "difference")) / 1000
			f.TemporalDifference = &diff
		}
		for range rapid.IntRange(0, 8).Draw(t, "stages") {
			us := rapid.Int64Range(math.MinInt64/1000+1, math.MaxInt64/1000-1).Draw(t, "us")
			f.Timings = append(f.Timings, Timing{rapid.StringMatching(`[a-z]{1,10}(\.[a-z]{1,10})?`).Draw(t, "stage"), time.Duration(us) * time.Microsecond})
		}
		return f
	})
}

func tensors() *rapid.Generator[Tensor] {
	return rapid.Custom(func(t *rapid.T) Tensor {
		finite := rapid.Float64Range(-1e6, 1e6)
		figure := rapid.Custom(func(t *rapid.T) float64 {
			v, _ := quality(rapid.Float64Range(0, 1e5).Draw(t, "v"))
			return v
		})
		x := Tensor{
			Facts: facts().Draw(t, "facts"), Model: tokens().Draw(t, "model"),
			Lane:  rapid.SampledFrom([]streams.Lane{streams.LaneStable, streams.LaneCanary, streams.LaneShadow}).Draw(t, "lane"),
			Width: rapid.IntRange(1, 40).Draw(t, "w"), Height: rapid.IntRange(1, 40).Draw(t, "h"),
			Channels: rapid.SampledFrom([]int{1, 3}).Draw(t, "c"), Color: rapid.SampledFrom([]string{"rgb", "bgr", "gray"}).Draw(t, "color"),
			Transform: [4]float64{rapid.Float64Range(1e-6, 100).Draw(t, "sx"), rapid.Float64Range(1e-6, 100).Draw(t, "sy"), finite.Draw(t, "dx"), finite.Draw(t, "dy")},
			Quality: Quality{
				figure.Draw(t, "luma"), figure.Draw(t, "contrast"), figure.Draw(t, "sharpness"), figure.Draw(t, "saturation"),
				rapid.Uint64().Draw(t, "hash"),
			},
		}
		x.Models = []string{x.Model}
		return x
	})
}

// quality rounds a figure as it travels.
func quality(v float64) (float64, error) {
	q, err := decodeQuality(qualityHeader(Quality{Luma: v}))
	return q.Luma, err
}

func qualityHeader(q Quality) string {
	h := nats.Header{}
	Tensor{Quality: q}.Encode(h)
	return h[HeaderQuality][0]
}

func TestNameRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := names().Draw(t, "name")
		if back, err := ParseName(n.String()); err != nil || back != n {
			t.Fatalf("%v became %v, %v", n, back, err)
		}
	})
}

func TestFrameRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := facts().Draw(t, "facts")
		h := nats.Header{"Other": {"kept"}}
		facts().Draw(t, "earlier").Encode(h) // an earlier frame's headers do not show through
		f.Encode(h)
		back, err := Decode(h)
		if err != nil {
			t.Fatalf("%v: %v", h, err)
		}
		if !reflect.DeepEqual(back, f) {
			t.Fatalf("%+v\nbecame\n%+v", f, back)
		}
		sameEnvelope(t, h, back.Encode)
	})
}

func TestTensorRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		x := tensors().Draw(t, "tensor")
		h := nats.Header{"Other": {"kept"}}
		facts().Draw(t, "earlier").Encode(h)
		x.Encode(h)
		back, err := DecodeTensor(h, make([]byte, x.Width*x.Height*x.Channels))
		if err != nil {
			t.Fatalf("%v: %v", h, err)
		}
		if !reflect.DeepEqual(back, x) {
			t.Fatalf("%+v\nbecame\n%+v", x, back)
		}
		sameEnvelope(t, h, back.Encode)
	})
}

// sameEnvelope fails unless encoding again gives the same headers.
func sameEnvelope(t interface{ Fatalf(string, ...any) }, h nats.Header, encode func(nats.Header)) {
	again := nats.Header{}
	encode(again)
	ours := maps.Clone(h)
	delete(ours, "Other")
	if !maps.EqualFunc(ours, again, slices.Equal) {
		t.Fatalf("%v\nwas encoded again as\n%v", ours, again)
	}
}

func TestTimingsWith(t *testing.T) {
	t.Parallel()
	base := make(Timings, 1, 8)
	a, b := base.With("a", 1), base.With("b", 2)
	if a[1].Stage != "a" || b[1].Stage != "b" {
		t.Errorf("%v and %v share memory", a, b)
	}
}

func TestROIValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		roi  ROI
		want string
	}{
		{ROI{}, ""},
		{ROI{0, 0, 1, 1}, ""},
		{ROI{0.25, 0, 0.75, 1}, ""},
		{ROI{0, 0, 1, 1.1}, "roi [0 0 1 1.1]: every value is a share of the picture, 0 to 1"},
		{ROI{-0.1, 0, 1, 1}, "roi [-0.1 0 1 1]: every value is a share of the picture, 0 to 1"},
		{ROI{0, 0, math.NaN(), 1}, "roi [0 0 NaN 1]: every value is a share of the picture, 0 to 1"},
		{ROI{0.5, 0, 0.5, 1}, "roi [0.5 0 0.5 1]: want [left, top, right, bottom] with left < right and top < bottom"},
		{ROI{0, 0.9, 1, 0.1}, "roi [0 0.9 1 0.1]: want [left, top, right, bottom] with left < right and top < bottom"},
	} {
		got := ""
		if err := c.roi.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%v: %q, want %q", c.roi, got, c.want)
		}
	}
}

const badName = "is not a name: use 1 to 63 letters, digits, '-' or '_', starting with a letter or digit"

func TestParseNameErrors(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                           `frame name "": want <camera>/<epoch>/<seq>`,
		"cam":                        `frame name "cam": want <camera>/<epoch>/<seq>`,
		"cam/1":                      `frame name "cam/1": want <camera>/<epoch>/<seq>`,
		"/1/1":                       `frame name "/1/1": "" ` + badName,
		"a.b/1/1":                    `frame name "a.b/1/1": "a.b" ` + badName,
		"cam/0/1":                    `frame name "cam/0/1": epoch: "0" is not a positive number`,
		"cam/1/0":                    `frame name "cam/1/0": seq: "0" is not a positive number`,
		"cam/01/1":                   `frame name "cam/01/1": epoch: "01" is not a positive number`,
		"cam/1/+1":                   `frame name "cam/1/+1": seq: "+1" is not a positive number`,
		"cam/1/1/1":                  `frame name "cam/1/1/1": seq: "1/1" is not a positive number`,
		"cam/1/18446744073709551616": `frame name "cam/1/18446744073709551616": seq: "18446744073709551616" is not a positive number`,
	} {
		if _, err := ParseName(in); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
}

// example is a tensor's envelope and its payload; a frame's is a part of it.
func example() (nats.Header, []byte) {
	h := nats.Header{}
	Tensor{
		Facts: Facts{
			Name: Name{"door", 7, 42}, Captured: time.Unix(0, 1_700_000_000_123_456_789), Deadline: time.Unix(0, 1_700_000_001_000_000_000),
			SourceW: 1920, SourceH: 1080, ROI: ROI{0.25, 0, 0.75, 1}, Status: "ok",
			Timings: Timings{{"ingest", 2 * time.Millisecond}, {"preprocess.queue", time.Millisecond}},
		},
		Model: "person", Lane: streams.LaneStable, Width: 4, Height: 2, Channels: 3, Color: "rgb",
		Transform: [4]float64{480, 540, 0, -12.5}, Quality: Quality{101.25, 40, 312.5, 12, 0xdeadbeef},
	}.Encode(h)
	h[HeaderModels] = []string{"person,face"}
	return h, make([]byte, 24)
}

func TestDecodeErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		header, value string
		want          string
	}{
		{HeaderName, "door", `frame name "door": want <camera>/<epoch>/<seq>`},
		{HeaderCaptured, "", `Sightline-Captured: "" is not nanoseconds since 1970`},
		{HeaderCaptured, "-5", `Sightline-Captured: "-5" is not nanoseconds since 1970`},
		{HeaderCaptured, "007", `Sightline-Captured: "007" is not nanoseconds since 1970`},
		{HeaderDeadline, "soon", `Sightline-Deadline: "soon" is not nanoseconds since 1970`},
		{HeaderDeadline, "+1", `Sightline-Deadline: "+1" is not nanoseconds since 1970`},
		{HeaderSource, "", `Sightline-Source-Size: "" is not <width>x<height> in pixels, 1 to 16384`},
		{HeaderSource, "640", `Sightline-Source-Size: "640" is not <width>x<height> in pixels, 1 to 16384`},
		{HeaderSource, "0x480", `Sightline-Source-Size: "0x480" is not <width>x<height> in pixels, 1 to 16384`},
		{HeaderSource, "640x16385", `Sightline-Source-Size: "640x16385" is not <width>x<height> in pixels, 1 to 16384`},
		{HeaderSource, "0640x480", `Sightline-Source-Size: "0640x480" is not <width>x<height> in pixels, 1 to 16384`},
		{HeaderROI, "0,0,1", `Sightline-ROI: "0,0,1": want 4 numbers`},
		{HeaderROI, "0,0,1,one", `Sightline-ROI: "0,0,1,one": "one" is not a finite number`},
		{HeaderROI, "0,0,1,Inf", `Sightline-ROI: "0,0,1,Inf": "Inf" is not a finite number`},
		{HeaderROI, "0,0,0.50,1", `Sightline-ROI: "0,0,0.50,1": "0.50" should be written 0.5`},
		{HeaderROI, "0,0,1,2", `Sightline-ROI: roi [0 0 1 2]: every value is a share of the picture, 0 to 1`},
		{HeaderROI, "0,0,1,1", `Sightline-ROI: "0,0,1,1" is the whole picture, which is not said`},
		{HeaderTimings, "ingest", `Sightline-Timings: "ingest" is not stage=microseconds`},
		{HeaderTimings, "=5", `Sightline-Timings: "=5" is not stage=microseconds`},
		{HeaderTimings, "a=1,b=+2", `Sightline-Timings: "b=+2" is not stage=microseconds`},
		{HeaderTimings, "a=9223372036854775807", `Sightline-Timings: "a=9223372036854775807" is not stage=microseconds`},
		{HeaderTimings, strings.Repeat("a=1,", 64) + "a=1", `Sightline-Timings: 65 entries`},
	} {
		h, payload := example()
		h[c.header] = []string{c.value}
		if _, err := Decode(h); err == nil || err.Error() != c.want {
			t.Errorf("frame with %s %q: %v, want %s", c.header, c.value, err, c.want)
		}
		if _, err := DecodeTensor(h, payload); err == nil || err.Error() != c.want {
			t.Errorf("tensor with %s %q: %v, want %s", c.header, c.value, err, c.want)
		}
	}
}

func TestDecodeModelsErrors(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                             "Sightline-Models: empty: a frame that nobody looks at should not have been sent",
		"a,":                           `Sightline-Models: "" ` + badName,
		"a b":                          `Sightline-Models: "a b" ` + badName,
		strings.Repeat("a,", 16) + "a": "Sightline-Models: 17 models, at most 16",
	} {
		h, _ := example()
		h[HeaderModels] = []string{in}
		if _, err := Decode(h); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
}

func TestDecodeTensorErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ header, value, want string }{
		{HeaderModel, "", `Sightline-Model: "" ` + badName},
		{HeaderLane, "fast lane", `Sightline-Lane: "fast lane" ` + badName},
		{HeaderShape, "", `Sightline-Shape: "" is not height,width,channels`},
		{HeaderShape, "2,4", `Sightline-Shape: "2,4" is not height,width,channels`},
		{HeaderShape, "2,4,3,1", `Sightline-Shape: "2,4,3,1" is not height,width,channels`},
		{HeaderShape, "2.0,4,3", `Sightline-Shape: "2.0,4,3" is not height,width,channels`},
		{HeaderShape, "0,4,3", `Sightline-Shape: "0,4,3" is not height,width,channels`},
		{HeaderShape, "2,4,4", `Sightline-Shape: "2,4,4": channels are 1 or 3`},
		{HeaderShape, "4,4,3", `Sightline-Shape 4x4x3 needs 48 bytes, payload has 24`},
		{HeaderTransform, "1,1,0", `Sightline-Transform: "1,1,0": want 4 numbers`},
		{HeaderTransform, "0,1,0,0", `Sightline-Transform: "0,1,0,0": scales must be positive`},
		{HeaderTransform, "1,-1,0,0", `Sightline-Transform: "1,-1,0,0": scales must be positive`},
		{HeaderTransform, "1,1,NaN,0", `Sightline-Transform: "1,1,NaN,0": "NaN" is not a finite number`},
		{HeaderQuality, "", `Sightline-Quality: "": want 4 numbers and a hash`},
		{HeaderQuality, "1.00,2.00,3.00,ff", `Sightline-Quality: "1.00,2.00,3.00": want 4 numbers`},
		{HeaderQuality, "1.00,2.00,3.00,4,ff", `Sightline-Quality: "1.00,2.00,3.00,4": "4" should be written 4.00`},
		{HeaderQuality, "1.00,2.00,3.00,4.00,xyz", `Sightline-Quality: "xyz" is not a hash`},
		{HeaderQuality, "1.00,2.00,3.00,4.00,FF", `Sightline-Quality: "FF" is not a hash`},
	} {
		h, payload := example()
		h[c.header] = []string{c.value}
		if _, err := DecodeTensor(h, payload); err == nil || err.Error() != c.want {
			t.Errorf("%s %q: %v, want %s", c.header, c.value, err, c.want)
		}
	}
}
