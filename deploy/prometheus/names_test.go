// Package prometheus holds what Prometheus is told: rules and alerts. Its tests hold them, and Grafana's dashboards, to the
// table of metrics, and to each other.
package prometheus

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/pkg/telemetry"
)

// rule is one rule of a rules file.
type rule struct {
	Record, Alert, Expr string
	Labels              map[string]string
	Annotations         map[string]string
}

func rules(t *testing.T, name string) []rule {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct{ Rules []rule }
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	var out []rule
	for _, g := range file.Groups {
		out = append(out, g.Rules...)
	}
	return out
}

// metric is what may be asked of a metric.
type metric struct {
	labels map[string][]string // with the closed set of their values, if they have one
}

// known are the metrics that a running system exports, and those that rules make of them.
func known(t *testing.T) map[string]metric {
	t.Helper()
	out := map[string]metric{ // Prometheus' own
		"up":     {map[string][]string{}},
		"ALERTS": {map[string][]string{"alertname": nil, "alertstate": {"pending", "firing"}, "severity": nil}},
	}
	for _, m := range telemetry.Metrics() {
		k := metric{map[string][]string{}}
		for _, l := range m.Labels {
			k.labels[l.Name] = l.Values
		}
		if m.Kind != telemetry.KindHistogram {
			out[m.Name] = k
			continue
		}
		out[m.Name+"_sum"], out[m.Name+"_count"] = k, k
		withLE := metric{map[string][]string{"le": nil}}
		maps.Copy(withLE.labels, k.labels)
		out[m.Name+"_bucket"] = withLE
	}
	for _, r := range rules(t, "rules.yaml") {
		k := metric{map[string][]string{}}
		for _, by := range byClause.FindAllStringSubmatch(r.Expr, -1) {
			for l := range strings.SplitSeq(by[1], ",") {
				k.labels[strings.TrimSpace(l)] = nil
			}
		}
		for name, m := range out { // what is not taken together keeps its labels
			if strings.Contains(r.Expr, name) && !byClause.MatchString(r.Expr) {
				for l := range m.labels {
					k.labels[l] = nil
				}
			}
		}
		out[r.Record] = k
	}
	return out
}

var (
	byClause  = regexp.MustCompile(`\bby \(([^)]*)\)`)
	clauses   = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right) ?\([^)]*\)`)
	selector  = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\})?`)
	matcher   = regexp.MustCompile(`([a-zA-Z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	ranges    = regexp.MustCompile(`\[[^\]]*\]`)
	literal   = regexp.MustCompile(`^[a-zA-Z0-9_]+(\|[a-zA-Z0-9_]+)*$`)
	grafanaIn = regexp.MustCompile(`\$[a-zA-Z_]+`)
	words     = []string{"and", "or", "unless", "bool", "offset"}
)

// everywhere are labels that Prometheus adds.
func everywhere() []string { return []string{"job", "instance"} }

// check says what an expression asks for that does not exist.
func check(expr string, known map[string]metric) []string {
	var wrong []string
	text := clauses.ReplaceAllString(ranges.ReplaceAllString(expr, ""), " ")
	for _, at := range selector.FindAllStringSubmatchIndex(text, -1) {
		name := text[at[2]:at[3]]
		if rest := strings.TrimLeft(text[at[3]:], " "); strings.HasPrefix(rest, "(") || slices.Contains(words, name) || at[0] > 0 && isName(text[at[0]-1]) {
			continue
		}
		m, ok := known[name]
		if !ok {
			wrong = append(wrong, name+" is not in pkg/telemetry's table, nor a rule")
			continue
		}
		if at[4] < 0 {
			continue
		}
		for _, l := range matcher.FindAllStringSubmatch(text[at[4]:at[5]], -1) {
			values, ok := m.labels[l[1]]
			switch {
			case !ok && !slices.Contains(everywhere(), l[1]):
				wrong = append(wrong, name+" has no label "+l[1])
			case values != nil && literal.MatchString(l[3]):
				for v := range strings.SplitSeq(l[3], "|") {
					if !slices.Contains(values, v) {
						wrong = append(wrong, name+": "+l[1]+" is never "+v)
					}
				}
			}
		}
	}
	return wrong
}

func isName(c byte) bool { return c == '_' || c == ':' || c >= '0' && c <= '9' || c == '.' }

func TestCheck(t *testing.T) {
	t.Parallel()
	all := known(t)
	for expr, want := range map[string]string{
		`sum by (camera) (rate(sightline_frames_captured_total[5m])) > 0.5 and on (camera) up == 1`:           "",
		`histogram_quantile(0.99, sum by (le) (rate(sightline_frame_age_seconds_bucket{stage="infer"}[5m])))`: "",
		`sightline_frames_capture_total`:                                      "sightline_frames_capture_total is not",
		`sightline_frame_age_seconds`:                                         "sightline_frame_age_seconds is not",
		`sightline_camera_up{model="x"}`:                                      "has no label model",
		`sightline_frame_age_seconds_count{stage="inference"}`:                "stage is never inference",
		`sightline_frame_age_seconds_count{stage=~"infer|ingest|later"}`:      "stage is never later",
		`sightline:frames_fate:total{camera="street",instance="x"} offset 5m`: "",
		`1e3 * process_resident_memory_bytes`:                                 "",
	} {
		if got := strings.Join(check(expr, all), "; "); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}

// Rules, alerts and dashboards ask for metrics that exist.
func TestNames(t *testing.T) {
	t.Parallel()
	all := known(t)
	for _, file := range []string{"rules.yaml", "alerts.yaml"} {
		for _, r := range rules(t, file) {
			for _, w := range check(r.Expr, all) {
				t.Errorf("%s: %s%s: %s", file, r.Record, r.Alert, w)
			}
		}
	}
	for _, p := range panels(t) {
		for _, w := range check(grafanaIn.ReplaceAllString(p.expr, "1"), all) {
			t.Errorf("%s: %s: %s", p.file, p.title, w)
		}
	}
}

// panel is one expression of a dashboard.
type panel struct{ file, title, expr string }

// panels are all expressions of the dashboards.
func panels(t *testing.T) []panel {
	t.Helper()
	files, err := filepath.Glob("../grafana/*.json")
	if err != nil {
		t.Fatal(err)
	}
	var out []panel
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var board struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(data, &board); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, p := range board.Panels {
			for _, target := range p.Targets {
				out = append(out, panel{filepath.Base(file), p.Title, target.Expr})
			}
		}
	}
	return out
}

// Every alert says what to do, and is seen to fire in a test.
func TestAlerts(t *testing.T) {
	t.Parallel()
	book, err := os.ReadFile("../../docs/runbooks.md")
	if err != nil {
		t.Fatal(err)
	}
	worlds, err := os.ReadFile("alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, a := range rules(t, "alerts.yaml") {
		if seen[a.Alert] {
			t.Errorf("%s: twice", a.Alert)
		}
		seen[a.Alert] = true
		if !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) || a.Labels["area"] == "" {
			t.Errorf("%s: labels %v", a.Alert, a.Labels)
		}
		page, anchor, ok := strings.Cut(a.Annotations["runbook_url"], "/docs/runbooks.md#")
		switch {
		case a.Annotations["summary"] == "" || a.Annotations["description"] == "":
			t.Errorf("%s: says nothing", a.Alert)
		case !ok || page == "" || !strings.Contains(string(book), "\n## "+anchor+"\n"):
			t.Errorf("%s: docs/runbooks.md has no %q", a.Alert, a.Annotations["runbook_url"])
		case !strings.Contains(section(string(book), anchor), a.Alert):
			t.Errorf("%s: its section %q does not name it", a.Alert, anchor)
		case !regexp.MustCompile(`labels: '[^']*alertname="`+a.Alert+`"`).Match(worlds) && !strings.Contains(string(worlds), "alertname: "+a.Alert+"\n"):
			t.Errorf("%s: fires in no world of alerts_test.yaml", a.Alert)
		}
	}
}

// section is what a page has under a heading.
func section(page, heading string) string {
	_, rest, _ := strings.Cut(page, "\n## "+heading+"\n")
	s, _, _ := strings.Cut(rest, "\n## ")
	return s
}
