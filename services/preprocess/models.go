package preprocess

import (
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/streams"
)

// Models knows the declared models. It is safe for concurrent use and answers from memory.
type Models interface {
	Model(name string) (model.Declaration, bool)
}

// StaticModels are models that do not change.
type StaticModels map[string]model.Declaration

var _ Models = StaticModels(nil)

// Model returns the declaration of that name.
func (m StaticModels) Model(name string) (model.Declaration, bool) {
	d, ok := m[name]
	return d, ok
}

// Owners knows who captures a camera now. It is safe for concurrent use and answers from memory.
type Owners interface {
	Holder(camera string) (lease.Holder, bool)
}

var _ Owners = (*lease.View)(nil)

// lane is the lane that a camera's frames take to a model. Rollouts will decide it by camera, sticky.
func lane(_, _ string) streams.Lane { return streams.LaneStable }
