//go:build cgo

package scenarios

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/camera"
	"github.com/sightline-dev/sightline/services/drift-monitor/detect"
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/services/sightline/system"
	"github.com/sightline-dev/sightline/streams"
)

// stillsFPS is the rate of footage that says nothing of time.
const stillsFPS = 10

// Options say what to run.
type Options struct {
	Footage    string // an H.264 MPEG-TS file
	Models     string // the model repository
	Model      string
	ORTLibrary string
	Cache      string // folder of filtered footage
	Only       []string
	FPS        float64
	// Learn is how long the reference takes, Calm how long is watched before anything is switched on, Fault how long a fault
	// lasts, and After how long is watched when it is over.
	Learn, Calm, Fault, After time.Duration
	// Settle is how long references may take at most; 0 is three times Learn and a minute, which is what a scene gets that does
	// not settle. Faults of cameras need no reference.
	Settle time.Duration
	Out    io.Writer // progress
}

// Report is what came of a run.
type Report struct {
	Outcomes []Outcome `json:"outcomes"`
	// CameraHours are those in which nothing was wrong, and FalseAlarms what was told meanwhile.
	CameraHours float64 `json:"camera_hours"`
	FalseAlarms int     `json:"false_alarms"`
	Passed      bool    `json:"passed"`
}

// run is one run.
type run struct {
	o         Options
	scenarios []scenario
	clips     map[string]*camera.Footage // by look; "" is as it is
	truths    map[string]*Truth          // by look

	mu   sync.Mutex
	told map[string][]seen
	news chan struct{}
}

// Run runs scenarios. What is missed is in the report, not in the error.
func Run(ctx context.Context, o Options) (Report, error) {
	r := &run{o: o, clips: map[string]*camera.Footage{}, truths: map[string]*Truth{}, told: map[string][]seen{}, news: make(chan struct{}, 1)}
	for _, s := range all() {
		if len(o.Only) == 0 || slices.Contains(o.Only, s.name) {
			r.scenarios = append(r.scenarios, s)
		}
	}
	for _, name := range o.Only {
		if !slices.Contains(Names(), name) {
			return Report{}, fmt.Errorf("no scenario %q: want some of %s", name, strings.Join(Names(), ", "))
		}
	}
	if err := r.prepare(ctx); err != nil {
		return Report{}, err
	}
	return r.run(ctx)
}

// prepare makes the footage, and finds out what each look does to the model.
func (r *run) prepare(ctx context.Context) error {
	paths := map[string]string{"": r.o.Footage}
	looks := []string{"clean"}
	for _, s := range r.scenarios {
		if s.look != "" && !slices.Contains(looks, s.look) {
			looks = append(looks, s.look)
		}
	}
	for _, name := range looks {
		l, err := camera.FindLook(name)
		if err != nil {
			return err
		}
		r.say("footage: %s, %s", name, l.What)
		if paths[name], err = l.Prepare(ctx, r.o.Footage, r.o.Cache); err != nil {
			return err
		}
	}
	for name, path := range paths {
		var err error
		if r.clips[name], err = camera.Load(path, stillsFPS); err != nil {
			return err
		}
	}
	return r.examine(ctx, paths)
}

func (r *run) examine(ctx context.Context, paths map[string]string) error {
	backend, err := system.NewBackend(r.o.ORTLibrary)
	if err != nil {
		return err
	}
	artifact, err := (model.Repository{Dir: r.o.Models}).Open(r.o.Model)
	if err != nil {
		return err
	}
	m, err := infer.Load(ctx, backend, artifact, infer.Options{})
	if err != nil {
		return err
	}
	e := &examiner{model: m}
	err = r.examineAll(ctx, e, paths)
	return errors.Join(err, m.Close())
}

func (r *run) examineAll(ctx context.Context, e *examiner, paths map[string]string) error {
	clean, width, height, err := e.answers(ctx, paths["clean"])
	if err != nil {
		return err
	}
	for i := range r.scenarios {
		s := &r.scenarios[i]
		if !s.truth {
			continue
		}
		l, err := camera.FindLook(s.look)
		if err != nil {
			return err
		}
		changed, _, _, err := e.answers(ctx, paths[s.look])
		if err != nil {
			return err
		}
		t := truth(clean, changed, width, height, l.Turned)
		r.truths[s.look] = t
		s.judge(t)
		if t != nil {
			r.say("truth: %s finds %.3f of what is there, and %.3f of what it finds is", s.name, t.Recall, t.Precision)
		}
	}
	return nil
}

func (r *run) say(format string, args ...any) {
	_, _ = fmt.Fprintf(r.o.Out, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
}

// run plays all cameras at once.
func (r *run) run(ctx context.Context) (Report, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var cameras sync.WaitGroup
	defer cameras.Wait()
	defer stop()
	file := &config.File{Models: r.o.Models}
	servers := make([]*camera.Server, len(r.scenarios))
	for i, s := range r.scenarios {
		server, err := camera.New(camera.Config{Footage: r.clips[""], Skip: s.skip})
		if err != nil {
			return Report{}, err
		}
		servers[i] = server
		cameras.Go(func() {
			if err := server.Run(ctx); err != nil {
				r.say("camera %s: %v", s.name, err)
				stop()
			}
		})
		select {
		case <-server.Ready():
		case <-ctx.Done():
			return Report{}, context.Cause(ctx)
		}
		url, err := config.ParseURL(server.URL())
		if err != nil {
			return Report{}, err
		}
		c := config.DefaultCamera()
		c.Name, c.URL, c.Models, c.FPS = s.name, url, []string{r.o.Model}, config.Rate(r.o.FPS)
		file.Cameras = append(file.Cameras, c)
	}
	store, err := os.MkdirTemp("", "drift-scenarios-*")
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = os.RemoveAll(store) }()
	judge := detect.Default()
	judge.Reference.Span, judge.Reference.Hours = r.o.Learn, 24 // one reference: nobody waits for an hour
	cfg := system.Config{
		File: file, Port: -1, StoreDir: filepath.Join(store, "broker"), ORTLibrary: r.o.ORTLibrary, Drift: judge, Log: slog.New(slog.DiscardHandler),
	}
	var report Report
	err = system.Run(ctx, cfg, func(ctx context.Context, s *system.System) error {
		report, err = r.play(ctx, s, servers)
		return err
	}, func(context.Context) error { return nil })
	return report, err
}

// play switches everything on and off again, and judges what was told.
func (r *run) play(ctx context.Context, s *system.System, servers []*camera.Server) (Report, error) {
	sub, err := s.JS.Conn().Subscribe(streams.EventSubject("drift", "*", "*"), r.hear)
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	began := time.Now()
	r.say("%d cameras play the footage as it is: the reference takes %v", len(servers), r.o.Learn)
	if err := r.await(ctx, cmp.Or(r.o.Settle, 3*r.o.Learn+time.Minute), r.learnt); err != nil {
		return Report{}, err
	}
	r.say("watching for %v", r.o.Calm)
	if err := pause(ctx, r.o.Calm); err != nil {
		return Report{}, err
	}
	on := time.Now()
	r.say("everything is switched on, for %v", r.o.Fault)
	if err := r.turn(servers, true); err != nil {
		return Report{}, err
	}
	if err := pause(ctx, r.o.Fault); err != nil {
		return Report{}, err
	}
	off := time.Now()
	r.say("and off again, for %v", r.o.After)
	if err := r.turn(servers, false); err != nil {
		return Report{}, err
	}
	if err := pause(ctx, r.o.After); err != nil {
		return Report{}, err
	}
	return r.weigh(began, on, off), nil
}

func (r *run) turn(servers []*camera.Server, on bool) error {
	for i, s := range r.scenarios {
		faults, clip := camera.Faults{}, r.clips[""]
		if on {
			faults = s.faults
			clip = r.clips[s.look]
		}
		if err := errors.Join(servers[i].SetFaults(faults), switchTo(servers[i], s.look != "", clip)); err != nil {
			return err
		}
	}
	return nil
}

func switchTo(s *camera.Server, wanted bool, clip *camera.Footage) error {
	if !wanted {
		return nil
	}
	return s.Switch(clip)
}

// hear takes an event of the drift-monitor.
func (r *run) hear(msg *nats.Msg) {
	e, err := events.Decode(msg.Data)
	if err != nil {
		return
	}
	x := seen{at: time.Now()}
	switch e.Kind {
	case "integrity":
		x.fault, x.up = drift.Fault(e.Cause), e.State == "raised"
	case "state":
		x.state = drift.State(e.State)
	default:
		return
	}
	r.say("%-16s %s %s %s", e.Name, e.State, e.Cause, e.Detail)
	r.mu.Lock()
	r.told[e.Name] = append(r.told[e.Name], x)
	r.mu.Unlock()
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// learnt reports whether every camera has a reference.
func (r *run) learnt() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.scenarios {
		if !slices.ContainsFunc(r.told[s.name], func(x seen) bool { return x.state == drift.OK }) {
			return false
		}
	}
	return true
}

// await returns when something is so, or a time is over: what is missing then shows in the outcome.
func (r *run) await(ctx context.Context, most time.Duration, ok func() bool) error {
	timer := time.NewTimer(most)
	defer timer.Stop()
	for !ok() {
		select {
		case <-r.news:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *run) weigh(began, on, off time.Time) Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := Report{Passed: true}
	for _, s := range r.scenarios {
		o := s.weigh(r.told[s.name], began, on, off, r.truths[s.look])
		report.Outcomes = append(report.Outcomes, o)
		report.CameraHours += o.watched.Hours()
		report.FalseAlarms += o.alarms
		report.Passed = report.Passed && len(o.Misses) == 0
	}
	return report
}
