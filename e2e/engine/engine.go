// Package engine is the container engine of this machine, for tests: containers, networks, volumes and tags that all bear
// one label, by which they are found and removed again.
//
// Nothing here leaves the machine: images must be there, and ports are published on 127.0.0.1.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/network"
)

const (
	// Label is on everything that is made here.
	Label = "dev.sightline.e2e"
	// composeLabel is on everything of a compose project.
	composeLabel = "com.docker.compose.project"
	// TagSuffix ends the tags of images that are made here.
	TagSuffix = "-e2e"

	loopback     = "127.0.0.1"
	hostOverride = "TESTCONTAINERS_HOST_OVERRIDE"
	noReaper     = "TESTCONTAINERS_RYUK_DISABLED"
)

// Engine is the engine.
type Engine struct{ api *client.Client }

// Open connects to the engine. An error says why this machine cannot run containers.
func Open(ctx context.Context) (*Engine, error) {
	if err := settings(); err != nil {
		return nil, err
	}
	log.SetDefault(log.NewNoopLogger()) // a failure comes as an error, and the containers' own logs are kept
	docker, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return nil, fmt.Errorf("this machine cannot run containers: %w", err)
	}
	return &Engine{api: docker.Client}, nil
}

// settings make the library reach containers where they are. Where /.dockerenv exists it takes this machine for a container
// and would send packets to the default gateway. The reaper is an image that cannot be had everywhere: Sweep does its work.
func settings() error {
	if err := os.Setenv(noReaper, "true"); err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	if os.Getenv(hostOverride) == "" {
		if err := os.Setenv(hostOverride, loopback); err != nil {
			return fmt.Errorf("engine: %w", err)
		}
	}
	_, err := os.Stat("/.dockerenv")
	if host := os.Getenv(hostOverride); !errors.Is(err, fs.ErrNotExist) && host != loopback && host != "localhost" {
		return fmt.Errorf("engine: %s is %q: ports are published on %s only", hostOverride, host, loopback)
	}
	return nil
}

// Close ends the connection.
func (e *Engine) Close() { _ = e.api.Close() }

// Sweep removes everything that bears the label and everything of compose projects with these names.
func (e *Engine) Sweep(ctx context.Context, projects ...string) error {
	errs := []error{e.sweep(ctx, "label", Label)}
	for _, p := range projects {
		errs = append(errs, e.sweep(ctx, "label", composeLabel+"="+p))
	}
	images, err := e.api.ImageList(ctx, client.ImageListOptions{})
	errs = append(errs, err)
	for _, i := range images.Items {
		for _, tag := range i.RepoTags {
			if strings.HasPrefix(tag, "sightline/") && strings.HasSuffix(tag, TagSuffix) {
				_, err := e.api.ImageRemove(ctx, tag, client.ImageRemoveOptions{})
				errs = append(errs, err)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	return nil
}

func (e *Engine) sweep(ctx context.Context, term, value string) error {
	filter := client.Filters{}.Add(term, value)
	containers, err := e.api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filter})
	errs := make([]error, 0, 1+len(containers.Items))
	errs = append(errs, err)
	for _, c := range containers.Items {
		_, err := e.api.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		errs = append(errs, err)
	}
	networks, err := e.api.NetworkList(ctx, client.NetworkListOptions{Filters: filter})
	errs = append(errs, err)
	for _, n := range networks.Items {
		_, err := e.api.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{})
		errs = append(errs, err)
	}
	volumes, err := e.api.VolumeList(ctx, client.VolumeListOptions{Filters: filter})
	errs = append(errs, err)
	for _, v := range volumes.Items {
		_, err := e.api.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{Force: true})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Network makes a network and returns its name. Nothing leaves one that is internal.
func (e *Engine) Network(ctx context.Context, internal bool) (string, error) {
	options := []network.NetworkCustomizer{network.WithLabels(map[string]string{Label: "true"})}
	if internal {
		options = append(options, network.WithInternal())
	}
	n, err := network.New(ctx, options...)
	if err != nil {
		return "", fmt.Errorf("network: %w", err)
	}
	return n.Name, nil
}

// Volume makes a volume.
func (e *Engine) Volume(ctx context.Context, name string) error {
	if _, err := e.api.VolumeCreate(ctx, client.VolumeCreateOptions{Name: name, Labels: map[string]string{Label: "true"}}); err != nil {
		return fmt.Errorf("volume %s: %w", name, err)
	}
	return nil
}

// Tag gives an image another tag, which Sweep removes: it must end with TagSuffix.
func (e *Engine) Tag(ctx context.Context, image, tag string) error {
	if _, err := e.api.ImageTag(ctx, client.ImageTagOptions{Source: image, Target: tag}); err != nil {
		return fmt.Errorf("tag %s: %w", tag, err)
	}
	return nil
}

// Has reports whether an image is there.
func (e *Engine) Has(ctx context.Context, image string) bool {
	_, err := e.api.ImageInspect(ctx, image)
	return err == nil
}

// FreePorts are ports of 127.0.0.1 that nobody listens on. What is published at a fixed port keeps it when its container is
// started again; a port that the engine chooses changes.
func FreePorts(n int) ([]int, error) {
	out := make([]int, 0, n)
	for range n {
		l, err := net.Listen("tcp", net.JoinHostPort(loopback, "0")) //nolint:noctx // at once
		if err != nil {
			return nil, fmt.Errorf("free port: %w", err)
		}
		defer func() { _ = l.Close() }() // all at the end: they must differ
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, fmt.Errorf("free port: %w", err)
		}
		number, err := strconv.Atoi(port)
		if err != nil {
			return nil, fmt.Errorf("free port: %w", err)
		}
		out = append(out, number)
	}
	return out, nil
}
