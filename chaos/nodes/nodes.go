// Package nodes runs nats-server as separate processes: one node, or a cluster of three.
//
// A node keeps its ports and its files when it is killed and started again. Nothing is shared between nodes but routes.
package nodes

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed" // the configuration of a node
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/sightline-dev/sightline/chaos/process"
)

//go:embed nats.conf.tmpl
var nodeConfig string

// Config says what to start.
type Config struct {
	Program string // nats-server's executable
	Dir     string // for files, configurations and logs
	Nodes   int    // 1 or 3
}

// Node is one server.
type Node struct {
	*process.Process

	// Name is the server's own.
	Name string
	// Addr is where clients connect.
	Addr string

	monitor string
}

// Broker is a set of nodes that belong together.
type Broker struct {
	Nodes []*Node
}

// restart is how soon a node that ended is started again.
const restart = 300 * time.Millisecond

// grace is how long a node may take to stop.
const grace = 10 * time.Second

type nodeValues struct {
	Name, Client, Monitor, Route, Store, SystemPassword string
	Routes                                              []string
}

// Start starts every node and returns when all are healthy.
func Start(ctx context.Context, cfg Config) (*Broker, error) {
	text, err := template.New("nats.conf").Parse(nodeConfig)
	if err != nil {
		return nil, fmt.Errorf("nodes: %w", err)
	}
	addrs, err := free(ctx, 3*cfg.Nodes)
	if err != nil {
		return nil, fmt.Errorf("nodes: %w", err)
	}
	b := &Broker{}
	password := rand.Text()
	for i := range cfg.Nodes {
		v := nodeValues{
			Name: fmt.Sprintf("nats-%d", i+1), Client: addrs[3*i], Monitor: addrs[3*i+1], Route: addrs[3*i+2], SystemPassword: password,
		}
		v.Store = filepath.Join(cfg.Dir, v.Name)
		if cfg.Nodes > 1 {
			for k := range cfg.Nodes {
				v.Routes = append(v.Routes, addrs[3*k+2])
			}
		}
		var conf bytes.Buffer
		err := text.Execute(&conf, v)
		path := filepath.Join(cfg.Dir, v.Name+".conf")
		if err == nil {
			err = os.WriteFile(path, conf.Bytes(), 0o600)
		}
		var p *process.Process
		if err == nil {
			p, err = process.Start(process.Spec{
				Name: v.Name, Path: cfg.Program, Args: []string{"-c", path}, Env: os.Environ(),
				Log: filepath.Join(cfg.Dir, v.Name+".log"), Restart: restart,
			})
		}
		if err != nil {
			b.Stop()
			return nil, fmt.Errorf("nodes: %w", err)
		}
		b.Nodes = append(b.Nodes, &Node{Process: p, Name: v.Name, Addr: v.Client, monitor: v.Monitor})
	}
	if err := b.Healthy(ctx); err != nil {
		b.Stop()
		return nil, err
	}
	return b, nil
}

// free finds addresses of 127.0.0.1 where nobody listens.
func free(ctx context.Context, n int) ([]string, error) {
	out := make([]string, n)
	for i := range out {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // all of them at the end, so that none comes twice
		out[i] = l.Addr().String()
	}
	return out, nil
}

// URL names every node.
func (b *Broker) URL() string {
	urls := make([]string, len(b.Nodes))
	for i, n := range b.Nodes {
		urls[i] = "nats://" + n.Addr
	}
	return strings.Join(urls, ",")
}

// Node finds a node by name.
func (b *Broker) Node(name string) (*Node, bool) {
	for _, n := range b.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return nil, false
}

// Healthy waits until every node says that it is, its streams and consumers with it.
func (b *Broker) Healthy(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var sick []error
		for _, n := range b.Nodes {
			if err := n.healthy(ctx); err != nil {
				sick = append(sick, err)
			}
		}
		if len(sick) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("nodes: %w: %w", context.Cause(ctx), errors.Join(sick...))
		}
	}
}

func (n *Node) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.monitor+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", n.Name, resp.Status)
	}
	return nil
}

// Terminate asks the node to shut down in an orderly way.
func (n *Node) Terminate() error { return n.Signal(syscall.SIGTERM) }

// Stop ends every node.
func (b *Broker) Stop() {
	for _, n := range b.Nodes {
		n.Stop(grace)
	}
}
