package watch

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Table writes rows for people, one line per camera and model.
func Table(out io.Writer, rows []Camera) error {
	lines := make([][]string, 0, 1+len(rows))
	lines = append(lines, []string{"CAMERA", "MODEL", "STATE", "FPS IN", "FPS OUT", "AGE P50", "AGE P99", "IN VIEW", "CAPTURED", "PREDICTED", "SUPERSEDED", "EXPIRED", "QUARANTINED", "IN FLIGHT", "LOST"})
	for _, r := range rows {
		state := r.State
		if r.Cause != "" {
			state += ": " + r.Cause
		}
		b := r.Books
		n := func(v uint64) string { return strconv.FormatUint(v, 10) }
		lines = append(lines, []string{
			r.Camera, r.Model, state, fmt.Sprintf("%.1f", r.FPSIn), fmt.Sprintf("%.1f", r.FPSOut),
			fmt.Sprintf("%.0f ms", r.AgeP50), fmt.Sprintf("%.0f ms", r.AgeP99), strconv.Itoa(r.InView),
			n(b.Captured), n(b.Predicted), n(b.Superseded), n(b.Expired), n(b.Quarantined), n(b.InFlight), n(b.Lost),
		})
	}
	return WriteColumns(out, 3, lines)
}

// WriteColumns aligns cells: the first left columns to the left, the others to the right.
func WriteColumns(out io.Writer, left int, lines [][]string) error {
	var width []int
	for _, l := range lines {
		for i, c := range l {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len(c))
		}
	}
	for _, l := range lines {
		var b strings.Builder
		for i, c := range l {
			if i < left {
				fmt.Fprintf(&b, "%-*s  ", width[i], c)
			} else {
				fmt.Fprintf(&b, "%*s  ", width[i], c)
			}
		}
		if _, err := fmt.Fprintln(out, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// Line writes one camera for logs: output that is not a terminal.
func (r Camera) Line() string {
	b := r.Books
	state := r.State
	if r.Cause != "" {
		state += "(" + r.Cause + ")"
	}
	return fmt.Sprintf("%s %s %s in %.1f/s out %.1f/s age p50 %.0f ms p99 %.0f ms, %d in view, captured %d predicted %d superseded %d expired %d quarantined %d in flight %d lost %d",
		r.Camera, r.Model, state, r.FPSIn, r.FPSOut, r.AgeP50, r.AgeP99, r.InView,
		b.Captured, b.Predicted, b.Superseded, b.Expired, b.Quarantined, b.InFlight, b.Lost)
}
