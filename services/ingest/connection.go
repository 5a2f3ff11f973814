package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

var (
	errStalled   = errors.New("no access unit in time")
	errNoAnswer  = errors.New("no access unit in time after connecting")
	errNoPicture = errors.New("access units arrive, but no picture comes of them")
	errSourceEnd = errors.New("source ended without an error")
)

// connection is one life of a [Session] between two failures. Its decoding side belongs to the goroutine of
// Session.Run, its receiving side to the source's.
type connection struct {
	s     *Session
	queue *unitQueue

	decoder   Decoder
	codec     Codec
	waitKey   bool      // hand nothing on before the next key frame
	broken    bool      // waitKey came of damage, not of the start
	lastError error     // of the decoder, to explain why there is no picture
	liveSince time.Time // of the first picture
	lastSeen  time.Time // of the last picture
	picture   *time.Timer
}

// run returns why the connection ended; never nil.
func (c *connection) run(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	c.s.books.use(c.queue)

	cfg := &c.s.cfg
	quiet := time.AfterFunc(cfg.ConnectTimeout, func() { cancel(WithCause(CauseTimeout, errNoAnswer)) })
	defer quiet.Stop()
	stalled := time.AfterFunc(cfg.StallTimeout, func() { cancel(WithCause(CauseStalled, errStalled)) })
	stalled.Stop()
	defer stalled.Stop()
	c.picture = time.AfterFunc(cfg.PictureTimeout, func() { cancel(WithCause(CauseCodec, errNoPicture)) })
	defer c.picture.Stop()

	var source sync.WaitGroup
	var sourceErr error
	source.Go(func() {
		defer c.queue.close()
		sourceErr = cfg.Source.Run(ctx, func(au AccessUnit) {
			quiet.Stop()
			stalled.Reset(cfg.StallTimeout)
			c.s.books.count(func(st *Stats) { st.AccessUnits++ })
			c.queue.push(au)
		})
	})
	err := c.decode(ctx)
	if c.decoder != nil {
		c.decoder.Close()
	}
	if err != nil {
		cancel(err)
	}
	source.Wait()
	switch cause := context.Cause(ctx); {
	case cause != nil && CauseOf(cause) == CauseCodec && c.lastError != nil:
		return WithCause(CauseCodec, fmt.Errorf("%w; the last error was: %w", cause, c.lastError))
	case cause != nil:
		return cause
	case sourceErr != nil:
		return sourceErr
	default:
		return WithCause(CauseClosed, errSourceEnd)
	}
}

// decode works until the source has ended or ctx ends. Its own error means that decoding is not possible at all.
func (c *connection) decode(ctx context.Context) error {
	c.hold(ctx)
	for {
		au, ok := c.queue.pop(ctx)
		if !ok {
			return nil
		}
		if !c.wants(au) {
			c.count(func(st *Stats) { st.Skipped++ })
			c.tellBlindness()
			continue
		}
		if c.decoder == nil || c.codec != au.Codec {
			if err := c.open(au.Codec); err != nil {
				return err
			}
		}
		pic, err := c.decoder.Decode(au)
		switch {
		case err != nil:
			c.lastError = err
			c.count(func(st *Stats) { st.DecodeErrors++ })
			c.s.cfg.OnDamage()
			c.lose()
		case pic == nil:
		case pic.Damaged():
			c.count(func(st *Stats) { st.Decoded++; st.Damaged++ })
			c.s.cfg.OnDamage()
			c.lose()
		default:
			c.handOn(pic)
		}
	}
}

// hold returns when the session is not held any more, or the connection has ended.
func (c *connection) hold(ctx context.Context) {
	waited := false
	for ctx.Err() == nil {
		held, picture, closed := c.queue.holding()
		if !held {
			break
		}
		if closed {
			c.queue.discardAll()
			return
		}
		waited = true
		if picture && c.liveSince.IsZero() {
			c.liveSince = time.Now()
			c.picture.Stop()
			c.s.report(State{Phase: PhaseLive})
		}
		select {
		case <-c.queue.wake:
		case <-ctx.Done():
		}
	}
	if waited {
		c.picture.Reset(c.s.cfg.PictureTimeout)
	}
}

// wants decides whether au can be decoded into something good.
func (c *connection) wants(au AccessUnit) bool {
	if au.AfterLoss && !au.Key {
		c.lose()
	}
	if c.waitKey && !au.Key {
		return false
	}
	if c.waitKey && c.broken {
		c.count(func(st *Stats) { st.Resyncs++ })
	}
	c.waitKey, c.broken = false, false
	return true
}

func (c *connection) lose() {
	if !c.waitKey { // a loss while waiting for the first key frame is no damage
		c.waitKey, c.broken = true, true
	}
}

// tellBlindness reports a camera as down that sends, but nothing that can be shown: with ten seconds between key frames
// one lost packet blinds it for as long. The connection stays, since a new one would have to wait for a key frame too.
func (c *connection) tellBlindness() {
	if c.broken && !c.lastSeen.IsZero() && time.Since(c.lastSeen) >= c.s.cfg.StallTimeout {
		c.s.report(State{Phase: PhaseDown, Cause: CauseDamaged, Detail: "waiting for a key frame after damage"})
	}
}

func (c *connection) open(codec Codec) error {
	if c.decoder != nil {
		c.decoder.Close()
		c.decoder = nil
	}
	d, err := c.s.cfg.NewDecoder(codec)
	if err != nil {
		return WithCause(CauseCodec, err)
	}
	c.decoder, c.codec = d, codec
	return nil
}

func (c *connection) handOn(pic Picture) {
	c.picture.Stop() // a slow OnPicture is not the camera's fault
	c.count(func(st *Stats) { st.Decoded++; st.Pictures++ })
	c.lastSeen = time.Now()
	if c.liveSince.IsZero() {
		c.liveSince = c.lastSeen
	}
	c.s.report(State{Phase: PhaseLive})
	c.s.cfg.OnPicture(pic)
	c.picture.Reset(c.s.cfg.PictureTimeout)
}

func (c *connection) count(change func(*Stats)) { c.s.books.count(change) }
