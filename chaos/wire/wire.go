// Package wire is a TCP connection that can break: a proxy between two processes which can be cut and healed.
//
// # What a cut is
//
// While a wire is cut no byte passes, in either direction, and no end of a connection does: neither side is told
// anything, as when a cable is pulled or a switch dies. New connections are accepted by nobody's word but the kernel's;
// nothing answers on them. That is what a partition looks like to TCP, until somebody's own time-outs run out.
//
// Heal ends the cut in one of two ways. Gently, what the kernels kept on both sides goes on where it stopped, as when
// the cable is back before TCP gives up. Or the connections of before the cut are reset, as after a fail-over of a
// stateful device.
package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Wire is one proxy. Open makes it, Close ends it.
type Wire struct {
	to, addr string
	wg       sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener // nil while it refuses
	closed   bool
	whole    chan struct{} // closed while the wire is not cut
	pairs    map[*pair]struct{}
}

// pair is one connection through the wire.
type pair struct {
	near, far net.Conn
}

// Open listens on a free port of 127.0.0.1 and passes what comes on to the address.
func Open(ctx context.Context, to string) (*Wire, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("wire to %s: %w", to, err)
	}
	w := &Wire{to: to, addr: l.Addr().String(), listener: l, whole: make(chan struct{}), pairs: map[*pair]struct{}{}}
	close(w.whole)
	w.wg.Go(func() { w.accept(l) })
	return w, nil
}

// Addr is where to connect instead of to the address itself.
func (w *Wire) Addr() string { return w.addr }

// Refuse ends every connection and refuses new ones, as a machine does on which nobody listens any more.
func (w *Wire) Refuse() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.listener == nil {
		return nil
	}
	err := w.listener.Close()
	w.listener = nil
	for p := range w.pairs {
		p.end()
	}
	if err != nil {
		return fmt.Errorf("refuse: %w", err)
	}
	return nil
}

// Accept ends a Refuse.
func (w *Wire) Accept(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.listener != nil || w.closed {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", w.addr)
	if err != nil {
		return fmt.Errorf("accept again: %w", err)
	}
	w.listener = l
	w.wg.Go(func() { w.accept(l) })
	return nil
}

// Cut stops everything until Heal.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.whole:
		w.whole = make(chan struct{})
	default: // already cut
	}
}

// Heal ends a cut. With reset the connections of before are reset.
func (w *Wire) Heal(reset bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if reset {
		for p := range w.pairs {
			p.reset()
		}
	}
	select {
	case <-w.whole:
	default:
		close(w.whole)
	}
}

// Close ends every connection and waits until all is over.
func (w *Wire) Close() error {
	w.mu.Lock()
	w.closed = true
	var err error
	if w.listener != nil {
		err = w.listener.Close()
	}
	for p := range w.pairs {
		p.reset()
	}
	select {
	case <-w.whole:
	default:
		close(w.whole)
	}
	w.mu.Unlock()
	w.wg.Wait()
	if err != nil {
		return fmt.Errorf("close wire: %w", err)
	}
	return nil
}

// reset makes the kernel send RST instead of FIN.
func (p *pair) reset() {
	for _, c := range []net.Conn{p.near, p.far} {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	p.end()
}

// end closes both sides.
func (p *pair) end() {
	_ = p.near.Close()
	if p.far != nil {
		_ = p.far.Close()
	}
}

func (w *Wire) accept(l net.Listener) {
	for {
		near, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		w.wg.Go(func() { w.carry(near) })
	}
}

// passing waits until the wire is whole.
func (w *Wire) passing() {
	for {
		w.mu.Lock()
		whole := w.whole
		w.mu.Unlock()
		<-whole
		w.mu.Lock()
		same := whole == w.whole
		w.mu.Unlock()
		if same {
			return
		}
	}
}

// carry owns one connection from both sides.
func (w *Wire) carry(near net.Conn) {
	p := &pair{near: near}
	if !w.add(p) {
		_ = near.Close()
		return
	}
	defer w.remove(p)
	w.passing()
	far, err := net.Dial("tcp", w.to) //nolint:noctx // loopback: refused or connected at once
	if err != nil {
		p.reset() // what a client sees of a port where nobody listens
		return
	}
	w.mu.Lock()
	p.far = far
	over := w.closed || w.listener == nil
	w.mu.Unlock()
	if over {
		p.reset()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { w.copy(far, near) })
	both.Go(func() { w.copy(near, far) })
	both.Wait()
	_ = near.Close()
	_ = far.Close()
}

// copy moves bytes until one side ends, and then tells the other.
func (w *Wire) copy(to, from net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		w.passing()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				_ = from.Close()
				return
			}
		}
		if errors.Is(err, io.EOF) {
			if tcp, ok := to.(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}
			return
		}
		if err != nil {
			_ = to.Close()
			return
		}
	}
}

func (w *Wire) add(p *pair) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.listener == nil { // accepted a moment before a Refuse
		return false
	}
	w.pairs[p] = struct{}{}
	return true
}

func (w *Wire) remove(p *pair) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pairs, p)
}
