package preprocess

import (
	"sync"

	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/stage"
)

// buffers are tensor payloads, kept by size: there are as many sizes as models have inputs.
type buffers struct{ bySize sync.Map } // int -> *sync.Pool

func (b *buffers) pool(size int) *sync.Pool {
	if p, ok := b.bySize.Load(size); ok {
		return p.(*sync.Pool)
	}
	p, _ := b.bySize.LoadOrStore(size, &sync.Pool{New: func() any {
		data := make([]byte, size)
		return &data
	}})
	return p.(*sync.Pool)
}

func (b *buffers) get(size int) []byte { return *b.pool(size).Get().(*[]byte) }

func (b *buffers) put(data []byte) { b.pool(len(data)).Put(&data) }

// recycler takes the buffers back when their messages are stored. That is safe: nats.go copies a payload into the
// connection's write buffer before PublishMsg returns (natsWriter.appendBufs), and the stage runtime is through with
// outputs when it calls Done. Buffers of messages that end otherwise are left to the garbage collector.
type recycler struct {
	next    stage.Observer
	handler *Handler
}

// Taken implements stage.Observer.
func (r recycler) Taken(m stage.Message) {
	if r.next != nil {
		r.next.Taken(m)
	}
}

// Done implements stage.Observer.
func (r recycler) Done(m stage.Message, outputs []stage.Output) {
	if r.next != nil {
		r.next.Done(m, outputs)
	}
	r.handler.Release(outputs)
}

// Dropped implements stage.Observer.
func (r recycler) Dropped(m stage.Message, fate ledger.Mark, reason string) {
	if r.next != nil {
		r.next.Dropped(m, fate, reason)
	}
}

// Returned implements stage.Observer.
func (r recycler) Returned(m stage.Message) {
	if r.next != nil {
		r.next.Returned(m)
	}
}
