package brokertest

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Deployed are nodes in this process that run a configuration file of a deployment: everything is as the file has it but
// ports, routes and the folder of its data.
type Deployed struct {
	URL string

	mu    sync.Mutex
	lines []string
}

// StartDeployed starts a node for each name. The file may read NODE_NAME and NODE_ROUTES; whatever else it reads must be in
// the environment.
func StartDeployed(tb testing.TB, file string, names ...string) *Deployed {
	tb.Helper()
	d := &Deployed{}
	clients, routes := freePorts(tb, len(names)), freePorts(tb, len(names))
	var peers []*url.URL
	for _, port := range routes {
		peers = append(peers, &url.URL{Scheme: "nats-route", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	var urls []string
	var nodes []*server.Server
	for i, name := range names {
		tb.Setenv("NODE_NAME", name)
		tb.Setenv("NODE_ROUTES", "[nats://nats-1:6222, nats://nats-2:6222, nats://nats-3:6222]")
		opts, err := server.ProcessConfigFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		if len(opts.Routes) != 3 || opts.ServerName != name {
			tb.Fatalf("%s: routes %v, name %s", file, opts.Routes, opts.ServerName)
		}
		opts.Host, opts.Port, opts.HTTPHost, opts.HTTPPort, opts.StoreDir, opts.NoSigs = "127.0.0.1", clients[i], "", 0, tb.TempDir(), true
		if opts.Routes = nil; len(names) > 1 {
			opts.Cluster.Host, opts.Cluster.Port, opts.Routes = "127.0.0.1", routes[i], peers
		} else {
			opts.Cluster = server.ClusterOpts{}
		}
		s, err := server.NewServer(opts)
		if err != nil {
			tb.Fatal(err)
		}
		s.SetLoggerV2(d, false, false, false)
		nodes = append(nodes, s)
		go s.Start()
		urls = append(urls, fmt.Sprintf("tls://127.0.0.1:%d", clients[i]))
	}
	d.URL = strings.Join(urls, ",")
	tb.Cleanup(func() {
		for _, s := range nodes {
			s.Shutdown()
		}
		for _, s := range nodes {
			s.WaitForShutdown()
		}
	})
	ready(tb, nodes)
	return d
}

// ready waits until the nodes are one broker that can change streams.
func ready(tb testing.TB, nodes []*server.Server) {
	tb.Helper()
	deadline := time.Now().Add(clusterReady)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		led := len(nodes) == 1
		good := true
		for _, s := range nodes {
			good = good && s.ReadyForConnections(time.Until(deadline)) && s.NumRoutes() >= len(nodes)-1
			led = led || s.JetStreamIsLeader()
		}
		if good && led {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("the nodes are no broker within %s", clusterReady)
		}
		<-tick.C
	}
}

// Lines are what the nodes logged and says so, in any case of letters.
func (d *Deployed) Lines(says string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for _, l := range d.lines {
		if strings.Contains(strings.ToLower(l), strings.ToLower(says)) {
			out = append(out, l)
		}
	}
	return out
}

func (d *Deployed) log(level, format string, v ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, level+" "+fmt.Sprintf(format, v...))
}

// Noticef and the others make a Deployed the log of its nodes.
func (d *Deployed) Noticef(format string, v ...any) { d.log("notice", format, v...) }

// Warnf is a log's.
func (d *Deployed) Warnf(format string, v ...any) { d.log("warn", format, v...) }

// Errorf is a log's.
func (d *Deployed) Errorf(format string, v ...any) { d.log("error", format, v...) }

// Fatalf is a log's.
func (d *Deployed) Fatalf(format string, v ...any) { d.log("fatal", format, v...) }

// Debugf is a log's.
func (d *Deployed) Debugf(format string, v ...any) { d.log("debug", format, v...) }

// Tracef is a log's.
func (d *Deployed) Tracef(format string, v ...any) { d.log("trace", format, v...) }
