package detect

import (
	"errors"
	"fmt"

	"github.com/sightline-dev/sightline/services/drift-monitor/reference"
)

// Config says how a camera is judged.
type Config struct {
	Reference reference.Config
	// Effective is how many independent pictures a long window must come to; a short one must come to a third.
	Effective float64
	// Raise and Lower are how many blocks in a row it takes to raise a state and to lower it.
	Raise, Lower int
	// Relax is the share of a threshold that holds up a state that was raised.
	Relax float64
	// Costly are changes of the picture that cost detectors recall in general.
	Costly Costly
	// Content bounds the changes of a picture that people or vehicles in it can make.
	Content Content
}

// Costly are changes of the picture beyond which loss is suspected even when there is nothing in view to tell by.
type Costly struct {
	// Sharpness is octaves lost. A blur of sigma 3 is 3.7 on the demo's footage; it cost YOLOX-nano .754 -> .485 AP50 on VOC,
	// but the person model next to nothing: this errs on the side of suspecting.
	Sharpness float64
	// Contrast is octaves lost. At 1.7 (low contrast, fog or dark of .3) the person model's recall was .76, .33 and .55.
	Contrast float64
	// Scene is bits above the reference's. Another view is 12 to 22, upside-down 19.
	Scene float64
}

// Content is how much of a change of the picture may be of what is in it. Above any of it, the picture itself has changed.
type Content struct {
	Luma       float64 // grey levels
	Contrast   float64 // octaves
	Sharpness  float64 // octaves
	Saturation float64 // levels
	Scene      float64 // bits
}

// Default is what was measured on the demo's footage.
func Default() Config {
	return Config{
		Reference: reference.Default(),
		Effective: 5, Raise: 2, Lower: 6, Relax: 0.8,
		Costly:  Costly{Sharpness: 3, Contrast: 1.5, Scene: 14},
		Content: Content{Luma: 20, Contrast: 0.4, Sharpness: 0.7, Saturation: 20, Scene: 6},
	}
}

// Validate reports every value that cannot be.
func (c Config) Validate() error {
	errs := []error{c.Reference.Validate()}
	if !(c.Effective >= 1) {
		errs = append(errs, fmt.Errorf("effective is %v: want 1 or more", c.Effective))
	}
	if c.Raise < 1 || c.Lower < 1 {
		errs = append(errs, fmt.Errorf("raise is %d and lower %d: want 1 or more", c.Raise, c.Lower))
	}
	if !(c.Relax > 0 && c.Relax <= 1) {
		errs = append(errs, fmt.Errorf("relax is %v: want above 0 and at most 1", c.Relax))
	}
	for _, v := range []float64{
		c.Costly.Sharpness, c.Costly.Contrast, c.Costly.Scene,
		c.Content.Luma, c.Content.Contrast, c.Content.Sharpness, c.Content.Saturation, c.Content.Scene,
	} {
		if !(v > 0) {
			errs = append(errs, errors.New("costly and content: want every bound above 0"))
			break
		}
	}
	return errors.Join(errs...)
}
