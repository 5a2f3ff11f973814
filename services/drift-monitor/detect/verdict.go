package detect

import (
	"time"

	"github.com/sightline-dev/sightline/services/drift-monitor/quality"
)

// State is what a camera and model are in; the words are those of pkg/drift.
type State string

// The states; see the package.
const (
	OK            State = "ok"
	DataDrift     State = "data_drift"
	SuspectedLoss State = "suspected_loss"
	NotEnoughData State = "not_enough_data"
)

// Causes that are no feature.
const (
	NoReference = "no_reference" // nothing was captured yet
	TooFew      = "too_few"      // pictures that are independent
	Silent      = "silent"       // no picture for longer than a window
)

// Verdict is what is known at the end of a block.
type Verdict struct {
	State State
	Since time.Time // of the state
	At    time.Time
	// Cause is the feature that decided, or one of the words above; empty when all is well.
	Cause string
	// Detail says it in a sentence.
	Detail string
	// Changed says that the state is another than in the verdict before.
	Changed bool
	// Evidence is every feature by every test, the window that decided; those that moved first.
	Evidence []Evidence
	// EffectiveSamples is how many independent pictures the window comes to.
	EffectiveSamples float64
	// Rate is detections per picture over the reference's of the same part of the day, with its interval; nil when there is no
	// reference, it saw nothing, or there are too few independent pictures.
	Rate *quality.Estimate
	// Slot is the part of the day of the reference; Borrowed that it is not that of the pictures, whose own is being learnt.
	Slot     string
	Borrowed bool
	// ReferenceChanged says that the reference learnt a part of the day with this observation: store it.
	ReferenceChanged bool
}

// Evidence is one figure that was looked at.
type Evidence struct {
	Feature   string
	Test      string
	Score     float64
	Threshold float64
	// Effective is how many independent values of the feature the window has.
	Effective float64
	// Moved says that the feature has moved, by this test and the rules of the package.
	Moved bool
}
