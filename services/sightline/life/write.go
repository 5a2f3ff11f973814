package life

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/services/sightline/watch"
)

const clockForm = "15:04:05.000"

// Write writes a life for people, with times in a location.
func (l Life) Write(out io.Writer, in *time.Location) error {
	var b strings.Builder
	fmt.Fprintf(&b, "frame     %s: camera %s, epoch %d, number %d\n", l.Frame, l.Camera, l.Epoch, l.Seq)
	if !l.CapturedAt.IsZero() {
		fmt.Fprintf(&b, "captured  %s by the clock of its ingest\n", l.CapturedAt.In(in).Format("2006-01-02 "+clockForm))
	}
	if l.Delivery != "" {
		fmt.Fprintf(&b, "delivery  %s", l.Delivery)
		if l.MaxAge > 0 {
			fmt.Fprintf(&b, ", worth answering for %s", l.MaxAge)
		}
		b.WriteByte('\n')
	}
	if l.TraceID != "" {
		fmt.Fprintf(&b, "trace     %s\n", l.TraceID)
	}
	for _, f := range l.Fates {
		model := f.Model
		if model == "" {
			model = "all models"
		}
		fmt.Fprintf(&b, "fate      %s: %s", model, f.Fate)
		if f.Reason != "" {
			fmt.Fprintf(&b, " (%s)", f.Reason)
		}
		fmt.Fprintf(&b, ", %s\n", how[f.By])
	}
	for _, p := range l.Places {
		fmt.Fprintf(&b, "now       message %d of %s since %s", p.Sequence, p.Stream, p.Since.In(in).Format(clockForm))
		if p.Worker != "" {
			fmt.Fprintf(&b, ", in the hands of %s", p.Worker)
		} else {
			b.WriteString(", waiting for a worker")
		}
		b.WriteByte('\n')
	}
	for _, a := range l.Answers {
		if t := a.TimingsMS; len(t) > 0 {
			parts := make([]string, 0, len(t))
			for _, k := range slices.Sorted(maps.Keys(t)) {
				parts = append(parts, k+" "+strconv.FormatFloat(t[k], 'f', 1, 64)+" ms")
			}
			fmt.Fprintf(&b, "timings   %s: %s\n", a.Model, strings.Join(parts, ", "))
		}
	}
	if _, err := io.WriteString(out, printableLines(b.String())); err != nil {
		return err
	}
	if len(l.Steps) > 0 {
		if _, err := fmt.Fprintln(out); err != nil {
			return err
		}
		if err := l.writeSteps(out, in); err != nil {
			return err
		}
	}
	for i, u := range l.Unknown {
		lead := ""
		if i == 0 {
			lead = "\n"
		}
		if _, err := fmt.Fprintf(out, "%snot known: %s\n", lead, watch.Printable(u)); err != nil {
			return err
		}
	}
	return nil
}

// how says how a fate is known.
var how = map[string]string{byTold: "as its stage told", byConcluded: "as the books conclude", byStored: "found in its stream"}

func (l Life) writeSteps(out io.Writer, in *time.Location) error {
	lines := make([][]string, 0, 1+len(l.Steps))
	lines = append(lines, []string{"TIME", "OR UP TO EARLIER", "WHO", "WHAT", "MODEL", "DETAIL", "FROM"})
	for _, s := range l.Steps {
		within := ""
		if !s.Exact() {
			within = s.Latest.Sub(s.Earliest).Round(time.Millisecond).String()
		}
		who := s.Instance
		if s.Stage != "" {
			who = strings.TrimSuffix(s.Stage+" "+s.Instance, " ")
		}
		detail := s.Detail
		if s.Again > 0 {
			detail = strings.TrimSuffix(fmt.Sprintf("after it had handed it back %d times; %s", s.Again, detail), "; ")
		}
		line := []string{s.Latest.In(in).Format(clockForm), within, who, s.What, s.Model, detail, s.Source}
		for i := range line {
			line[i] = watch.Printable(line[i])
		}
		lines = append(lines, line)
	}
	return watch.WriteColumns(out, len(lines[0]), lines)
}

// printableLines takes control characters out of every line.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = watch.Printable(lines[i])
	}
	return strings.Join(lines, "\n")
}
