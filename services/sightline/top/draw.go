package top

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sightline-dev/sightline/services/sightline/watch"
)

// Screen is what a picture is drawn on.
type Screen struct {
	Width, Height int
	ASCII         bool // for terminals without the characters of sparklines
	Scroll        int  // cameras that are passed over
}

const (
	leastWidth, leastHeight = 60, 16
	labelWidth              = 14
	valueWidth              = 12
	cellSpark               = 16 // columns of a sparkline in a table
)

// Draw draws a picture in at most as many lines as the screen has.
func (p Picture) Draw(s Screen) string {
	s.Width, s.Height = max(s.Width, leastWidth), max(s.Height, leastHeight)
	lines := p.head(s)
	totals := p.totals(s)
	lines = append(lines, totals...)
	left := s.Height - len(lines) - 1
	workers, notes := min(len(p.Workers)+2, max(left/4, 4)), min(len(p.Notes)+len(p.Drift)+2, max(left/5, 2))
	cameras := left - workers - notes
	lines = append(lines, p.cameras(s, cameras)...)
	lines = append(lines, p.workers(s, workers)...)
	lines = append(lines, p.notes(notes)...)
	for i := range lines {
		lines[i] = clip(strings.TrimRight(watch.Printable(lines[i]), " "), s)
	}
	return strings.Join(lines, "\n") + "\n"
}

func (p Picture) head(s Screen) []string {
	left := fmt.Sprintf("sightline top  %s  %d of %d cameras live", p.Server, p.Totals.Live, p.Totals.All)
	if p.Totals.Lost > 0 {
		left += fmt.Sprintf("  %d FRAMES LOST", p.Totals.Lost)
	}
	right := p.At.Format(time.TimeOnly)
	lines := []string{left + strings.Repeat(" ", max(s.Width-utf8.RuneCountInString(left)-len(right), 1)) + right}
	if p.Problem != "" {
		lines = append(lines, "! "+p.Problem)
	}
	return append(lines, "")
}

func (p Picture) totals(s Screen) []string {
	t := p.Totals
	rate := func(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) + "/s" }
	ms := func(v float64) string { return strconv.FormatFloat(v, 'f', 0, 64) + " ms" }
	rows := []struct {
		name   string
		series Series
		text   func(float64) string
	}{
		{"captured", t.In, rate},
		{"predicted", t.Out, rate},
		{"age p50", t.P50, ms},
		{"age p99", t.P99, ms},
		{"superseded", t.Superseded, rate},
		{"expired", t.Expired, rate},
		{"quarantined", t.Quarantined, rate},
		{"in flight", t.InFlight, func(v float64) string { return strconv.FormatFloat(v, 'f', 0, 64) }},
	}
	width := s.Width - labelWidth - valueWidth
	lines := make([]string, 0, len(rows)+1)
	for _, r := range rows {
		value := r.text(r.series.last())
		if !p.Booked && (r.name == "captured" || r.name == "in flight" || strings.HasSuffix(r.name, "ed") && r.name != "predicted") {
			value = "..."
		}
		lines = append(lines, fmt.Sprintf("%-*s%*s  %s", labelWidth, r.name, valueWidth-2, value, spark(r.series, width, 0, s.ASCII)))
	}
	return append(lines, "")
}

func (p Picture) cameras(s Screen, room int) []string {
	width := cellSpark
	if s.Width < 110 {
		width = cellSpark / 4
	}
	from := min(max(s.Scroll, 0), max(len(p.Cameras)-1, 0))
	shown := p.Cameras[from:]
	hidden := 0
	if most := max(room-2, 1); len(shown) > most {
		hidden = len(shown) - most + 1
		shown = shown[:most-1]
	}
	table := make([][]string, 0, 1+len(shown))
	table = append(table, []string{"CAMERA", "MODEL", "STATE", "DRIFT", "IN/S", "OUT/S", "", "P50", "P99", "", "FLIGHT", "LOST"})
	for _, c := range shown {
		state := c.State
		if c.Cause != "" {
			state += ": " + c.Cause
		}
		table = append(table, []string{
			c.Camera.Camera, c.Model, state, c.Drift, one(c.FPSIn), one(c.FPSOut), spark(c.Out, width, 0, s.ASCII),
			strconv.FormatFloat(c.AgeP50, 'f', 0, 64), strconv.FormatFloat(c.AgeP99, 'f', 0, 64), spark(c.P99, width, 0, s.ASCII),
			strconv.FormatUint(c.Books.InFlight, 10), strconv.FormatUint(c.Books.Lost, 10),
		})
	}
	lines := columns(table, 4)
	if hidden+from > 0 {
		lines = append(lines, fmt.Sprintf("... %d more above, %d below: arrows", from, hidden))
	}
	return append(lines, "")
}

func (p Picture) workers(s Screen, room int) []string {
	shown := p.Workers
	hidden := 0
	if most := max(room-2, 1); len(shown) > most {
		hidden = len(shown) - most + 1
		shown = shown[:most-1]
	}
	table := make([][]string, 0, 1+len(shown))
	table = append(table, []string{"SERVICE", "INSTANCE", "STATE", "HELD", "BUSY", ""})
	for _, w := range shown {
		table = append(table, []string{w.Service, w.Instance, w.State, strconv.Itoa(w.Held), fmt.Sprintf("%.0f %%", 100*w.Busy.last()), spark(w.Busy, cellSpark*2, 1, s.ASCII)})
	}
	lines := columns(table, 3)
	if hidden > 0 {
		lines = append(lines, fmt.Sprintf("... %d more: sightline workers", hidden))
	}
	return append(lines, "")
}

// notes are what is wrong with cameras and what happened last, newest at the end.
func (p Picture) notes(room int) []string {
	all := append(append([]string{}, p.Drift...), p.Notes...)
	return all[max(0, len(all)-max(room-1, 0)):]
}

func one(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

// spark draws the newest values of a series, the tallest of which is high; 0 is the tallest there is.
func spark(s Series, width int, high float64, ascii bool) string {
	levels := []rune("▁▂▃▄▅▆▇█")
	if ascii {
		levels = []rune("_.-=+*#@")
	}
	if width < 1 {
		return ""
	}
	s = s[max(0, len(s)-width):]
	for _, v := range s {
		high = max(high, v)
	}
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", width-len(s)))
	for _, v := range s {
		i := 0
		if high > 0 {
			i = min(int(v/high*float64(len(levels)-1)+.5), len(levels)-1)
		}
		b.WriteRune(levels[max(i, 0)])
	}
	return b.String()
}

// columns aligns cells by the characters that are seen: the first left columns to the left, the others to the right.
func columns(table [][]string, left int) []string {
	width := make([]int, len(table[0]))
	for _, row := range table {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	lines := make([]string, len(table))
	for n, row := range table {
		var b strings.Builder
		for i, c := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if i < left {
				b.WriteString(c + pad + "  ")
			} else {
				b.WriteString(pad + c + "  ")
			}
		}
		lines[n] = b.String()
	}
	return lines
}

// clip cuts a line to what is seen of it.
func clip(line string, s Screen) string {
	if utf8.RuneCountInString(line) <= s.Width {
		return line
	}
	end := "…"
	if s.ASCII {
		end = "~"
	}
	return string([]rune(line)[:s.Width-1]) + end
}
