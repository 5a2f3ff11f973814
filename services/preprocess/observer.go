package preprocess

import (
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/stage"
)

// Marks is the part of a ledger.Reporter that the observer needs.
type Marks interface {
	Add(name frame.Name, mark ledger.Mark, model, reason string)
}

var _ Marks = (*ledger.Reporter)(nil)

// NewObserver tells the ledger what happens to frames: taken, forwarded for each model whose tensor is stored, and the
// fate of those that end here. A message without a valid frame name is in no books; it is in DLQ.
func NewObserver(m Marks) stage.Observer { return observer{m} }

type observer struct{ marks Marks }

// Taken implements stage.Observer.
func (o observer) Taken(m stage.Message) {
	if name, ok := nameOf(m); ok {
		o.marks.Add(name, ledger.Taken, "", "")
	}
}

// Done implements stage.Observer.
func (o observer) Done(m stage.Message, outputs []stage.Output) {
	name, ok := nameOf(m)
	if !ok {
		return
	}
	for _, out := range outputs {
		if v := out.Header[frame.HeaderModel]; len(v) > 0 {
			o.marks.Add(name, ledger.Forwarded, v[0], "")
		}
	}
}

// Dropped implements stage.Observer.
func (o observer) Dropped(m stage.Message, fate ledger.Mark, reason string) {
	if name, ok := nameOf(m); ok {
		o.marks.Add(name, fate, "", reason)
	}
}

// Returned implements stage.Observer.
func (o observer) Returned(m stage.Message) {
	if name, ok := nameOf(m); ok {
		o.marks.Add(name, ledger.Returned, "", "")
	}
}
