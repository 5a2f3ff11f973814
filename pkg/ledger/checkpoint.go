package ledger

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

const (
	// positionKey is not the name of any camera.
	positionKey = "_position"
	// checkpointVersion changes with what a checkpoint means.
	checkpointVersion = 1
	// compressFrom keeps what 1,000 cameras write small, and the books of one whose every other frame is evicted far below
	// a broker's message limit.
	compressFrom = 4 << 10
)

// checkpoint is how far the books have come. In the bucket it is one key for each camera and one for the position,
// which is written last and read first: a camera's books may be newer than the position, never older, and what
// is read again does them no harm, because they are sets and what is final stays so.
type checkpoint struct {
	books    *Books
	created  time.Time // of LEDGER
	sequence uint64    // in LEDGER: everything up to here is in the books
	middle   bool      // LEDGER began in the middle, at that record
	began    time.Time
}

// position is what the position's key holds.
type position struct {
	Version    int        `json:"version"`
	Writer     string     `json:"writer"` // the Auditor that may write
	At         time.Time  `json:"at"`
	Created    time.Time  `json:"created"`
	Sequence   uint64     `json:"sequence"`
	Middle     bool       `json:"middle,omitempty"`
	Began      time.Time  `json:"began"`
	Newest     time.Time  `json:"newest"`
	Unreadable uint64     `json:"unreadable"`
	Breaks     int        `json:"breaks"`
	Paces      paces      `json:"paces"`
	Incidents  []Incident `json:"incidents,omitempty"`
}

func (c *checkpoint) position(writer string) position {
	b := c.books
	return position{
		Version: checkpointVersion, Writer: writer, At: time.Now().UTC(), Created: c.created, Sequence: c.sequence, Middle: c.middle, Began: c.began,
		Newest: b.newest, Unreadable: b.Unreadable, Breaks: b.breaks, Paces: b.paces, Incidents: b.incidents,
	}
}

func (p position) checkpoint() *checkpoint {
	return &checkpoint{
		books:   &Books{cameras: map[string]*camera{}, newest: p.Newest, Unreadable: p.Unreadable, breaks: p.Breaks, paces: p.Paces, incidents: p.Incidents},
		created: p.Created, sequence: p.Sequence, middle: p.Middle, began: p.Began,
	}
}

func decodePosition(data []byte) (position, error) {
	var p position
	if err := json.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("books of the ledger: position: %w", err)
	}
	if p.Version != checkpointVersion {
		return p, fmt.Errorf("books of the ledger: version %d, this program knows %d", p.Version, checkpointVersion)
	}
	return p, nil
}

// loadCheckpoint reads what an Auditor last wrote down; nothing when there is none.
func loadCheckpoint(ctx context.Context, js jetstream.JetStream) (*checkpoint, error) {
	kv, err := js.KeyValue(ctx, streams.BooksBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return &checkpoint{books: &Books{}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", streams.BooksBucket, err)
	}
	entry, err := kv.Get(ctx, positionKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return &checkpoint{books: &Books{}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("books of the ledger: position: %w", err)
	}
	p, err := decodePosition(entry.Value())
	if err != nil {
		return nil, err
	}
	saved := p.checkpoint()
	_, err = saved.loadCameras(ctx, kv)
	return saved, err
}

// loadCameras reads every camera's books, and says which revisions they are.
func (c *checkpoint) loadCameras(ctx context.Context, kv jetstream.KeyValue) (map[string]uint64, error) {
	revisions := map[string]uint64{}
	err := list(ctx, kv, func(e jetstream.KeyValueEntry) error {
		if e.Key() == positionKey {
			return nil
		}
		revisions[e.Key()] = e.Revision()
		if c.sequence == 0 { // nobody knows how far these had come: LEDGER is read from its beginning
			return nil
		}
		var err error
		if c.books.cameras[e.Key()], err = decodeCamera(e.Key(), e.Value()); err != nil {
			return fmt.Errorf("%s: %w", e.Key(), err)
		}
		for _, epoch := range c.books.cameras[e.Key()].epochs {
			for _, h := range epoch.hands() {
				c.books.began(process{h.stage, h.instance}, run{h.run, epoch.heard})
			}
		}
		return nil
	}, jetstream.IgnoreDeletes())
	return revisions, err
}

// listTimeout is how long the next entry of the bucket may take: a watch that began while a cluster had no leader may never
// tell anything.
const listTimeout = 5 * time.Second

// list calls each with every entry of the bucket.
func list(ctx context.Context, kv jetstream.KeyValue, each func(jetstream.KeyValueEntry) error, opts ...jetstream.WatchOpt) error {
	all, err := kv.WatchAll(ctx, opts...)
	if err != nil {
		return fmt.Errorf("books of the ledger: %w", err)
	}
	defer func() { _ = all.Stop() }()
	late := time.NewTimer(listTimeout)
	defer late.Stop()
	for {
		select {
		case e, ok := <-all.Updates():
			if !ok || e == nil { // these are all
				return nil
			}
			if err := each(e); err != nil {
				return fmt.Errorf("books of the ledger: %w", err)
			}
			late.Reset(listTimeout)
		case <-late.C:
			return fmt.Errorf("books of the ledger: no answer within %s", listTimeout)
		case <-ctx.Done():
			return fmt.Errorf("books of the ledger: %w", context.Cause(ctx))
		}
	}
}

// savedCamera is what a camera's key holds.
type savedCamera struct {
	Retired uint64                `json:"retired,omitempty"`
	Breaks  int                   `json:"breaks,omitempty"`
	Told    map[string]uint64     `json:"told,omitempty"`
	Closed  map[string]*Line      `json:"closed,omitempty"`
	Epochs  map[uint64]savedEpoch `json:"epochs,omitempty"`
}

type savedEpoch struct {
	Route   *Route       `json:"route,omitempty"`
	RouteAt time.Time    `json:"route_at"`
	Heard   time.Time    `json:"heard"`
	Final   uint64       `json:"final,omitempty"`
	Entries []Entry      `json:"entries,omitempty"`
	Hands   []savedHand  `json:"hands,omitempty"`
	Clock   [][2]int64   `json:"clock,omitempty"` // frame, nanoseconds
	Reach   []savedReach `json:"reach,omitempty"`
}

type savedHand struct {
	Model    string `json:"model,omitempty"`
	Stage    string `json:"stage"`
	Instance string `json:"instance"`
	Run      int64  `json:"run,omitempty"`
	Again    int    `json:"again,omitempty"`
	Taken    Ranges `json:"taken,omitempty"`
	Returned Ranges `json:"returned,omitempty"`
}

type savedReach struct {
	Incident Incident `json:"incident"`
	After    uint64   `json:"after,omitempty"`
	UpTo     uint64   `json:"up_to"`
}

func encodeCamera(c *camera) ([]byte, error) {
	saved := savedCamera{Retired: c.retired, Breaks: c.breaks, Told: c.told, Closed: c.closed, Epochs: map[uint64]savedEpoch{}}
	for id, e := range c.epochs {
		saved.Epochs[id] = e.save()
	}
	return json.Marshal(saved)
}

func compressed(data []byte) ([]byte, error) {
	if len(data) < compressFrom {
		return data, nil
	}
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(data); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func decodeCamera(name string, data []byte) (*camera, error) {
	if len(data) > 0 && data[0] != '{' {
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		if data, err = io.ReadAll(z); err != nil {
			return nil, err
		}
	}
	var saved savedCamera
	if err := json.Unmarshal(data, &saved); err != nil {
		return nil, err
	}
	c := &camera{name: name, retired: saved.Retired, breaks: saved.Breaks, told: saved.Told, closed: map[string]*Line{}, epochs: map[uint64]*epoch{}}
	for model, line := range saved.Closed {
		if line.Reasons == nil {
			line.Reasons = map[string]uint64{}
		}
		c.closed[model] = line
	}
	for id, e := range saved.Epochs {
		c.epochs[id] = e.epoch()
	}
	return c, nil
}

func (e *epoch) save() savedEpoch {
	s := savedEpoch{Route: e.route, RouteAt: e.routeAt, Heard: e.heard, Final: e.final}
	add := func(k entryKey, frames Ranges) {
		if len(frames) > 0 {
			s.Entries = append(s.Entries, Entry{Mark: k.mark, Model: k.model, Reason: k.reason, Frames: frames})
		}
	}
	add(entryKey{mark: Captured}, e.captured)
	add(entryKey{mark: Published}, e.published)
	part := func(model string, w work, fates map[entryKey]*Ranges) {
		add(entryKey{mark: Taken, model: model}, w.taken)
		for k, frames := range fates {
			add(entryKey{mark: k.mark, model: model, reason: k.reason}, *frames)
		}
		for h, f := range w.hands {
			s.Hands = append(s.Hands, savedHand{Model: model, Stage: h.stage, Instance: h.instance, Run: h.run, Again: h.again, Taken: f.taken, Returned: f.returned})
		}
	}
	part("", e.work, e.fates)
	for name, m := range e.models {
		s.Entries = append(s.Entries, Entry{Mark: Forwarded, Model: name, Frames: m.forwarded}) // also when empty: the model has been seen
		part(name, m.work, m.fates)
	}
	for _, c := range e.clock {
		s.Clock = append(s.Clock, [2]int64{int64(c.seq), c.at.UnixNano()}) //nolint:gosec // a frame number
	}
	for i, n := range e.reach {
		s.Reach = append(s.Reach, savedReach{i, n.after, n.upTo})
	}
	return s
}

func (s savedEpoch) epoch() *epoch {
	e := &epoch{route: s.Route, routeAt: s.RouteAt, heard: s.Heard, final: s.Final, fates: map[entryKey]*Ranges{}, models: map[string]*modelMarks{}}
	workOf := func(model string) *work {
		if model == "" {
			return &e.work
		}
		return &e.model(model).work
	}
	for _, entry := range s.Entries {
		switch entry.Mark {
		case Captured:
			e.captured = entry.Frames
		case Published:
			e.published = entry.Frames
		case Taken:
			workOf(entry.Model).taken = entry.Frames
		case Forwarded:
			e.model(entry.Model).forwarded = entry.Frames
		default:
			fates := e.fates
			if entry.Model != "" {
				fates = e.model(entry.Model).fates
			}
			fates[entryKey{mark: entry.Mark, reason: entry.Reason}] = &entry.Frames
		}
	}
	for _, h := range s.Hands {
		*workOf(h.Model).of(hand{h.Stage, h.Instance, h.Run, h.Again}) = handful{h.Taken, h.Returned}
	}
	for _, c := range s.Clock {
		e.clock = append(e.clock, capture{uint64(c[0]), time.Unix(0, c[1]).UTC()}) //nolint:gosec // a frame number
	}
	if len(s.Reach) > 0 {
		e.reach = make(map[Incident]reach, len(s.Reach))
	}
	for _, r := range s.Reach {
		e.reach[r.Incident] = reach{r.After, r.UpTo}
	}
	return e
}
