package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// printed is a value in every form in which somebody may print it.
func printed(t *testing.T, v any) string {
	t.Helper()
	var b strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		fmt.Fprintf(&b, verb+"\n", v)
	}
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
		data, err := marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(data)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("", slog.Any("v", v))
	slog.New(slog.NewJSONHandler(&log, nil)).Info("", slog.Any("v", v))
	return b.String() + log.String()
}

func TestSecretsAreNotPrinted(t *testing.T) {
	t.Parallel()
	address, err := ParseURL("rtsp://user:hunter2@10.0.0.1/x?password=hunter2")
	if err != nil {
		t.Fatal(err)
	}
	servers, err := ParseServers("nats://user:hunter2@a:4222, tls://hunter2@b")
	if err != nil {
		t.Fatal(err)
	}
	c := DefaultCamera()
	c.Name, c.URL, c.Models = "a", address, []string{"person"}
	secret := NewSecret(planted)
	for name, v := range map[string]any{
		"secret":          secret,
		"secret pointer":  &secret,
		"url":             address,
		"servers":         servers,
		"camera":          c,
		"camera pointer":  &c,
		"cameras":         []Camera{c},
		"file":            &File{Cameras: []Camera{c}},
		"process":         Process{NATS: servers},
		"draft":           draft{Camera: c}.Camera,
		"change":          Diff(nil, []Camera{c}),
		"exported field":  struct{ S Secret }{secret},
		"map":             map[string]Secret{"a": secret},
		"unexported (%v)": fmt.Sprintf("%v %+v %#v", struct{ s Secret }{secret}, struct{ c Camera }{c}, struct{ u URL }{address}),
	} {
		if text := printed(t, v); strings.Contains(text, planted) || strings.Contains(text, fmt.Sprintf("%x", planted)) {
			t.Errorf("%s tells the secret: %s", name, text)
		}
	}
	if secret.Reveal() != planted || !strings.Contains(address.Reveal(), ":hunter2@") || !strings.Contains(servers.Reveal(), "hunter2@b") {
		t.Error("Reveal does not tell the secret")
	}
	if got := fmt.Sprintf("%v|%v|%v|%v|%v", secret, address, servers, Secret{}, URL{}); got !=
		"[redacted]|rtsp://[redacted]@10.0.0.1/x?password=[redacted]|nats://[redacted]@a:4222,tls://[redacted]@b||" {
		t.Error(got)
	}
}

// TestWhatCamerasAreOpenedWith is about what Reveal tells, which golden files cannot show.
func TestWhatCamerasAreOpenedWith(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, keys, want string }{
		{"a plain password", `url: "rtsp://user:pw@h/x"`, "rtsp://user:pw@h/x"},
		{"no password", `url: "RTSP://h:554/x?a=1"`, "rtsp://h:554/x?a=1"},
		{"an encoded password stays", `url: "rtsp://user:p%40w@h/x"`, "rtsp://user:p%40w@h/x"},
		{"a variable is taken as it is", `url: "rtsp://user:${SLASHED}@h/x"`, "rtsp://user:hunter2%2F%40%3A%23%3F%25%20x@h/x"},
		{"a variable of name and password", `url: "rtsp://${CREDENTIALS}@h/x"`, "rtsp://user:hunter2%40home@h/x"},
		{"a variable of a piece", `url: "rtsp://user:a${PRIORITY}b@h/x"`, "rtsp://user:a7b@h/x"},
		{"the whole URL in a variable", `url: "${WHOLE_URL}"`, "rtsp://user:hunter2@10.0.0.9/hunter2"},
		{"a part of the path", `url: "rtsp://h/${STREAM_KEY}/1"`, "rtsp://h/hunter2Key/1"},
		{"keys beside the URL", `{url: "rtsp://h/x", username: "a b", password: "${SLASHED}"}`, "rtsp://a%20b:hunter2%2F%40%3A%23%3F%25%20x@h/x"},
		{"a user without a password", `{url: "rtsp://h/x", username: a}`, "rtsp://a@h/x"},
		{"an escaped dollar", `{url: "rtsp://h/x", username: a, password: "p$$w"}`, "rtsp://a:p$w@h/x"},
		{"IPv6", `url: "rtsp://u:p@[::1]:8554/x"`, "rtsp://u:p@[::1]:8554/x"},
	} {
		keys := c.keys
		if !strings.HasPrefix(keys, "{") {
			keys = "{" + keys + "}"
		}
		f, _, err := Parse("f", []byte("defaults: {model: person}\ncameras: {a: "+keys+"}\n"), "testdata/golden", environment)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := f.Cameras[0].URL.Reveal(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestManyCameras: variables are no secrets themselves, so a large file has readable messages.
func TestManyCameras(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("cameras:\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "- {name: cam-%d, url: 'rtsp://u:${PASSWORD_%d}@h/x', model: person}\n", i, i)
	}
	b.WriteString("- {name: last, url: 'rtsp://h/x', model: person, fps: fast}\n")
	_, _, err := Parse("f", []byte(b.String()), "testdata/golden", func(string) (string, bool) { return planted, true })
	if want := `f:1002: cameras.last.fps: "fast" is not a number: ` + fpsHint; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
