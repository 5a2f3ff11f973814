package scenarios

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/sightline-dev/sightline/services/sightline/watch"
)

// Write writes the report as a table.
func (r Report) Write(w io.Writer) error {
	lines := make([][]string, 0, len(r.Outcomes)+1)
	lines = append(lines, []string{"SCENARIO", "MUST BE FOUND", "WAS FOUND", "AFTER", "WITHIN", "BACK", "RECALL", "PRECISION", "VERDICT"})
	for _, o := range r.Outcomes {
		line := []string{o.Name, o.Want, o.Found, seconds(o.After), "", seconds(o.Back), "", "", "ok"}
		if o.Within > 0 {
			line[4] = seconds(&o.Within)
		}
		if o.Truth != nil {
			line[6], line[7] = figure(o.Truth.Recall), figure(o.Truth.Precision)
		}
		if len(o.Misses) > 0 {
			line[8] = "MISS: " + strings.Join(o.Misses, "; ")
		}
		lines = append(lines, line)
	}
	if err := watch.WriteColumns(w, 2, lines); err != nil {
		return err
	}
	verdict := "passed"
	if !r.Passed {
		verdict = "FAILED"
	}
	_, err := fmt.Fprintf(w, "\n%s: %d false alarms in %.2f hours of cameras that had nothing\n", verdict, r.FalseAlarms, r.CameraHours)
	return err
}

func seconds(v *float64) string {
	if v == nil {
		return ""
	}
	return strconv.FormatFloat(*v, 'f', 1, 64) + " s"
}

func figure(v float64) string { return strconv.FormatFloat(v, 'f', 3, 64) }

func join(all []string) string { return joinWith(all, ", ") }

func joinWith(all []string, by string) string { return strings.Join(all, by) }
