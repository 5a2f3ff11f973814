package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/internal/strictyaml"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/streams"
)

// The bounds of a camera's settings.
const (
	minFPS, maxFPS           = 0.1, 120.0
	minMaxAge, maxMaxAge     = 100 * time.Millisecond, streams.LiveMaxAge
	minStall, maxStall       = 500 * time.Millisecond, 10 * time.Minute
	minPriority, maxPriority = 1, 10
	minQuality, maxQuality   = 50, 100
	defaultTraceRatio        = 0.01
	maxModels, maxLabels     = 16, 16
	maxLabel                 = 128
	maxCameras               = 4096
	maxCA                    = 64 << 10
)

// A Rate is a number of pictures in a second.
type Rate float64

// AllFrames samples every frame that the camera sends.
const AllFrames Rate = 0

// String is the number, or "all".
func (r Rate) String() string {
	if r == AllFrames {
		return "all"
	}
	return strconv.FormatFloat(float64(r), 'f', -1, 64)
}

// A Transport says how media travels from a camera.
type Transport string

// The transports. TransportAuto tries TCP, takes UDP when that fails, and remembers.
const (
	TransportAuto Transport = "auto"
	TransportTCP  Transport = "tcp"
	TransportUDP  Transport = "udp"
)

// TLS says whom an rtsps camera must convince. The zero value trusts the system's authorities.
type TLS struct {
	// CA holds certificates of authorities in PEM, instead of the system's. It is the content of the file, not its name:
	// the camera is opened on another machine than the one that read sightline.yaml.
	CA string `json:"ca,omitempty"`
	// Insecure accepts any certificate.
	Insecure bool `json:"insecure,omitempty"`
}

// A Camera is the settings of one camera, with defaults filled in. Printed or marshalled in any ordinary way it shows no
// credentials; [Camera.MarshalStored] is the form for the bucket CAMERAS.
type Camera struct {
	Name string
	// URL is where the stream is, credentials included, whether they stood in the URL or beside it.
	URL    URL
	Models []string
	FPS    Rate
	// Delivery says what frames are for.
	Delivery streams.Delivery
	// MaxAge is the age at which a frame of a freshest camera is of no use. It is 0 with every_frame.
	MaxAge    time.Duration
	Transport Transport
	// ROI is the part of the picture that models see; the zero value is all of it.
	ROI        frame.ROI
	Priority   int
	StallAfter time.Duration
	// Standby keeps a second ingest instance connected to the camera.
	Standby bool
	// JPEGQuality is that of the frames that ingest publishes.
	JPEGQuality int
	// TraceRatio is the share of frames whose trace is exported; those that are slow or fail are exported besides.
	TraceRatio float64
	TLS        TLS
	Labels     map[string]string
	Enabled    bool
}

// DefaultCamera is a camera whose settings are all left out.
func DefaultCamera() Camera {
	return Camera{
		FPS: 10, Delivery: streams.Freshest, MaxAge: 2 * time.Second, Transport: TransportAuto,
		Priority: 5, StallAfter: 2 * time.Second, JPEGQuality: 85, TraceRatio: defaultTraceRatio, Enabled: true,
	}
}

// Validate reports every problem of the camera as [Problems]. It does not look at the model repository.
func (c Camera) Validate() error {
	found := c.findings()
	problems := make(Problems, 0, len(found))
	for _, f := range found {
		show := f.value
		if !f.plain && show != "" {
			show = mask{}.show(show)
		}
		problems = append(problems, Problem{Path: f.key, Message: joinNonEmpty(" ", show, f.wrong), Hint: f.hint})
	}
	return problems.orNil()
}

// A finding is a problem of a setting, before it is known where the setting stands.
type finding struct {
	key, value  string
	wrong, hint string
	plain       bool // the value is a number or the like: it can be shown
}

type findings []finding

func (c Camera) findings() []finding {
	var f findings
	if streams.CheckToken(c.Name) != nil {
		f.text("name", c.Name, "is not a name", "write 1 to 63 letters, digits, - or _, beginning with a letter or digit")
	}
	if l, err := parseLocation(c.URL.Reveal()); err != nil {
		f.text("url", "", "is not an address that can be used", wantURL)
	} else if l.scheme != "rtsps" && c.TLS != (TLS{}) {
		f.text("tls", "", "is for rtsps cameras", "write rtsps:// in the url, or leave tls out")
	}
	f.models(c.Models)
	if c.FPS != AllFrames && !(float64(c.FPS) >= minFPS && float64(c.FPS) <= maxFPS) {
		f.number("fps", c.FPS.String(), fpsHint)
	}
	switch c.Delivery {
	case streams.Freshest:
		f.duration("max_age", c.MaxAge, minMaxAge, maxMaxAge)
	case streams.EveryFrame:
		if c.MaxAge != 0 {
			f.text("max_age", "", "is for delivery: freshest", maxAgeHint)
		}
	default:
		f.oneOf("delivery", string(c.Delivery), deliveries)
	}
	f.oneOf("transport", string(c.Transport), transports)
	if c.ROI.Validate() != nil {
		f.add(finding{key: "roi", value: roiText(c.ROI), wrong: "is not a region of the picture", hint: roiHint, plain: true})
	}
	f.within("priority", c.Priority, minPriority, maxPriority)
	f.duration("stall_after", c.StallAfter, minStall, maxStall)
	f.within("jpeg_quality", c.JPEGQuality, minQuality, maxQuality)
	if !(c.TraceRatio >= 0 && c.TraceRatio <= 1) {
		f.number("trace_ratio", ratioText(c.TraceRatio), traceHint)
	}
	if c.TLS.CA != "" && c.TLS.Insecure {
		f.text("tls", "", "is given a ca and insecure", "keep one: insecure accepts any certificate")
	}
	if c.TLS.CA != "" && !validCA([]byte(c.TLS.CA)) {
		f.text("tls.ca", "", "holds no certificate", "write the name of a PEM file with -----BEGIN CERTIFICATE-----")
	}
	f.labels(c.Labels)
	return f
}

var (
	deliveries = []string{string(streams.Freshest), string(streams.EveryFrame)}
	transports = []string{string(TransportAuto), string(TransportTCP), string(TransportUDP)}
)

const (
	fpsHint    = "write 0.1 to 120, or all for every frame that the camera sends"
	roiHint    = "write [left, top, right, bottom] as shares of the picture, 0 to 1, with left < right and top < bottom"
	traceHint  = "write 0 to 1, as in 0.01 for one frame in a hundred"
	maxAgeHint = "leave it out: every_frame keeps frames however old they are"
)

func (f *findings) add(x finding) { *f = append(*f, x) }

func (f *findings) text(key, value, wrong, hint string) {
	f.add(finding{key: key, value: value, wrong: wrong, hint: hint})
}

func (f *findings) number(key, value, hint string) {
	f.add(finding{key: key, value: value, wrong: "is out of range", hint: hint, plain: true})
}

func (f *findings) within(key string, v, low, high int) {
	if v < low || v > high {
		f.number(key, strconv.Itoa(v), fmt.Sprintf("write %d to %d", low, high))
	}
}

func (f *findings) duration(key string, v, low, high time.Duration) {
	if v < low || v > high {
		f.number(key, short(v), "write "+short(low)+" to "+short(high))
	}
}

func (f *findings) oneOf(key, value string, allowed []string) {
	if slices.Contains(allowed, value) {
		return
	}
	hint := "write " + strings.Join(allowed, " or ")
	if meant := strictyaml.Suggest(value, allowed); meant != "" {
		hint = "did you mean " + meant + "?"
	}
	f.text(key, value, "is unknown", hint)
}

func (f *findings) models(names []string) {
	switch {
	case len(names) == 0:
		f.text("model", "", "is missing", "write model: and the name of a model")
	case len(names) > maxModels:
		f.number("models", strconv.Itoa(len(names))+" models", "write at most "+strconv.Itoa(maxModels))
	}
	seen := map[string]bool{}
	for _, name := range names {
		switch {
		case !model.ValidName(name):
			f.text("models", name, "is not the name of a model", "write a-z, 0-9, _ and -, as the model's folder is called")
		case seen[name]:
			f.text("models", name, "is given twice", "keep one")
		}
		seen[name] = true
	}
}

var labelKey = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

func (f *findings) labels(labels map[string]string) {
	if len(labels) > maxLabels {
		f.number("labels", strconv.Itoa(len(labels))+" labels", "write at most "+strconv.Itoa(maxLabels))
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		v := labels[k]
		if !labelKey.MatchString(k) {
			f.text("labels", k, "is not the name of a label", "write 1 to 63 letters, digits, - or _, beginning with a letter or digit")
			continue
		}
		if v == "" || len(v) > maxLabel || !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl) {
			f.text("labels."+k, "", "is empty, too long or not one line of text", "write 1 to "+strconv.Itoa(maxLabel)+" bytes in one line")
		}
	}
}

// MarshalJSON shows the camera to people and programs, without credentials.
func (c Camera) MarshalJSON() ([]byte, error) { return json.Marshal(c.record(false)) }

// UnmarshalJSON refuses: what MarshalJSON wrote lacks the credentials. Use [ParseStored].
func (c *Camera) UnmarshalJSON([]byte) error {
	return errors.New("a camera is read with config.ParseStored: its ordinary JSON has no credentials")
}

// short is a duration without its empty units: 1m0s is 1m.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

func ratioText(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func roiText(r frame.ROI) string {
	if r.Whole() {
		return "all"
	}
	words := make([]string, len(r))
	for i, v := range r {
		words[i] = strconv.FormatFloat(v, 'f', -1, 64)
	}
	return "[" + strings.Join(words, ", ") + "]"
}
