package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheck asks a Prometheus of this process that knows one metric.
func TestCheck(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := `{"status":"success","data":{"result":[]}}`
		switch q := r.URL.Query().Get("query"); {
		case strings.Contains(q, "broken"):
			answer = `{"status":"error","error":"parse error"}`
		case q == "up", q == `rate{camera="street"}`:
			answer = `{"status":"success","data":{"result":[{"metric":{"camera":"street"}}]}}`
		}
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(server.Close)
	for _, tt := range []struct {
		name, panels string
		code         int
		want         string
	}{
		{"data", `{"title":"p","targets":[{"expr":"rate{camera=\"$camera\"}"}]}`, 0, "1 expressions, 1 series, 0 empty, 0 that may be"},
		{"excused", `{"title":"p","description":"Empty until: labels come.","targets":[{"expr":"none"}]}`, 0, "may be empty  b: p: labels come."},
		{"empty", `{"title":"p","targets":[{"expr":"none"}]}`, 1, "EMPTY         b: p: none"},
		{"refused", `{"title":"p","targets":[{"expr":"broken("}]}`, 1, "parse error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			text := `{"title":"b","templating":{"list":[{"name":"camera","query":{"query":"label_values(up, camera)"}}]},"panels":[` + tt.panels + `]}`
			if err := os.WriteFile(filepath.Join(dir, "b.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if code := run(context.Background(), []string{"-prometheus", server.URL, "-dashboards", dir, "-wait", "3s"}, &out); code != tt.code || !strings.Contains(out.String(), tt.want) {
				t.Errorf("%d: %s", code, out.String())
			}
		})
	}
}
