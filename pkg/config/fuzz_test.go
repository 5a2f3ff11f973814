package config

import (
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// told is the secret that the fuzzed files can only get at through the environment.
const told = "s3cr3t-0f-the-env"

func fuzzEnv(name string) (string, bool) {
	switch name {
	case "SECRET":
		return told, true
	case "URL":
		return "rtsp://user:" + told + "@10.0.0.1/" + told, true
	case "N":
		return "7", true
	case "EMPTY":
		return "", true
	}
	return "", false
}

// FuzzParse: nothing panics, no message tells a secret, and what is accepted is valid and survives being stored.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/golden/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, warnings, err := Parse("f.yaml", data, "testdata/golden", fuzzEnv)
		if strings.Contains(string(data), told) {
			return
		}
		for _, w := range warnings {
			mustNotTell(t, w.String())
		}
		if err != nil {
			mustNotTell(t, err.Error())
			return
		}
		if len(file.Cameras) == 0 {
			t.Error("accepted without a camera")
		}
		for _, c := range file.Cameras {
			accepted(t, c)
		}
	})
}

func accepted(t *testing.T, c Camera) {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Errorf("accepted, but not valid: %v", err)
	}
	data, err := c.MarshalStored()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseStored(data)
	if err != nil {
		t.Fatalf("%v of %s", err, data)
	}
	if !reflect.DeepEqual(normal(c), normal(back)) {
		t.Errorf("%+v came back as %+v", c, back)
	}
	u, err := url.Parse(c.URL.Reveal())
	if err != nil {
		t.Fatalf("an accepted URL cannot be parsed: %s", c.URL)
	}
	if strings.Contains(u.Host, told) {
		return // a host is shown
	}
	bare := DefaultCamera()
	bare.URL = c.URL
	mustNotTell(t, printed(t, bare))
}

// normal forgets the difference between no labels and nil ones.
func normal(c Camera) Camera {
	if len(c.Labels) == 0 {
		c.Labels = nil
	}
	return c
}

func mustNotTell(t *testing.T, text string) {
	t.Helper()
	if strings.Contains(text, told) {
		t.Errorf("the secret is told: %s", text)
	}
}

// FuzzPassword puts a password into the file itself, where it belongs and where it does not.
func FuzzPassword(f *testing.F) {
	for _, seed := range []string{"hunter2", "p@ss/w#rd?", "pa:ss:word", `with"quotes"'n`, "100%", "10s!", "*anchor", "[list]", "a:b", "rtsp://h/x"} {
		f.Add(seed)
	}
	templates := []string{
		"cameras: [{name: a, url: 'rtsp://u:P@h/x', model: gone}]", "cameras: [{name: a, url: 'P', password: 'P'}]",
		"cameras: [{name: a, url: 'http://u:P@h/x'}]", "cameras: [{name: 'rtsp://u:P@h/x', url: a}]",
		"cameras:\n- name: a\n  url: rtsp://u:P@h/x\n  fps: 0", "cameras:\n- name: a\n  password: P\n  fps: 0", "cameras:\n- url:rtsp://u:P@h/x",
		"cameras: [{name: a, username: u, password: 'P', url: 'rtsp://h/x', fps: 'P', priority: 'P', model: 'P', labels: {'P': a}, 'P': b}]",
		"cameras: [{name: a, fps: 'rtsp://u:P@h/x', tls: {ca: 'P', insecure: 'P'}, password: 'P'}]",
	}
	render := func(template, password string) string {
		if strings.Contains(template, "'") {
			password = strings.ReplaceAll(password, "'", "''")
		}
		_, warnings, err := Parse("f", []byte(strings.ReplaceAll(template, "P", password)), "testdata/golden", fuzzEnv)
		var text strings.Builder
		if err != nil {
			text.WriteString(err.Error())
		}
		for _, w := range warnings {
			text.WriteString("\n" + w.String())
		}
		return text.String()
	}
	const marker = "Zq7K"
	f.Fuzz(func(t *testing.T, password string) {
		if strings.ContainsAny(password, "\n\r\t \x00$") {
			return
		}
		for _, template := range templates {
			if got := render(template, marker+password+marker); strings.Contains(got, marker) {
				t.Errorf("%s tells %q: %s", template, password, got)
			}
		}
	})
}
