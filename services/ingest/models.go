package ingest

import (
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/model"
)

// errModelsChanged ends a capture: frames are scaled for what their models need.
var errModelsChanged = errors.New("a model's input changed")

func (s *Service) watchModels(ctx context.Context, cfg config.Camera, have []model.Declaration, stop context.CancelCauseFunc) {
	for {
		same, changed := s.unchanged(cfg, have)
		if !same {
			stop(errModelsChanged)
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// unchanged reports whether a camera's models are as they were, as far as they are declared, and when to ask again.
func (s *Service) unchanged(cfg config.Camera, have []model.Declaration) (same bool, changed <-chan struct{}) {
	_, changed = s.models.All()
	for i, name := range cfg.Models {
		if d, ok := s.models.Model(name); ok && !reflect.DeepEqual(d, have[i]) {
			return false, changed
		}
	}
	return true, changed
}

// awaitModels waits until every model of a camera is declared.
func (s *Service) awaitModels(ctx context.Context, cfg config.Camera) ([]model.Declaration, bool) {
	for told := false; ; {
		_, changed := s.models.All()
		var out []model.Declaration
		missing := ""
		for _, name := range cfg.Models {
			d, ok := s.models.Model(name)
			if !ok {
				missing = name
				break
			}
			out = append(out, d)
		}
		if missing == "" {
			return out, true
		}
		if !told {
			told = true
			s.events.Tell(events.Event{Area: "camera", Kind: "state", Name: cfg.Name, State: "waiting", Detail: "model " + missing + " is not declared", At: time.Now().UTC()})
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, false
		}
	}
}
