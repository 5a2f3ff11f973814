package reference

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sightline-dev/sightline/services/drift-monitor/feature"
)

// Format is the version of the stored form.
const Format = 1

// A Reference is what one camera and one version of a model are held against. Make one with [New] or [Decode].
type Reference struct {
	Format  int       `json:"format"`
	Camera  string    `json:"camera"`
	Model   string    `json:"model"`
	Version string    `json:"version"`
	Since   time.Time `json:"since"` // when the version was promoted and capturing began
	// Hours is how many hours share a bucket, Zone the name of the location whose hours they are.
	Hours int    `json:"hours"`
	Zone  string `json:"zone"`
	// BlockSeconds is the length of the blocks that windows are made of; 0 until the first bucket is finished.
	BlockSeconds float64 `json:"block_seconds"`
	// ThinSeconds is the least distance in time of observations that are counted: the decorrelation time of the fastest
	// feature.
	ThinSeconds float64 `json:"thin_seconds"`
	// Decorrelation is the decorrelation time of each feature in seconds; 0 is not known.
	Decorrelation [feature.Count]float64 `json:"decorrelation"`
	// Buckets are the hours that are finished, by their first hour divided by Hours.
	Buckets map[int]*Bucket `json:"buckets"`
}

// A Bucket is the reference of one part of the day.
type Bucket struct {
	// Made is when it was finished.
	Made time.Time `json:"made"`
	// Seconds is how long it was captured.
	Seconds float64 `json:"seconds"`
	// Settled says that its two halves were alike.
	Settled bool `json:"settled"`
	// Frames is how many observations it is made of, after thinning.
	Frames float64 `json:"frames"`
	// Rate is detections per picture.
	Rate float64 `json:"rate"`
	// All are the histograms, scaled to 1000 values each, the shares of the classes, and up to 32 embeddings.
	All feature.Block `json:"all"`
	// View is what the perceptual hashes have in common, in hundredths.
	View [64]uint8 `json:"view"`
	// Windows are what was learnt of short and of long windows.
	Windows [2]Learnt `json:"windows"`
	// MotionFollows is the correlation of the number of detections with motion, over blocks: whether motion can tell
	// whether anybody is there.
	MotionFollows float64 `json:"motion_follows"`
}

// Learnt are thresholds for windows of one length: scores above were not seen in the reference.
type Learnt struct {
	Scores  [feature.Count]feature.Scores `json:"scores"`
	Classes float64                       `json:"classes"` // total variation
	MMD     float64                       `json:"mmd"`
	// RateLow and RateHigh bound the detections per picture of a window, divided by the reference's.
	RateLow  float64 `json:"rate_low"`
	RateHigh float64 `json:"rate_high"`
}

// New begins a reference with nothing in it.
func New(camera, model, version string, since time.Time, c Config) *Reference {
	zone := time.UTC
	if c.Location != nil {
		zone = c.Location
	}
	return &Reference{
		Format: Format, Camera: camera, Model: model, Version: version, Since: since,
		Hours: c.Hours, Zone: zone.String(), Buckets: map[int]*Bucket{},
	}
}

// Block is how long the blocks of windows are; 0 before anything is known.
func (r *Reference) Block() time.Duration {
	return time.Duration(r.BlockSeconds * float64(time.Second))
}

// Effective is how many independent values of a feature a time comes to, of so many that were counted.
func (r *Reference) Effective(f feature.Feature, seconds, counted float64) float64 {
	tau := r.Decorrelation[f]
	if tau <= 0 {
		return counted
	}
	return min(counted, seconds/tau)
}

// Slowest is the longest decorrelation time of a picture's features, in seconds; 0 when none is known.
func (r *Reference) Slowest() float64 {
	slowest := 0.0
	for f := range feature.Score {
		slowest = max(slowest, r.Decorrelation[f])
	}
	return slowest
}

// Slot is the bucket that a time belongs to.
func Slot(at time.Time, hours int, zone *time.Location) int {
	if zone == nil {
		zone = time.UTC
	}
	return at.In(zone).Hour() / max(hours, 1)
}

// SlotName is how a bucket's part of the day reads, such as 07-08.
func (r *Reference) SlotName(slot int) string {
	if r.Hours >= 24 {
		return ""
	}
	return fmt.Sprintf("%02d-%02d", slot*r.Hours, (slot+1)*r.Hours)
}

// Nearest is the finished bucket of a slot, or else the one nearest to it in the day, the earlier of two; nil when there is
// none at all.
func (r *Reference) Nearest(slot int) (b *Bucket, at int) {
	n := 24 / max(r.Hours, 1)
	for d := range n/2 + 1 {
		for _, s := range []int{(slot - d + n) % n, (slot + d) % n} {
			if b := r.Buckets[s]; b != nil {
				return b, s
			}
		}
	}
	return nil, 0
}

// AsView is the bucket's view in the form that distances are measured to.
func (b *Bucket) AsView() *feature.View {
	v := &feature.View{Count: 100}
	for i, n := range b.View {
		v.Set[i] = float32(n)
	}
	return v
}

// Merge takes the buckets of another reference of the same camera, model and version, captured elsewhere or earlier. Of an
// hour that both have, shares are averaged by their frames, thresholds are the wider ones.
func (r *Reference) Merge(o *Reference) error {
	if r.Camera != o.Camera || r.Model != o.Model || r.Version != o.Version || r.Hours != o.Hours || r.Zone != o.Zone {
		return fmt.Errorf("merge reference: %s %s@%s by %d h %s with %s %s@%s by %d h %s",
			r.Camera, r.Model, r.Version, r.Hours, r.Zone, o.Camera, o.Model, o.Version, o.Hours, o.Zone)
	}
	if r.BlockSeconds != 0 && o.BlockSeconds != 0 && r.BlockSeconds != o.BlockSeconds {
		return fmt.Errorf("merge reference: windows of blocks of %v s with those of %v s", r.BlockSeconds, o.BlockSeconds)
	}
	r.BlockSeconds = max(r.BlockSeconds, o.BlockSeconds)
	r.ThinSeconds = max(r.ThinSeconds, o.ThinSeconds)
	for f, tau := range o.Decorrelation {
		r.Decorrelation[f] = max(r.Decorrelation[f], tau)
	}
	for slot, theirs := range o.Buckets {
		if ours := r.Buckets[slot]; ours != nil {
			r.Buckets[slot] = merged(ours, theirs)
		} else {
			c := *theirs
			r.Buckets[slot] = &c
		}
	}
	return nil
}

// Encode is the stored form.
func (r *Reference) Encode() ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// Decode reads the stored form and refuses what Encode would not have written.
func Decode(data []byte) (*Reference, error) {
	var r Reference
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("reference: %w", err)
	}
	if r.Buckets == nil {
		r.Buckets = map[int]*Bucket{}
	}
	return &r, r.Validate()
}

// Validate reports a reference that cannot be judged by.
func (r *Reference) Validate() error {
	if r.Format != Format {
		return fmt.Errorf("reference: format %d, this program reads %d", r.Format, Format)
	}
	if r.Camera == "" || r.Model == "" {
		return errors.New("reference: without camera or model")
	}
	if r.Hours < 1 || 24%r.Hours != 0 {
		return fmt.Errorf("reference: buckets of %d hours", r.Hours)
	}
	if !(r.BlockSeconds >= 0 && r.BlockSeconds <= 86400) || !(r.ThinSeconds >= 0 && r.ThinSeconds <= 86400) {
		return fmt.Errorf("reference: blocks of %v s, thinned to %v s", r.BlockSeconds, r.ThinSeconds)
	}
	if len(r.Buckets) > 0 && r.BlockSeconds < 1 {
		return errors.New("reference: buckets without the length of their blocks")
	}
	for f, tau := range r.Decorrelation {
		if !(tau >= 0 && tau <= 86400) {
			return fmt.Errorf("reference: %s decorrelates in %v s", feature.Feature(f), tau)
		}
	}
	for slot, b := range r.Buckets {
		if slot < 0 || slot >= 24/r.Hours || b == nil {
			return fmt.Errorf("reference: bucket %d of %d", slot, 24/r.Hours)
		}
		if err := b.validate(); err != nil {
			return fmt.Errorf("reference: bucket %d: %w", slot, err)
		}
	}
	return nil
}

func (b *Bucket) validate() error {
	if !(b.Seconds >= 0) || !(b.Frames > 0) || !(b.Rate >= 0) || !(b.MotionFollows >= -1.01 && b.MotionFollows <= 1.01) {
		return fmt.Errorf("%v frames in %v s, %v detections each, motion %v", b.Frames, b.Seconds, b.Rate, b.MotionFollows)
	}
	if len(b.All.Hist[feature.Detections]) == 0 {
		return errors.New("no counts of detections")
	}
	if len(b.All.Embeddings) > maxEmbeddings {
		return fmt.Errorf("%d embeddings", len(b.All.Embeddings))
	}
	for i, w := range b.Windows {
		for f, scores := range w.Scores {
			for t, v := range scores {
				if !(v >= 0 && v < 1e6) {
					return fmt.Errorf("window %d: threshold %v of %s by %s", i, v, feature.Feature(f), feature.Test(t))
				}
			}
		}
		if !(w.Classes >= 0) || !(w.MMD >= 0) || !(w.RateLow >= 0) || !(w.RateHigh >= w.RateLow) {
			return fmt.Errorf("window %d: classes %v, mmd %v, rates %v to %v", i, w.Classes, w.MMD, w.RateLow, w.RateHigh)
		}
	}
	return b.All.Validate()
}
