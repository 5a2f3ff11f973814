package status

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/conditions"
	"github.com/sightline-dev/sightline/pkg/dlq"
	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/sampling"
	"github.com/sightline-dev/sightline/streams"
)

// reader reads the parts of a system side by side.
type reader struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	log    *slog.Logger
	mu     sync.Mutex // guards system's Problems
	system *System
}

// failed notes a part that could not be read.
func (r *reader) failed(area string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.system.Problems = append(r.system.Problems, Problem{
		Area: area, What: "could not be read: " + err.Error(), Page: "broker",
		Do: "see whether the broker answers, and whether all is declared: sightline apply, or start recovery",
	})
}

// readBroker asks about every stream.
func (r *reader) readBroker(ctx context.Context) error {
	b := Broker{Server: r.nc.ConnectedServerName(), Cluster: r.nc.ConnectedClusterName()}
	nodes := map[string]*Node{}
	node := func(name string) *Node {
		if nodes[name] == nil {
			nodes[name] = &Node{Name: name}
		}
		return nodes[name]
	}
	missing := streams.Declared(streams.Options{})
	list := r.js.ListStreams(ctx)
	for info := range list.Info() {
		if _, declared := missing[info.Config.Name]; !declared {
			continue
		}
		delete(missing, info.Config.Name)
		s := Stream{Name: info.Config.Name, Replicas: max(info.Config.Replicas, 1), Messages: info.State.Msgs, Bytes: info.State.Bytes, Leader: b.Server}
		b.Bytes += s.Bytes
		if c := info.Cluster; c != nil {
			s.Clustered, s.Leader = true, c.Leader
			for _, p := range c.Replicas {
				n := node(p.Name)
				n.Offline = n.Offline || p.Offline
				if p.Offline || !p.Current {
					s.Behind = append(s.Behind, p.Name)
				}
			}
		}
		if s.Leader != "" {
			node(s.Leader).Leads++
		}
		b.Streams = append(b.Streams, s)
	}
	if err := list.Err(); err != nil {
		return fmt.Errorf("list streams: %w", err)
	}
	b.Missing = slices.Sorted(maps.Keys(missing))
	slices.SortFunc(b.Streams, func(x, y Stream) int { return cmp.Compare(x.Name, y.Name) })
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		b.Nodes = append(b.Nodes, *nodes[name])
	}
	r.system.Broker = b
	return nil
}

// entries are the values of a bucket.
func entries(ctx context.Context, js jetstream.JetStream, bucket string) ([]jetstream.KeyValueEntry, error) {
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", bucket, err)
	}
	w, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("read bucket %s: %w", bucket, err)
	}
	defer func() { _ = w.Stop() }()
	var out []jetstream.KeyValueEntry
	for {
		select {
		case e, ok := <-w.Updates():
			if !ok || e == nil { // that was all
				return out, nil
			}
			out = append(out, e)
		case <-ctx.Done():
			return nil, fmt.Errorf("read bucket %s: %w", bucket, context.Cause(ctx))
		}
	}
}

const servicePrefix = "service."

// readFleet reads who is at work, and what needs them: cameras, models and queues.
func (r *reader) readFleet(ctx context.Context) error {
	leases, err := entries(ctx, r.js, streams.LeasesBucket)
	if err != nil {
		return err
	}
	holders := map[string]lease.Holder{}
	for _, e := range leases {
		if h, err := lease.Decode(e.Value()); err == nil {
			holders[e.Key()] = h
		}
	}
	found, err := entries(ctx, r.js, streams.WorkersBucket)
	if err != nil {
		return err
	}
	var workers []fleet.Worker
	for _, e := range found {
		w, err := fleet.Decode(e.Value())
		if err == nil && (w.State == fleet.Dead || time.Since(e.Created()) < streams.WorkerTTL) {
			workers = append(workers, w)
		}
	}
	r.system.Services = services(workers, holders)
	return errors.Join(r.readCameras(ctx, holders), r.readModels(ctx, workers), r.readQueues(ctx, workers))
}

// wanted are the services that a system needs.
func wanted() []string { return []string{"ingest", "preprocess", "infer", "recovery"} }

func services(workers []fleet.Worker, holders map[string]lease.Holder) []Service {
	byName := map[string]*Service{}
	of := func(name string) *Service {
		if byName[name] == nil {
			byName[name] = &Service{Name: name, Alive: []string{}}
		}
		return byName[name]
	}
	for _, name := range wanted() {
		of(name)
	}
	of("recovery").Leads = true
	for key, h := range holders {
		if name, ok := strings.CutPrefix(key, servicePrefix); ok {
			of(name).Leads, of(name).Leader = true, h.Instance
		}
	}
	for _, w := range workers {
		s := of(w.Service)
		if w.State == fleet.Alive {
			s.Alive = append(s.Alive, w.Instance)
			s.Busiest = max(s.Busiest, w.Load.Busy)
			continue
		}
		d := Death{Instance: w.Instance, At: w.At}
		if w.Epitaph != nil {
			d.Cause, d.At = w.Epitaph.Cause, w.Epitaph.At
		}
		s.Dead = append(s.Dead, d)
	}
	order := append(wanted(), slices.Sorted(maps.Keys(byName))...)
	var out []Service
	for _, name := range order {
		if s := byName[name]; s != nil {
			slices.Sort(s.Alive)
			slices.SortFunc(s.Dead, func(a, b Death) int { return a.At.Compare(b.At) })
			out = append(out, *s)
			delete(byName, name)
		}
	}
	return out
}

// readModels reads which models are wanted, who serves them, and which were refused last.
func (r *reader) readModels(ctx context.Context, workers []fleet.Worker) error {
	found, err := entries(ctx, r.js, streams.ModelsBucket)
	if err != nil {
		return err
	}
	told, err := lastEvents(ctx, r.js, streams.EventSubject("model", "*", "*"))
	if err != nil {
		return err
	}
	models := make([]Model, 0, len(found))
	for _, e := range found {
		m := Model{Name: e.Key()}
		var stored struct {
			Version int `json:"version"`
		}
		if json.Unmarshal(e.Value(), &stored) == nil {
			m.Version = stored.Version
		}
		for _, w := range workers {
			if w.State == fleet.Alive && slices.ContainsFunc(w.Lanes, func(l fleet.Lane) bool { return l.Model == m.Name }) {
				m.Served++
			}
		}
		var loaded, refused events.Event
		for _, t := range told {
			switch {
			case t.Name != m.Name:
			case t.Kind == "loaded":
				loaded = t
			case t.Kind == "refused":
				refused = t
			}
		}
		if refused.At.After(loaded.At) && refused.Facts["version"] == strconv.Itoa(m.Version) {
			m.Refused, m.Since = refused.Detail, refused.At
		}
		models = append(models, m)
	}
	slices.SortFunc(models, func(a, b Model) int { return cmp.Compare(a.Name, b.Name) })
	r.system.Models = models
	return nil
}

// readQueues asks how much waits for each work group, and who serves it.
func (r *reader) readQueues(ctx context.Context, workers []fleet.Worker) error {
	queues := []Queue{}
	for _, g := range streams.WorkGroups("*", "*") {
		if slices.ContainsFunc(queues, func(q Queue) bool { return q.Stream == g.Stream }) {
			continue
		}
		s, err := r.js.Stream(ctx, g.Stream)
		if errors.Is(err, jetstream.ErrStreamNotFound) { // a problem of the broker's
			continue
		}
		if err != nil {
			return fmt.Errorf("stream %s: %w", g.Stream, err)
		}
		list := s.ListConsumers(ctx)
		for c := range list.Info() {
			if c.Config.Durable == "" {
				continue
			}
			q := Queue{Stream: g.Stream, Group: c.Name, Waiting: c.NumPending, InHand: c.NumAckPending, Redelivered: c.NumRedelivered}
			for _, w := range workers {
				if w.State == fleet.Alive && serves(w, q.Group) {
					q.Workers++
				}
			}
			queues = append(queues, q)
		}
		if err := list.Err(); err != nil {
			return fmt.Errorf("list work groups of %s: %w", g.Stream, err)
		}
	}
	slices.SortFunc(queues, func(a, b Queue) int { return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Stream, b.Stream)) })
	r.system.Queues = queues
	return nil
}

// serves says whether a worker takes from a work group.
func serves(w fleet.Worker, group string) bool {
	if w.Service == "preprocess" && group == "preprocess" {
		return true
	}
	return slices.ContainsFunc(w.Lanes, func(l fleet.Lane) bool { return group == w.Service+"-"+l.Model+"-"+string(l.Lane) })
}

func (r *reader) readBooks(ctx context.Context) error {
	lines, _, err := ledger.Balance(ctx, r.js)
	if err != nil {
		return err
	}
	var b Books
	for _, l := range lines {
		b.Captured, b.Predicted, b.Superseded = b.Captured+l.Captured, b.Predicted+l.Predicted, b.Superseded+l.Superseded
		b.Expired, b.Quarantined, b.InFlight, b.Lost = b.Expired+l.Expired, b.Quarantined+l.Quarantined, b.InFlight+l.InFlight, b.Lost+l.Lost
		if !l.Balanced() {
			b.Unbalanced = append(b.Unbalanced, l)
		}
	}
	r.system.Books = b
	return nil
}

func (r *reader) readDLQ(ctx context.Context) error {
	s, err := r.js.Stream(ctx, streams.DLQ)
	if err != nil {
		return fmt.Errorf("stream %s: %w", streams.DLQ, err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(streams.DLQSubject("*", "*")))
	if err != nil {
		return fmt.Errorf("stream %s: %w", streams.DLQ, err)
	}
	q := Quarantined{Messages: info.State.Msgs, By: map[string]uint64{}}
	for subject, n := range info.State.Subjects {
		if parts := strings.Split(subject, "."); len(parts) == 3 {
			q.By[parts[1]+" "+parts[2]] += n
		}
	}
	if q.Messages > 0 {
		if q.LastHour, _, err = dlq.Count(ctx, r.js, dlq.Filter{Since: r.system.At.Add(-time.Hour)}); err != nil {
			return err
		}
	}
	r.system.DLQ = q
	return nil
}

func (r *reader) readSampling(ctx context.Context) error {
	found, err := entries(ctx, r.js, streams.SamplingBucket)
	if err != nil {
		return err
	}
	for _, e := range found {
		if s, err := sampling.Decode(e.Value()); e.Key() == sampling.Key && err == nil && !s.Share.Full() {
			r.system.Sampling = &s
		}
	}
	return nil
}

// readDrift reads what the drift-monitor says, and what is done about it. A system without it is none the worse.
func (r *reader) readDrift(ctx context.Context) error {
	report, _, err := drift.Read(ctx, r.js)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	r.system.Drift = &report
	if r.system.Conditions, err = conditions.Read(ctx, r.js); errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil
	}
	return err
}
