package feature

import (
	"fmt"
	"maps"
	"slices"
)

const (
	maxClasses = 16
	otherClass = "other" // all beyond maxClasses
	// maxEmbeddings are kept in one block: of more, every other one.
	maxEmbeddings = 128
)

// A Block is what was seen during one short time, in bounded memory. The zero value is empty.
type Block struct {
	Frames  float64 `json:"frames"`  // observations counted
	Objects float64 `json:"objects"` // detections in them
	// Upside is how many of the pictures were like the view turned upside down.
	Upside  float64            `json:"upside,omitempty"`
	Hist    [Count]Histogram   `json:"hist"`
	Classes map[string]float64 `json:"classes,omitempty"`
	// Embeddings are projected to Dimensions; one for each short time.
	Embeddings Vectors `json:"embeddings,omitempty"`
}

// Add counts one observation. view is what Scene is measured against; nil leaves it out.
func (b *Block) Add(o *Observation, view *View) {
	b.Frames++
	b.Objects += float64(len(o.Detections))
	Values(o, view, func(f Feature, v float64) { b.Hist[f].Add(f.Scale(), v) })
	if view != nil && !o.NoQuality && view.UpsideDown(o.Hash) {
		b.Upside++
	}
	for i := range o.Detections {
		b.class(o.Detections[i].Class, 1)
	}
	if len(o.Embedding) > 0 && len(b.Embeddings) == 0 {
		if v := Project(o.Embedding); v != nil {
			b.Embeddings = append(b.Embeddings, v)
		}
	}
}

func (b *Block) class(name string, n float64) {
	if b.Classes == nil {
		b.Classes = make(map[string]float64, 1)
	}
	if _, known := b.Classes[name]; !known && len(b.Classes) >= maxClasses {
		name = otherClass
	}
	b.Classes[name] += n
}

// Merge adds what another block counted.
func (b *Block) Merge(o *Block) {
	b.Frames += o.Frames
	b.Objects += o.Objects
	b.Upside += o.Upside
	for f := range b.Hist {
		b.Hist[f].Merge(o.Hist[f])
	}
	for _, name := range slices.Sorted(maps.Keys(o.Classes)) {
		b.class(name, o.Classes[name])
	}
	if b.Embeddings = append(b.Embeddings, o.Embeddings...); len(b.Embeddings) > maxEmbeddings {
		half := b.Embeddings[:0:0]
		for i := 0; i < len(b.Embeddings); i += 2 {
			half = append(half, b.Embeddings[i])
		}
		b.Embeddings = half
	}
}

// Less returns what b counted without o, which is part of it. It has no embeddings.
func (b *Block) Less(o *Block) Block {
	out := Block{Frames: b.Frames - o.Frames, Objects: b.Objects - o.Objects, Classes: maps.Clone(b.Classes)}
	for f := range b.Hist {
		out.Hist[f] = b.Hist[f].Less(o.Hist[f])
	}
	for name, n := range o.Classes {
		out.Classes[name] = max(out.Classes[name]-n, 0)
	}
	return out
}

// Rate is how many detections a picture has; NaN of nothing.
func (b *Block) Rate() float64 { return b.Objects / b.Frames }

// Mean is the mean of a feature; NaN of nothing.
func (b *Block) Mean(f Feature) float64 { return b.Hist[f].Mean(f.Scale()) }

// ClassCounts are the counts of all classes of two blocks, in the same order.
func ClassCounts(a, b *Block) (x, y []float64) {
	names := make(map[string]bool, len(a.Classes))
	for n := range a.Classes {
		names[n] = true
	}
	for n := range b.Classes {
		names[n] = true
	}
	for _, n := range slices.Sorted(maps.Keys(names)) {
		x, y = append(x, a.Classes[n]), append(y, b.Classes[n])
	}
	return x, y
}

// Validate reports a block that could not have been counted.
func (b *Block) Validate() error {
	if !(b.Frames >= 0 && b.Frames < maxCount) || !(b.Objects >= 0 && b.Objects < maxCount) || !(b.Upside >= 0 && b.Upside <= b.Frames) {
		return fmt.Errorf("block: %v frames with %v objects", b.Frames, b.Objects)
	}
	for f, h := range b.Hist {
		if bins := Feature(f).Scale().Bins(); len(h) != 0 && len(h) != bins {
			return fmt.Errorf("block: %s has %d bins, not %d", Feature(f), len(h), bins)
		}
	}
	if len(b.Classes) > maxClasses+1 {
		return fmt.Errorf("block: %d classes", len(b.Classes))
	}
	for name, n := range b.Classes {
		if !(n >= 0 && n < maxCount) {
			return fmt.Errorf("block: %v of class %q", n, name)
		}
	}
	if len(b.Embeddings) > maxEmbeddings {
		return fmt.Errorf("block: %d embeddings", len(b.Embeddings))
	}
	return nil
}
