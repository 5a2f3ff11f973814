package ledger

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

const (
	// evaluateEvery is how often an Auditor looks whether anything is lost.
	evaluateEvery = 5 * time.Second
	// checkpointEvery is how much of LEDGER its successor reads again.
	checkpointEvery = 30 * time.Second
	// lastCheckpoint bounds the attempt to write the books down when it ends.
	lastCheckpoint = 5 * time.Second
)

// ErrAnotherAuditor is returned by Run when another Auditor has begun.
var ErrAnotherAuditor = errors.New("another auditor keeps the books")

// errDeleted means that a key that an Auditor had written is gone.
var errDeleted = errors.New("it was deleted")

// Auditor keeps the books for as long as the system exists. It follows LEDGER, writes down where the books stand in the
// bucket BOOKS, and goes on from there when it is started again: what LEDGER has forgotten stays in the totals.
//
// # Delivery
//
// A restart loses nothing and counts nothing twice: what was read since the last checkpoint is read again. When LEDGER
// was purged or made anew the totals stay, and the books go on at its new beginning; frames that were in flight then
// are in no total, for nobody knows what became of them.
//
// When BOOKS was deleted, or a key that it writes, it writes everything anew with its next checkpoint.
//
// # Concurrency
//
// One Auditor writes at a time: the one that began last. It takes the position's key over when it begins, every key is
// written by compare-and-set, and one that finds the position taken ends with ErrAnotherAuditor. What such a one may
// still have written of a camera was right when it read it, and is written over where the other knows more.
type Auditor struct {
	// OnLost, when set, is told of every camera and model of which more frames are lost than before. It is called after
	// what is unexplained was looked up, and looked at twice: a fate that was late because the broker was away is no
	// alarm. It must not block for long.
	OnLost func(Line)
	// OnBooks, when set, gets the books after every look. Lost is what was told of, so that what is late is not called lost. It
	// must not block, nor keep the slice.
	OnBooks func([]Line)

	js     jetstream.JetStream
	log    *slog.Logger
	writer string
	every  struct{ evaluate, checkpoint time.Duration }
	kv     jetstream.KeyValue
	held   HeldBefore

	mu        sync.Mutex
	fold      *fold
	read      chan struct{}      // something was
	lost      map[lineKey]uint64 // at the last look
	written   uint64             // the sequence of the last checkpoint
	keys      sync.Mutex
	revisions map[string]uint64 // of the keys, as this Auditor knows them
}

type lineKey struct{ camera, model string }

// NewAuditor returns an Auditor. Run does the work.
func NewAuditor(js jetstream.JetStream, log *slog.Logger) *Auditor {
	a := &Auditor{js: js, log: log, writer: rand.Text(), held: HeldBefore{JS: js}, read: make(chan struct{}, 1), lost: map[lineKey]uint64{}}
	a.every.evaluate, a.every.checkpoint = evaluateEvery, checkpointEvery
	return a
}

// Run keeps the books until ctx ends, which is no error, or until another Auditor begins.
func (a *Auditor) Run(ctx context.Context) error {
	if err := a.begin(ctx); err != nil {
		return err
	}
	following, stop := context.WithCancel(ctx)
	var follow sync.WaitGroup
	follow.Go(func() { a.fold.tail.follow(following) })
	err := a.loop(ctx)
	stop()
	follow.Wait()
	if err != nil {
		return err
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastCheckpoint)
	defer cancel()
	return a.checkpoint(last)
}

func (a *Auditor) loop(ctx context.Context) error {
	evaluate, checkpoint := time.NewTicker(a.every.evaluate), time.NewTicker(a.every.checkpoint)
	defer evaluate.Stop()
	defer checkpoint.Stop()
	var told error
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-evaluate.C:
			err = a.evaluate(ctx)
		case <-checkpoint.C:
			err = a.checkpoint(ctx)
		}
		switch {
		case errors.Is(err, ErrAnotherAuditor):
			return err
		case err != nil && told == nil && ctx.Err() == nil: // once for each outage
			a.log.WarnContext(ctx, "the books cannot be kept up to date, trying again", slog.Any("error", err))
		}
		told = err
	}
}

// begin takes the books over, and reads where they stand.
func (a *Auditor) begin(ctx context.Context) error {
	var err error
	if a.kv, err = a.js.KeyValue(ctx, streams.BooksBucket); err != nil {
		return fmt.Errorf("bucket %s: %w", streams.BooksBucket, err)
	}
	saved, err := a.claim(ctx)
	if err != nil {
		return err
	}
	position := a.revisions[positionKey]
	if a.revisions, err = saved.loadCameras(ctx, a.kv); err != nil {
		return err
	}
	a.revisions[positionKey] = position
	saved.books.audited = true
	a.fold = newFold(a.js, saved)
	a.written = saved.sequence
	take, missed := a.fold.tail.take, a.fold.tail.missed
	a.fold.tail.missed = func() { a.mu.Lock(); defer a.mu.Unlock(); missed() }
	a.fold.tail.take = func(m Message, err error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		take(m, err)
		select {
		case a.read <- struct{}{}:
		default:
		}
	}
	return nil
}

// claim makes this Auditor the one that writes.
func (a *Auditor) claim(ctx context.Context) (*checkpoint, error) {
	for {
		saved := &checkpoint{books: &Books{cameras: map[string]*camera{}}}
		var revision uint64
		switch entry, err := a.kv.Get(ctx, positionKey); {
		case errors.Is(err, jetstream.ErrKeyNotFound):
		case err != nil:
			return nil, fmt.Errorf("books of the ledger: position: %w", err)
		default:
			p, err := decodePosition(entry.Value())
			if err != nil {
				return nil, err
			}
			saved, revision = p.checkpoint(), entry.Revision()
		}
		a.revisions = map[string]uint64{positionKey: revision}
		data, err := json.Marshal(saved.position(a.writer))
		if err != nil {
			return nil, fmt.Errorf("books of the ledger: position: %w", err)
		}
		switch err := a.put(ctx, positionKey, data); {
		case err == nil:
			return saved, nil
		case !streams.Conflict(err):
			return nil, fmt.Errorf("take the books over: %w", err)
		}
	}
}

// evaluate looks up what is unexplained, and tells what is lost.
func (a *Auditor) evaluate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := a.awaitNow(ctx); err != nil {
		return err
	}
	now := time.Now()
	a.mu.Lock()
	every := a.fold.books.Pace()
	a.mu.Unlock()
	held := a.held.At(ctx, now, every)
	a.mu.Lock()
	questions := a.fold.books.questions(a.fold.books.at(now, held))
	a.mu.Unlock()
	answers, err := ask(ctx, a.js, questions) // meanwhile records may come
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.fold.books.learn(questions, answers, now)
	lines := a.fold.books.Lines(now, held)
	news := a.newlyLost(lines)
	for i, l := range lines {
		lines[i].Lost = a.fold.books.cameras[l.Camera].told[l.Model]
	}
	a.mu.Unlock()
	if a.OnBooks != nil {
		a.OnBooks(lines)
	}
	for _, l := range news {
		if a.OnLost != nil {
			a.OnLost(l)
		}
	}
	return nil
}

// newlyLost are the lines with frames that were lost at the last look already, and have not been told of. What has been
// told is in the checkpoint: a restart is no reason to tell it again.
func (a *Auditor) newlyLost(lines []Line) []Line {
	var out []Line
	for _, l := range lines {
		k, c := lineKey{l.Camera, l.Model}, a.fold.books.cameras[l.Camera]
		told := min(c.told[l.Model], l.Lost)
		if confirmed := min(l.Lost, a.lost[k]); confirmed > told {
			told = confirmed
			out = append(out, l)
		}
		if told != c.told[l.Model] {
			if c.told == nil {
				c.told = map[string]uint64{}
			}
			c.told[l.Model], c.changed = told, true
		}
		a.lost[k] = l.Lost
	}
	return out
}

// awaitNow waits until what LEDGER holds now was read: books that are behind would call lost what has its fate in what
// they have not read.
func (a *Auditor) awaitNow(ctx context.Context) error {
	stream, err := a.js.Stream(ctx, streams.Ledger)
	if err != nil {
		return fmt.Errorf("stream %s: %w", streams.Ledger, err)
	}
	info := stream.CachedInfo()
	late := time.NewTimer(a.every.evaluate)
	defer late.Stop()
	for {
		a.mu.Lock()
		done := a.fold.sequence >= info.State.LastSeq && (a.fold.created.Equal(info.Created) || info.State.LastSeq == 0)
		a.mu.Unlock()
		if done || info.State.Msgs == 0 {
			return nil
		}
		select {
		case <-a.read:
		case <-late.C:
			return fmt.Errorf("reading %s has not come to its end yet", streams.Ledger)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// checkpoint writes down what has changed; everything when somebody deleted what was written.
func (a *Auditor) checkpoint(ctx context.Context) error {
	err := a.writeDown(ctx)
	if !errors.Is(err, errDeleted) {
		return err
	}
	a.log.WarnContext(ctx, "the books were deleted, writing them anew", slog.String("bucket", streams.BooksBucket))
	if err := a.renew(ctx); err != nil {
		return err
	}
	return a.writeDown(ctx)
}

// renew makes the next checkpoint write every key, whatever has become of it.
func (a *Auditor) renew(ctx context.Context) error {
	revisions := map[string]uint64{}
	err := list(ctx, a.kv, func(e jetstream.KeyValueEntry) error {
		revisions[e.Key()] = e.Revision()
		return nil
	}, jetstream.MetaOnly()) // deletions too: they have revisions
	if err != nil {
		return err
	}
	a.keys.Lock()
	a.revisions = revisions
	a.keys.Unlock()
	a.mu.Lock()
	for _, c := range a.fold.books.cameras {
		c.changed = true
	}
	a.mu.Unlock()
	return a.mine(ctx)
}

// mine reports ErrAnotherAuditor when another one has taken the books over.
func (a *Auditor) mine(ctx context.Context) error {
	entry, err := a.kv.Get(ctx, positionKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("books of the ledger: position: %w", err)
	}
	if p, err := decodePosition(entry.Value()); err != nil || p.Writer == a.writer {
		return err
	}
	return ErrAnotherAuditor
}

// writeDown writes what has changed: first the cameras, then how far the books have come.
func (a *Auditor) writeDown(ctx context.Context) error {
	type write struct {
		key  string
		data []byte
	}
	var writes []write
	a.mu.Lock()
	sequence := a.fold.sequence
	position, err := json.Marshal(a.fold.position(a.writer))
	for name, c := range a.fold.books.cameras {
		if !c.changed {
			continue
		}
		data, err := encodeCamera(c)
		if err != nil {
			a.mu.Unlock()
			return fmt.Errorf("books of %s: %w", name, err)
		}
		writes = append(writes, write{name, data})
		c.changed = false
	}
	a.mu.Unlock()
	if err != nil || len(writes) == 0 && sequence == a.written {
		return err
	}
	slices.SortFunc(writes, func(x, y write) int { return cmp.Compare(x.key, y.key) })

	undo := func(w write) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.fold.books.cameras[w.key].changed = true
	}
	err = sideBySide(writes, func(w write) error {
		data, err := compressed(w.data)
		if err != nil {
			return err
		}
		return a.write(ctx, w.key, data)
	}, undo)
	if err == nil { // the position stays behind until every camera is written
		err = a.write(ctx, positionKey, position)
	}
	if err != nil {
		return fmt.Errorf("write the books down: %w", err)
	}
	a.written = sequence
	return nil
}

// write writes a key. When somebody else wrote it, it asks whose books they are.
func (a *Auditor) write(ctx context.Context, key string, data []byte) error {
	for {
		err := a.put(ctx, key, data)
		if !streams.Conflict(err) {
			return err
		}
		entry, err := a.kv.Get(ctx, positionKey)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return fmt.Errorf("position: %w", errDeleted)
		}
		if err != nil {
			return fmt.Errorf("position: %w", err)
		}
		p, err := decodePosition(entry.Value())
		if err != nil {
			return err
		}
		if p.Writer != a.writer {
			return ErrAnotherAuditor
		}
		// Mine: an acknowledgement got lost, or the Auditor before has not heard of me yet.
		if key != positionKey {
			entry, err = a.kv.Get(ctx, key)
			if errors.Is(err, jetstream.ErrKeyNotFound) {
				return fmt.Errorf("%s: %w", key, errDeleted)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
		a.keys.Lock()
		a.revisions[key] = entry.Revision()
		a.keys.Unlock()
	}
}

// put writes a key if nobody else did since this Auditor saw it.
func (a *Auditor) put(ctx context.Context, key string, data []byte) error {
	a.keys.Lock()
	revision := a.revisions[key]
	a.keys.Unlock()
	revision, err := a.kv.Update(ctx, key, data, revision) // 0: there must be none
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	a.keys.Lock()
	a.revisions[key] = revision
	a.keys.Unlock()
	return nil
}
