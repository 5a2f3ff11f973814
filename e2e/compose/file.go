// Package compose reads the compose file, so that tests start what it says, and runs `docker compose`.
package compose

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/sightline-dev/sightline/e2e/engine"
)

// File is a compose file with everything filled in, as `docker compose config` prints it.
type File struct {
	Services map[string]Service `json:"services"`
	Configs  map[string]source  `json:"configs"`
	Secrets  map[string]source  `json:"secrets"`
}

type source struct {
	File string `json:"file"`
}

// Service is one service of the file.
type Service struct {
	Image       string            `json:"image"`
	Command     []string          `json:"command"`
	Environment map[string]string `json:"environment"`
	Configs     []mounted         `json:"configs"`
	Secrets     []mounted         `json:"secrets"`
	Volumes     []volume          `json:"volumes"`
	ReadOnly    bool              `json:"read_only"`
	CapDrop     []string          `json:"cap_drop"`
	SecurityOpt []string          `json:"security_opt"`
	Restart     string            `json:"restart"`
	Grace       string            `json:"stop_grace_period"`
	Health      *health           `json:"healthcheck"`
	Deploy      struct {
		Replicas  int `json:"replicas"`
		Resources struct {
			Limits limits `json:"limits"`
		} `json:"resources"`
	} `json:"deploy"`
}

type mounted struct {
	Source string `json:"source"`
	Target string `json:"target"`
}

type volume struct {
	Type     string `json:"type"`
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only"`
}

type limits struct {
	CPUs   float64 `json:"cpus"`
	Memory string  `json:"memory"`
	PIDs   int64   `json:"pids"`
}

type health struct {
	Test        []string `json:"test"`
	Interval    string   `json:"interval"`
	Timeout     string   `json:"timeout"`
	StartPeriod string   `json:"start_period"`
	Retries     int      `json:"retries"`
}

// Read reads the compose file in dir.
func Read(ctx context.Context, docker, dir string) (*File, error) {
	out, err := command(ctx, docker, dir, nil, "config", "--format", "json")
	if err != nil {
		return nil, err
	}
	var f File
	if err := json.Unmarshal([]byte(out), &f); err != nil {
		return nil, fmt.Errorf("compose file: %w", err)
	}
	return &f, nil
}

// Place is where a service is put other than the file has it.
type Place struct {
	// Name is that of the container; it tells replicas apart.
	Name string
	// Secrets is a folder with files of the same names as the file's secrets.
	Secrets string
	// Configs are files that take the place of the file's configs, by their names.
	Configs map[string]string
	// Volumes are the names of volumes, by those in the file.
	Volumes map[string]string
	// Env is on top of the file's environment.
	Env map[string]string
}

// Spec is the container that the file describes, in its place: without networks and ports.
func (f *File) Spec(service string, p Place) (engine.Spec, error) {
	s, ok := f.Services[service]
	if !ok {
		return engine.Spec{}, fmt.Errorf("compose file: there is no service %s", service)
	}
	out := engine.Spec{Name: p.Name, Image: s.Image, Command: s.Command, Env: maps.Clone(s.Environment)}
	if out.Env == nil {
		out.Env = map[string]string{}
	}
	maps.Copy(out.Env, p.Env)
	memory, err := strconv.ParseInt(cmpOr(s.Deploy.Resources.Limits.Memory, "0"), 10, 64)
	if err != nil {
		return engine.Spec{}, fmt.Errorf("compose file: memory of %s: %w", service, err)
	}
	pids := s.Deploy.Resources.Limits.PIDs
	out.Host = container.HostConfig{
		ReadonlyRootfs: s.ReadOnly, CapDrop: s.CapDrop, SecurityOpt: s.SecurityOpt,
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyMode(s.Restart)},
		Resources:     container.Resources{NanoCPUs: int64(s.Deploy.Resources.Limits.CPUs * 1e9), Memory: memory, PidsLimit: &pids},
	}
	if name, most, ok := strings.Cut(s.Restart, ":"); ok {
		n, err := strconv.Atoi(most)
		if err != nil {
			return engine.Spec{}, fmt.Errorf("compose file: restart of %s: %w", service, err)
		}
		out.Host.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyMode(name), MaximumRetryCount: n}
	}
	if out.Grace, err = time.ParseDuration(cmpOr(s.Grace, "10s")); err != nil {
		return engine.Spec{}, fmt.Errorf("compose file: grace of %s: %w", service, err)
	}
	if out.Health, err = s.Health.config(); err != nil {
		return engine.Spec{}, fmt.Errorf("compose file: health of %s: %w", service, err)
	}
	out.Mounts = f.mounts(s, p)
	return out, nil
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (f *File) mounts(s Service, p Place) []mount.Mount {
	var out []mount.Mount
	bind := func(file, target string) {
		out = append(out, mount.Mount{Type: mount.TypeBind, Source: file, Target: target, ReadOnly: true})
	}
	for _, c := range s.Configs {
		file := p.Configs[c.Source]
		if file == "" {
			file = f.Configs[c.Source].File
		}
		bind(file, c.Target)
	}
	for _, c := range s.Secrets {
		bind(filepath.Join(p.Secrets, filepath.Base(f.Secrets[c.Source].File)), c.Target)
	}
	for _, v := range s.Volumes {
		if v.Type == string(mount.TypeBind) {
			out = append(out, mount.Mount{Type: mount.TypeBind, Source: v.Source, Target: v.Target, ReadOnly: v.ReadOnly})
		} else {
			out = append(out, mount.Mount{Type: mount.TypeVolume, Source: p.Volumes[v.Source], Target: v.Target, ReadOnly: v.ReadOnly})
		}
	}
	slices.SortFunc(out, func(a, b mount.Mount) int { return strings.Compare(a.Target, b.Target) })
	return out
}

func (h *health) config() (*container.HealthConfig, error) {
	if h == nil {
		return nil, nil //nolint:nilnil // the image's
	}
	out := &container.HealthConfig{Test: h.Test, Retries: h.Retries}
	for _, d := range []struct {
		text string
		to   *time.Duration
	}{{h.Interval, &out.Interval}, {h.Timeout, &out.Timeout}, {h.StartPeriod, &out.StartPeriod}} {
		if d.text == "" {
			continue
		}
		var err error
		if *d.to, err = time.ParseDuration(d.text); err != nil {
			return nil, err
		}
	}
	return out, nil
}
