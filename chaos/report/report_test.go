package report_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/chaos/report"
)

func rounds(ms ...int) []*report.Round {
	var out []*report.Round
	for i, v := range ms {
		out = append(out, &report.Round{
			Number: i + 1, Recovery: time.Duration(v) * time.Millisecond,
			Figures: map[string]time.Duration{"seen": time.Duration(v) * time.Millisecond},
			Steps:   []report.Step{{What: "declared dead", At: 300 * time.Millisecond}, {What: "handed over", At: 320 * time.Millisecond}},
		})
	}
	return out
}

func TestMisses(t *testing.T) {
	for name, c := range map[string]struct {
		row  report.Row
		want []string
	}{
		"met":                     {report.Row{Target: time.Second, Rounds: rounds(900, 400, 5000)}, nil},
		"median":                  {report.Row{Target: time.Second, Rounds: rounds(900, 1400, 1200)}, []string{"median 1.2s > 1s"}},
		"lost":                    {report.Row{Rounds: rounds(1), Lost: 2}, []string{"2 lost"}},
		"doubled":                 {report.Row{Rounds: rounds(1), Doubled: 1}, []string{"1 doubled"}},
		"no round proves nothing": {report.Row{Target: time.Second}, []string{"no round"}},
		"a figure":                {report.Row{Rounds: rounds(4000), Limits: map[string]time.Duration{"seen": 3 * time.Second}}, []string{"seen 4s > 3s"}},
		"availability":            {report.Row{Rounds: rounds(1), Availability: &report.Availability{Covered: 989, Seconds: 1000}}, []string{"availability 98.90 % < 99 %"}},
		"a failed round":          {report.Row{Rounds: []*report.Round{{Failures: []string{"x"}}}, Failures: []string{"y"}}, []string{"2 failures"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.row.Misses(); !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestOK(t *testing.T) {
	good := &report.Row{Target: time.Second, Rounds: rounds(10)}
	for name, c := range map[string]struct {
		r    report.Report
		want bool
	}{
		"good":              {report.Report{Rows: []*report.Row{good}}, true},
		"nothing was tried": {report.Report{}, false},
		"a problem":         {report.Report{Rows: []*report.Row{good}, Problems: []string{"a world did not start"}}, false},
		"one row misses":    {report.Report{Rows: []*report.Row{good, {Lost: 1, Rounds: rounds(1)}}}, false},
	} {
		if got := c.r.OK(); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestTableAndJSON(t *testing.T) {
	r := report.Report{Seed: 7, Rows: []*report.Row{
		{Name: "kill", Title: "kill -9 one of two", Target: time.Second, Rounds: rounds(600, 400, 700)},
		{Name: "camera", Title: "camera stalls", From: "back", Target: 5 * time.Second, Rounds: rounds(6000), Lost: 1, Limits: map[string]time.Duration{"seen": 3 * time.Second}, Details: []string{"door/7/4"}},
	}}
	var out bytes.Buffer
	if err := r.Table(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"kill -9 one of two  3       0     0        600ms   700ms  <= 1s             steady (380ms)", "MISSED: 1 lost; median 6s > 5s; seen 6s > 3s", "camera: door/7/4", "  seen",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
	out.Reset()
	if err := r.JSON(&out); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Seed uint64 `json:"seed"`
		OK   *bool  `json:"ok"`
		Rows []struct {
			Rounds []struct {
				Recovery int64 `json:"recovery_ns"`
			} `json:"rounds"`
		} `json:"rows"`
	}
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back.Seed != 7 || back.OK == nil || *back.OK || len(back.Rows) != 2 || back.Rows[0].Rounds[0].Recovery != int64(600*time.Millisecond) {
		t.Errorf("read back %+v", back)
	}
}

func TestSlowest(t *testing.T) {
	r := rounds(400)[0]
	if got := r.Slowest(); got != "declared dead (300ms)" {
		t.Errorf("slowest step %q", got)
	}
	if got := (&report.Round{}).Slowest(); got != "" {
		t.Errorf("a round without damage has slowest step %q", got)
	}
}
