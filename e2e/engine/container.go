package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

// Spec is a container as somebody wants it.
type Spec struct {
	Name     string // of its host, and of its log
	Image    string
	Command  []string
	Env      map[string]string
	Networks []string // the first one carries published ports
	Alias    string   // under which the others of its networks find it
	Publish  map[int]int
	Mounts   []mount.Mount
	// Host is what the engine allows and limits.
	Host   container.HostConfig
	Health *container.HealthConfig // nil is the image's
	Grace  time.Duration           // from SIGTERM to SIGKILL
}

// Container is one container. It keeps its name, ports and volumes for life; its addresses change.
type Container struct {
	Spec

	engine *Engine
	id     string
	// Started is when it was started last.
	Started time.Time
}

// Start makes a container and starts it.
func (e *Engine) Start(ctx context.Context, s Spec) (*Container, error) {
	if !e.Has(ctx, s.Image) { // the library would ask a registry
		return nil, fmt.Errorf("container %s: there is no image %s: make images", s.Name, s.Image)
	}
	request := testcontainers.ContainerRequest{
		Image: s.Image, Cmd: s.Command, Env: s.Env, Networks: s.Networks, NetworkAliases: map[string][]string{},
		Labels: map[string]string{Label: "true"},
		ConfigModifier: func(c *container.Config) {
			c.Hostname, c.Healthcheck = s.Name, s.Health
			grace := int(s.Grace / time.Second)
			c.StopTimeout = &grace
		},
		HostConfigModifier: func(h *container.HostConfig) {
			*h = s.Host
			h.NetworkMode = container.NetworkMode(s.Networks[0])
			h.PortBindings = network.PortMap{}
			for inside, outside := range s.Publish {
				port := network.MustParsePort(strconv.Itoa(inside) + "/tcp")
				h.PortBindings[port] = []network.PortBinding{{HostIP: netip.MustParseAddr(loopback), HostPort: strconv.Itoa(outside)}}
			}
			h.Mounts = s.Mounts
		},
	}
	for inside := range s.Publish {
		request.ExposedPorts = append(request.ExposedPorts, strconv.Itoa(inside)+"/tcp")
	}
	if s.Alias != "" {
		for _, n := range s.Networks {
			request.NetworkAliases[n] = []string{s.Alias}
		}
	}
	c := &Container{Spec: s, engine: e, Started: time.Now()}
	made, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{ContainerRequest: request, Started: true})
	if made != nil {
		c.id = made.GetContainerID()
	}
	if err != nil {
		return c, fmt.Errorf("container %s: %w", s.Name, err)
	}
	return c, nil
}

func (c *Container) did(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, c.Name, err)
	}
	return nil
}

// Kill is kill -9. Nobody but the caller starts it again.
func (c *Container) Kill(ctx context.Context) error {
	_, err := c.engine.api.ContainerKill(ctx, c.id, client.ContainerKillOptions{Signal: "KILL"})
	return c.did("kill", err)
}

// Again starts it when it has ended.
func (c *Container) Again(ctx context.Context) error {
	c.Started = time.Now()
	_, err := c.engine.api.ContainerStart(ctx, c.id, client.ContainerStartOptions{})
	return c.did("start", err)
}

// Stop asks it to end and kills it after its grace.
func (c *Container) Stop(ctx context.Context) error {
	_, err := c.engine.api.ContainerStop(ctx, c.id, client.ContainerStopOptions{})
	return c.did("stop", err)
}

// Pause freezes all its processes: they keep their connections and say nothing.
func (c *Container) Pause(ctx context.Context) error {
	_, err := c.engine.api.ContainerPause(ctx, c.id, client.ContainerPauseOptions{})
	return c.did("pause", err)
}

// Continue ends a pause.
func (c *Container) Continue(ctx context.Context) error {
	_, err := c.engine.api.ContainerUnpause(ctx, c.id, client.ContainerUnpauseOptions{})
	return c.did("continue", err)
}

// Leave cuts it off a network.
func (c *Container) Leave(ctx context.Context, name string) error {
	_, err := c.engine.api.NetworkDisconnect(ctx, name, client.NetworkDisconnectOptions{Container: c.id, Force: true})
	return c.did("cut off", err)
}

// Join connects it to a network, under the alias that it had.
func (c *Container) Join(ctx context.Context, name string) error {
	settings := &network.EndpointSettings{}
	if c.Alias != "" {
		settings.Aliases = []string{c.Alias}
	}
	_, err := c.engine.api.NetworkConnect(ctx, name, client.NetworkConnectOptions{Container: c.id, EndpointConfig: settings})
	return c.did("connect", err)
}

// Remove removes it, running or not.
func (c *Container) Remove(ctx context.Context) error {
	_, err := c.engine.api.ContainerRemove(ctx, c.id, client.ContainerRemoveOptions{Force: true})
	return c.did("remove", err)
}

// State is what the engine says of it.
func (c *Container) State(ctx context.Context) (container.State, error) {
	r, err := c.engine.api.ContainerInspect(ctx, c.id, client.ContainerInspectOptions{})
	if err != nil || r.Container.State == nil {
		return container.State{}, c.did("state of", errors.Join(err, errors.New("no state")))
	}
	return *r.Container.State, nil
}

// Exit waits until it has ended and says how.
func (c *Container) Exit(ctx context.Context) (int64, error) {
	w := c.engine.api.ContainerWait(ctx, c.id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case r := <-w.Result:
		return r.StatusCode, nil
	case err := <-w.Error:
		return 0, c.did("end of", err)
	}
}

// KeepLog writes what it has said to dir/<name>.log.
func (c *Container) KeepLog(ctx context.Context, dir string) error {
	return c.did("log of", c.engine.keepLog(ctx, c.id, filepath.Join(dir, c.Name+".log")))
}

func (e *Engine) keepLog(ctx context.Context, id, path string) error {
	r, err := e.api.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true})
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	f, err := os.Create(path) //nolint:gosec // ours
	if err != nil {
		return err
	}
	_, err = stdcopy.StdCopy(f, f, r)
	return errors.Join(err, f.Close())
}

// Tail is the end of what it has said.
func (c *Container) Tail(ctx context.Context, lines int) string {
	r, err := c.engine.api.ContainerLogs(ctx, c.id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: strconv.Itoa(lines)})
	if err != nil {
		return err.Error()
	}
	defer func() { _ = r.Close() }()
	var out tail
	_, _ = stdcopy.StdCopy(&out, &out, io.LimitReader(r, 1<<20))
	return string(out)
}

type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	return len(p), nil
}

// KeepProjectLogs is KeepLog for the containers of a compose project.
func (e *Engine) KeepProjectLogs(ctx context.Context, project, dir string) error {
	containers, err := e.api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", composeLabel+"="+project)})
	if err != nil {
		return fmt.Errorf("logs of %s: %w", project, err)
	}
	var errs []error
	for _, c := range containers.Items {
		errs = append(errs, e.keepLog(ctx, c.ID, filepath.Join(dir, filepath.Base(c.Names[0])+".log")))
	}
	return errors.Join(errs...)
}

// LastStart is when the last container of a compose project that runs was started.
func (e *Engine) LastStart(ctx context.Context, project string) (time.Time, error) {
	containers, err := e.api.ContainerList(ctx, client.ContainerListOptions{Filters: client.Filters{}.Add("label", composeLabel+"="+project)})
	if err != nil {
		return time.Time{}, fmt.Errorf("last start: %w", err)
	}
	var last time.Time
	for _, c := range containers.Items {
		r, err := e.api.ContainerInspect(ctx, c.ID, client.ContainerInspectOptions{})
		if err != nil || r.Container.State == nil {
			continue // it has ended since
		}
		if at, err := time.Parse(time.RFC3339Nano, r.Container.State.StartedAt); err == nil && at.After(last) {
			last = at
		}
	}
	return last, nil
}

// Adopt is a container that somebody else made.
func (e *Engine) Adopt(id, name string) *Container {
	return &Container{Spec: Spec{Name: name}, engine: e, id: id}
}
