package brokertest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker"
)

// clusterReady bounds how long the nodes take to find each other and elect a leader on a busy machine.
const clusterReady = 60 * time.Second

// Cluster is a broker of several nodes in this process. The nodes are called n1, n2, ...; each has the tag node:<name>.
type Cluster struct {
	nodes map[string]*server.Server
	opts  map[string]*server.Options
}

// StartCluster starts a cluster that ends with the test, and waits until it has a leader. Nothing is declared on it.
func StartCluster(tb testing.TB, size int) *Cluster {
	tb.Helper()
	c := &Cluster{nodes: map[string]*server.Server{}, opts: map[string]*server.Options{}}
	// All routes are in every configuration: a first node without routes never forms a JetStream cluster.
	clients, routes := freePorts(tb, size), freePorts(tb, size)
	var peers []*url.URL
	for _, port := range routes {
		peers = append(peers, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	for i := range size {
		name := fmt.Sprintf("n%d", i+1)
		c.opts[name] = &server.Options{
			ServerName: name, Host: "127.0.0.1", Port: clients[i], NoSigs: true, NoLog: true, Tags: []string{"node:" + name},
			JetStream: true, StoreDir: tb.TempDir(), MaxPayload: broker.MaxPayload,
			JetStreamMaxMemory: 2 << 30, JetStreamMaxStore: 16 << 30,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: routes[i]}, Routes: peers,
		}
		c.start(tb, name)
	}
	tb.Cleanup(func() {
		for _, s := range c.nodes {
			s.Shutdown()
		}
		for _, s := range c.nodes {
			s.WaitForShutdown()
		}
	})
	c.WaitLeader(tb)
	return c
}

// freePorts are ports that nothing listened on a moment ago.
func freePorts(tb testing.TB, n int) []int {
	tb.Helper()
	var out []int
	var held []net.Listener
	for range n {
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		held = append(held, l)
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	for _, l := range held {
		_ = l.Close()
	}
	return out
}

func (c *Cluster) start(tb testing.TB, name string) {
	tb.Helper()
	s, err := server.NewServer(c.opts[name].Clone())
	if err != nil {
		tb.Fatal(err)
	}
	c.nodes[name] = s
	go s.Start()
}

// Kill ends a node.
func (c *Cluster) Kill(name string) {
	c.nodes[name].Shutdown()
	c.nodes[name].WaitForShutdown()
}

// Restart starts a node that was killed, with its files.
func (c *Cluster) Restart(tb testing.TB, name string) {
	tb.Helper()
	c.start(tb, name)
}

// WaitLeader waits until the cluster can change streams.
func (c *Cluster) WaitLeader(tb testing.TB) {
	tb.Helper()
	deadline := time.Now().Add(clusterReady)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for c.Leader() == "" {
		if time.Now().After(deadline) {
			tb.Fatalf("no leader within %s", clusterReady)
		}
		<-tick.C
	}
}

// Leader is the node that leads the cluster, "" while there is none.
func (c *Cluster) Leader() string {
	for name, s := range c.nodes {
		if s.Running() && s.JetStreamIsLeader() {
			return name
		}
	}
	return ""
}

// Peers is how many nodes the leader hears.
func (c *Cluster) Peers() int {
	leader := c.Leader()
	if leader == "" {
		return 0
	}
	return len(c.nodes[leader].JetStreamClusterPeers())
}

// URL is where clients connect: all nodes.
func (c *Cluster) URL() string {
	var all []string
	for _, o := range c.opts {
		all = append(all, fmt.Sprintf("nats://127.0.0.1:%d", o.Port))
	}
	return strings.Join(all, ",")
}

// NodeURL is where clients of one node connect.
func (c *Cluster) NodeURL(name string) string {
	return fmt.Sprintf("nats://127.0.0.1:%d", c.opts[name].Port)
}

// Connect connects to urls under a name. The connection ends with the test.
func Connect(tb testing.TB, urls, name string) jetstream.JetStream {
	tb.Helper()
	nc, err := broker.Connect(broker.Config{URL: urls, Name: name, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	js, err := broker.JetStream(nc)
	if err != nil {
		tb.Fatal(err)
	}
	return js
}
