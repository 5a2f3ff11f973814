package secrets_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/deploy/nats/access"
	"github.com/sightline-dev/sightline/deploy/nats/secrets"
)

func read(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if out[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// changed are the files that differ.
func changed(before, after map[string][]byte) []string {
	var out []string
	for name, data := range after {
		if !bytes.Equal(before[name], data) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func TestMake(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	now := time.Now()
	again := func(at time.Time, rotate ...string) (wrote []string) {
		t.Helper()
		before := map[string][]byte{}
		if _, err := os.Stat(dir); err == nil {
			before = read(t, dir)
		}
		wrote, err := secrets.Make(dir, at, rotate...)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(wrote)
		if got := changed(before, read(t, dir)); !slices.Equal(got, wrote) {
			t.Errorf("changed %v, told %v", got, wrote)
		}
		return wrote
	}
	if n := len(again(now)); n != 5+len(access.Users()) {
		t.Errorf("%d files", n)
	}
	for name, want := range map[string]fs.FileMode{"": 0o700, "ca.key": 0o600, secrets.Key: 0o444, secrets.Seed(access.App): 0o444, secrets.CA: 0o444} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v %v, want %v", name, info.Mode(), err, want)
		}
	}
	env := string(read(t, dir)[secrets.Env])
	for _, u := range access.Users() {
		if !strings.Contains(env, u.Variable()+"=U") {
			t.Errorf("no %s in %s", u.Variable(), env)
		}
	}
	if strings.Contains(env, "SU") && strings.Contains(env, "=SU") {
		t.Error("a seed where public keys are")
	}
	if got := again(now); len(got) > 0 {
		t.Errorf("the second time makes %v", got)
	}
	if got := again(now, access.App); !slices.Equal(got, []string{"app.nk", "nats.env"}) {
		t.Errorf("rotation of one user makes %v", got)
	}
	if got := again(now.AddDate(0, 11, 10)); !slices.Equal(got, []string{"node.key", "node.pem"}) {
		t.Errorf("shortly before the certificate ends: %v", got)
	}
	if err := os.Remove(filepath.Join(dir, secrets.Seed(access.Infer))); err != nil {
		t.Fatal(err)
	}
	if got := again(now); !slices.Equal(got, []string{"infer.nk", "nats.env"}) {
		t.Errorf("what is absent: %v", got)
	}
}

func TestWhatMakeRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := secrets.Make(dir, time.Now(), "nobody"); err == nil || !strings.Contains(err.Error(), "no user nobody") {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, secrets.Seed(access.App)), []byte("SUhunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := secrets.Make(dir, time.Now()); err == nil || !strings.Contains(err.Error(), "app.nk") || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}
