package compose_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/e2e/compose"
)

const file = `{
  "services": {"infer": {
    "image": "sightline/infer:dev", "command": null, "environment": {"A": "1", "B": "2"}, "read_only": true, "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"], "restart": "on-failure:10", "stop_grace_period": "20s",
    "healthcheck": {"test": ["CMD", "x"], "interval": "5s", "retries": 3},
    "deploy": {"resources": {"limits": {"cpus": 0.5, "memory": "268435456", "pids": 100}}},
    "secrets": [{"source": "ca.pem", "target": "/run/secrets/ca.pem"}], "configs": [{"source": "c", "target": "/etc/c"}, {"source": "d", "target": "/etc/d"}],
    "volumes": [{"type": "volume", "source": "data", "target": "/data"}, {"type": "bind", "source": "/m", "target": "/models", "read_only": true}]
  }},
  "configs": {"c": {"file": "/repo/c.conf"}, "d": {"file": "/repo/d.conf"}}, "secrets": {"ca.pem": {"file": "/repo/secrets/ca.pem"}}
}`

// TestSpec: whatever the file says of a service is in its container, moved to where the test wants it.
func TestSpec(t *testing.T) {
	var f compose.File
	if err := json.Unmarshal([]byte(file), &f); err != nil {
		t.Fatal(err)
	}
	s, err := f.Spec("infer", compose.Place{
		Name: "infer-1", Secrets: "/mine", Configs: map[string]string{"d": "/mine/d"}, Volumes: map[string]string{"data": "my-data"}, Env: map[string]string{"B": "3"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "infer-1" || s.Image != "sightline/infer:dev" || s.Env["A"] != "1" || s.Env["B"] != "3" || s.Grace != 20*time.Second || s.Health.Interval != 5*time.Second {
		t.Errorf("%+v", s)
	}
	if h := s.Host; !h.ReadonlyRootfs || len(h.CapDrop) != 1 || len(h.SecurityOpt) != 1 || h.NanoCPUs != 5e8 || h.Memory != 256<<20 || *h.PidsLimit != 100 ||
		h.RestartPolicy.Name != "on-failure" || h.RestartPolicy.MaximumRetryCount != 10 {
		t.Errorf("%+v", h)
	}
	want := map[string]string{"/run/secrets/ca.pem": "/mine/ca.pem", "/etc/c": "/repo/c.conf", "/etc/d": "/mine/d", "/data": "my-data", "/models": "/m"}
	for _, m := range s.Mounts {
		if want[m.Target] != m.Source {
			t.Errorf("%s is %s, want %s", m.Target, m.Source, want[m.Target])
		}
		delete(want, m.Target)
	}
	if len(want) > 0 {
		t.Errorf("not mounted: %v", want)
	}
	if f.Services["infer"].Environment["B"] != "2" {
		t.Error("the file was changed")
	}
	if _, err := f.Spec("other", compose.Place{}); err == nil {
		t.Error("a service that the file does not have")
	}
}

func TestPorts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.yaml")
	if err := compose.Ports(path, map[string]map[int]int{"nats-1": {4222: 5000}, "camera": {}}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	want := "services:\n  camera:\n    ports: !override []\n  nats-1:\n    ports: !override\n      - \"127.0.0.1:5000:4222\"\n"
	if err != nil || string(got) != want {
		t.Errorf("%s (%v)", got, err)
	}
}
