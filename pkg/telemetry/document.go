package telemetry

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// What stands around the tables in docs/observability.md.
const (
	tableBegin = "<!-- metrics: written by go generate -->\n"
	tableEnd   = "<!-- end -->\n"
)

var errNoMarkers = errors.New("has no markers for the table of metrics")

// Document puts the table of metrics into a page, between its markers.
func Document(page string) (string, error) {
	before, rest, found := strings.Cut(page, tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !found || !ended {
		return "", errNoMarkers
	}
	return before + tableBegin + tables() + tableEnd + after, nil
}

// tables are the metrics by area.
func tables() string {
	var b strings.Builder
	rows := Metrics()
	for _, area := range []struct {
		title       string
		first, last Name
	}{
		{"Pipeline", FramesReceived, LastPrediction},
		{"Model", InferenceRequests, ModelsRefused},
		{"Drift, integrity, quality, fairness", DriftState, FairnessRatio},
		{"Recovery", RecoveryActions, Workers},
		{"Rollout", RolloutState, Rollbacks},
		{"Telemetry itself", TracesKept, TelemetryExports},
		{"Process and machine", BuildInfo, HostFilesystemAvailable},
		{"GPU", GPUSMClock, GPUPCIeReplays},
	} {
		fmt.Fprintf(&b, "\n### %s\n\n| Metric | Kind | Labels | From | Meaning |\n|---|---|---|---|---|\n", area.title)
		for _, m := range rows[area.first : area.last+1] {
			labels := make([]string, len(m.Labels))
			for i, l := range m.Labels {
				labels[i] = "`" + l.Name + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", m.Name, m.Kind, strings.Join(labels, " "), m.From, m.Help)
		}
	}
	b.WriteString("\n### Labels\n\n| Label | Of | Values |\n|---|---|---|\n")
	for _, l := range labelRows(rows) {
		b.WriteString(l)
	}
	b.WriteString("\n### Buckets\n\n| Histogram | Upper bounds |\n|---|---|\n")
	for _, m := range rows {
		if m.Kind == KindHistogram {
			bounds := make([]string, len(m.Buckets))
			for i, v := range m.Buckets {
				bounds[i] = strconv.FormatFloat(v, 'g', -1, 64)
			}
			fmt.Fprintf(&b, "| `%s` | %s |\n", m.Name, strings.Join(bounds, " "))
		}
	}
	b.WriteString("\n")
	return b.String()
}

// labelRows has a row for each label and set of values.
func labelRows(rows []Metric) []string {
	of := map[string][]string{}
	for _, m := range rows {
		for _, l := range m.Labels {
			text := l.Declared
			if l.Values != nil {
				text = "`" + strings.Join(l.Values, "` `") + "`"
			}
			key := "| `" + l.Name + "` | %s | " + text + " |\n"
			of[key] = append(of[key], "`"+m.Name+"`")
		}
	}
	out := make([]string, 0, len(of))
	for key, metrics := range of {
		text := strings.Join(metrics, " ")
		if len(metrics) > 3 {
			text = strconv.Itoa(len(metrics)) + " metrics"
		}
		out = append(out, fmt.Sprintf(key, text))
	}
	slices.Sort(out)
	return out
}
