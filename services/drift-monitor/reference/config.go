package reference

import (
	"errors"
	"fmt"
	"time"
)

// Config says how a reference is captured.
type Config struct {
	// Span is how long an hour of the day is looked at before it is judged by; longer than the scene's normal cycle.
	Span time.Duration
	// Effective is how many independent pictures that has to come to.
	Effective float64
	// Hours is how many hours of the day share a bucket: a divisor of 24. 24 makes one reference for all day.
	Hours int
	// Learn is for how long after the promotion new hours are learnt.
	Learn time.Duration
	// Block is the shortest time that is counted together. Windows are 4 and 9 blocks long.
	Block time.Duration
	// Location is where the camera is; nil is UTC.
	Location *time.Location
}

// Default is for a fixed camera.
func Default() Config {
	return Config{Span: 10 * time.Minute, Effective: 25, Hours: 1, Learn: 48 * time.Hour, Block: 5 * time.Second}
}

// Validate reports every value that cannot be.
func (c Config) Validate() error {
	var errs []error
	if c.Block < time.Second || c.Block > time.Hour {
		errs = append(errs, fmt.Errorf("block is %v: want 1s to 1h", c.Block))
	}
	if c.Span < minBlocks*c.Block {
		errs = append(errs, fmt.Errorf("span is %v: want at least %d blocks of %v", c.Span, minBlocks, c.Block))
	}
	if !(c.Effective >= 1) {
		errs = append(errs, fmt.Errorf("effective is %v: want 1 or more", c.Effective))
	}
	if c.Hours < 1 || 24%c.Hours != 0 {
		errs = append(errs, fmt.Errorf("hours is %d: want a divisor of 24", c.Hours))
	}
	if c.Learn < c.Span {
		errs = append(errs, fmt.Errorf("learn is %v: want at least the span, %v", c.Learn, c.Span))
	}
	return errors.Join(errs...)
}

const (
	// Short is how many blocks the shorter of the two windows has.
	Short = 4
	// Long is how many the longer one has.
	Long = 9
	// minBlocks is how many blocks a bucket has at least: two long windows that do not overlap.
	minBlocks = 2 * Long
	// maxBlocks bounds what is kept while capturing; then pairs of blocks become one.
	maxBlocks = 128
	// reluctant is how many spans a scene that does not settle is given.
	reluctant = 3
)
