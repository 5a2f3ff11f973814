package ingest

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"sync"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/config"
)

// standBy opens sessions of cameras that this instance would get should their owners end, and closes those of others. A
// camera has such a session because its settings say so, or while its owner is silent: then this instance would get it in
// less than a second, which is what connecting takes. Cameras with a keeper are the keeper's.
func (s *Service) standBy(ctx context.Context, want map[string]catalog.Entry[config.Camera], p *placer, keepers map[string]*keeper, wg *sync.WaitGroup) {
	stand := map[string]bool{}
	for name, e := range want {
		if keepers[name] == nil && ctx.Err() == nil && e.Value.Enabled && p.standsBy(name, e.Value.Standby) {
			stand[name] = true
		}
	}
	for name, f := range s.waiting() {
		if keepers[name] == nil && !f.over.Load() && (!stand[name] || !reflect.DeepEqual(want[name].Value, f.camera)) {
			f.over.Store(true)
			wg.Go(func() { s.cool(name) })
			delete(stand, name) // it is opened with its new settings at the next look
		}
	}
	for name := range stand {
		s.warmUp(ctx, want[name].Value)
	}
}

// waiting are the sessions of cameras that others have.
func (s *Service) waiting() map[string]*feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.warm)
}

// warmUp opens a camera's session before its lease is had, if that has not been done. It stays open should the owner die
// meanwhile. It returns nil when there can be none: that is told once the camera is to be captured.
func (s *Service) warmUp(ctx context.Context, cfg config.Camera) *feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.warm[cfg.Name]; f != nil {
		if f.over.Load() || !reflect.DeepEqual(f.camera, cfg) { // once it is closed there may be another
			return nil
		}
		return f
	}
	f, err := s.open(ctx, cfg, false)
	if err != nil {
		return nil
	}
	s.warm[cfg.Name] = f
	return f
}

// take is the session that was opened with these settings before the lease was had; nil when none was.
func (s *Service) take(cfg config.Camera) *feed {
	s.mu.Lock()
	f := s.warm[cfg.Name]
	delete(s.warm, cfg.Name)
	s.mu.Unlock()
	if f != nil && !reflect.DeepEqual(f.camera, cfg) {
		f.close()
		return nil
	}
	return f
}

// cool closes the session of a camera that this instance does not have. Until it is closed there is no other.
func (s *Service) cool(camera string) {
	s.mu.Lock()
	f := s.warm[camera]
	s.mu.Unlock()
	f.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.warm[camera] == f {
		delete(s.warm, camera)
	}
}

// ready are the cameras on offer that could be captured at once.
func (s *Service) ready() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for name, f := range s.warm {
		if f.offered.Load() && f.ready() {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out[:min(len(out), readyLimit)]
}

// readyLimit bounds what an entry in WORKERS says of cameras.
const readyLimit = 64
