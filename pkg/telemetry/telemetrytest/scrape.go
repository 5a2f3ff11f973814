// Package telemetrytest reads what processes say of themselves: it scrapes and checks metrics, and collects spans as an OTLP
// collector does.
package telemetrytest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/sightline-dev/sightline/pkg/telemetry"
)

// targetInfo is what the SDK's exporter adds: the process itself.
const targetInfo = "target_info"

// A Sample is one line of a scrape.
type Sample struct {
	Name   string // with a histogram's suffix
	Labels map[string]string
	Value  float64
}

// Samples are a scrape.
type Samples []Sample

// Scrape asks a process for its metrics.
func Scrape(ctx context.Context, url string) (Samples, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return Parse(resp.Body)
}

// Parse reads Prometheus's text format, as far as our exporter writes it.
func Parse(r io.Reader) (Samples, error) {
	var out Samples
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		s, err := parseSample(line)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		out = append(out, s)
	}
	return out, lines.Err()
}

func parseSample(line string) (Sample, error) {
	s := Sample{Labels: map[string]string{}}
	end := strings.IndexAny(line, "{ ")
	if end < 0 {
		return s, errors.New("no value")
	}
	s.Name = line[:end]
	rest := line[end:]
	for rest[0] != ' ' && rest[0] != '}' || rest[0] == '{' {
		name, quoted, ok := strings.Cut(rest[1:], "=")
		if !ok {
			return s, errors.New("no label")
		}
		text, err := strconv.QuotedPrefix(quoted)
		if err != nil {
			return s, err
		}
		if s.Labels[name], err = strconv.Unquote(text); err != nil {
			return s, err
		}
		rest = quoted[len(text):]
	}
	rest = strings.TrimPrefix(rest, "}")
	var err error
	s.Value, err = strconv.ParseFloat(strings.TrimSpace(rest), 64)
	return s, err
}

// Check reports everything that is not in the table: metrics, labels, and values that are not in their label's closed set. Of a
// label whose values are declared it takes those of declared, by the label's name; where that has none, any that is short.
func (all Samples) Check(declared map[string][]string) error {
	rows := map[string]telemetry.Metric{}
	for _, m := range telemetry.Metrics() {
		rows[m.Name] = m
	}
	var errs []error
	for _, s := range all {
		if s.Name == targetInfo {
			continue
		}
		m, ok := rowOf(rows, s.Name)
		if !ok {
			errs = append(errs, fmt.Errorf("%s is not in the table", s.Name))
			continue
		}
		labels := maps.Clone(s.Labels)
		if m.Kind == telemetry.KindHistogram {
			delete(labels, "le")
		}
		for _, l := range m.Labels {
			v, ok := labels[l.Name]
			delete(labels, l.Name)
			allowed := l.Values
			if allowed == nil {
				allowed = declared[l.Name]
			}
			switch {
			case !ok:
				errs = append(errs, fmt.Errorf("%s has no label %s", s.Name, l.Name))
			case allowed != nil && !slices.Contains(allowed, v), len(v) > 128:
				errs = append(errs, fmt.Errorf("%s: %s=%q is not among %q", s.Name, l.Name, v, allowed))
			}
		}
		if len(labels) > 0 {
			errs = append(errs, fmt.Errorf("%s has labels that are not in the table: %v", s.Name, labels))
		}
	}
	return errors.Join(errs...)
}

func rowOf(rows map[string]telemetry.Metric, name string) (telemetry.Metric, bool) {
	if m, ok := rows[name]; ok && m.Kind != telemetry.KindHistogram {
		return m, true
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(name, suffix); ok && rows[base].Kind == telemetry.KindHistogram {
			return rows[base], true
		}
	}
	return telemetry.Metric{}, false
}

// Has reports whether a metric of the table has a series.
func (all Samples) Has(n telemetry.Name) bool {
	name := n.String()
	return slices.ContainsFunc(all, func(s Sample) bool { return s.Name == name || s.Name == name+"_count" })
}

// Sum is the sum of a metric's series that have these labels, of a histogram the number of values.
func (all Samples) Sum(n telemetry.Name, labels map[string]string) float64 {
	name, sum := n.String(), 0.0
	for _, s := range all {
		if s.Name != name && s.Name != name+"_count" {
			continue
		}
		fits := true
		for k, v := range labels {
			fits = fits && s.Labels[k] == v
		}
		if fits {
			sum += s.Value
		}
	}
	return sum
}
