// Command check asks a Prometheus every expression of the dashboards, the rules and the alerts, and fails when one is refused, or
// when a panel is empty that should not be. A panel whose description says "Empty until: ..." may be, and is named.
//
//	go run ./deploy/grafana/check -prometheus http://127.0.0.1:9090 -dashboards deploy/grafana -wait 2m
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout)) }

// board is what is read of a dashboard.
type board struct {
	Title      string
	Templating struct {
		List []struct {
			Name     string
			Query    struct{ Query string }
			AllValue string
		}
	}
	Panels []struct {
		Title, Description string
		Targets            []struct{ Expr, LegendFormat string }
	}
}

// asked is one expression.
type asked struct{ board, panel, expr, until string }

const may = "Empty until: "

func run(ctx context.Context, args []string, out io.Writer) int {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	prometheus := flags.String("prometheus", "http://127.0.0.1:9090", "a Prometheus that scrapes a running system")
	dashboards := flags.String("dashboards", "deploy/grafana", "folder of the dashboards")
	wait := flags.Duration("wait", 2*time.Minute, "how long panels may take to have data")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	ctx, cancel := context.WithTimeout(ctx, *wait)
	defer cancel()
	c := client{base: strings.TrimRight(*prometheus, "/")}
	empty, err := c.check(ctx, *dashboards, out)
	if err != nil {
		_, _ = fmt.Fprintln(out, "check:", err)
		return 1
	}
	if empty > 0 {
		_, _ = fmt.Fprintf(out, "%d panels are empty\n", empty)
		return 1
	}
	return 0
}

// check asks until nothing is empty that should not be, or ctx ends, and returns how many are.
func (c client) check(ctx context.Context, dir string, out io.Writer) (int, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		return 0, errors.Join(err, fmt.Errorf("no dashboards in %s", dir))
	}
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		all, err := c.expressions(ctx, files)
		if err == nil {
			var empty, excused []asked
			var series int
			if empty, excused, series, err = c.ask(ctx, all); err == nil && len(empty) == 0 {
				return 0, report(out, all, empty, excused, series)
			}
			if err == nil && ctx.Err() != nil {
				return len(empty), report(out, all, empty, excused, series)
			}
			if err == nil && deadlineNear(ctx) {
				return len(empty), report(out, all, empty, excused, series)
			}
		}
		if refused, ok := errors.AsType[*refusedError](err); ok {
			return 0, refused
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, errors.Join(err, context.Cause(ctx))
		}
	}
}

// deadlineNear says that there is no time for another round.
func deadlineNear(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ok && time.Until(end) < 5*time.Second
}

func report(out io.Writer, all, empty, excused []asked, series int) error {
	for _, e := range excused {
		if _, err := fmt.Fprintf(out, "may be empty  %s: %s: %s\n", e.board, e.panel, e.until); err != nil {
			return err
		}
	}
	for _, e := range empty {
		if _, err := fmt.Fprintf(out, "EMPTY         %s: %s: %s\n", e.board, e.panel, e.expr); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "%d expressions, %d series, %d empty, %d that may be\n", len(all), series, len(empty), len(excused))
	return err
}

// expressions are those of all dashboards, with values for their variables.
func (c client) expressions(ctx context.Context, files []string) ([]asked, error) {
	var out []asked
	for _, file := range files {
		data, err := os.ReadFile(file) //nolint:gosec // the dashboards of this repository
		if err != nil {
			return nil, err
		}
		var b board
		if err := json.Unmarshal(data, &b); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		values := map[string]string{}
		for _, v := range b.Templating.List {
			if values[v.Name] = v.AllValue; v.AllValue != "" {
				continue
			}
			selector, label, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(v.Query.Query, "label_values("), ")"), ",")
			if !ok {
				return nil, fmt.Errorf("%s: variable %s", file, v.Name)
			}
			found, err := c.query(ctx, fill(selector, values))
			if err != nil {
				return nil, err
			}
			if len(found) == 0 {
				return nil, fmt.Errorf("%s: variable %s has no values", file, v.Name)
			}
			values[v.Name] = found[0].Metric[strings.TrimSpace(label)]
		}
		for _, p := range b.Panels {
			_, until, _ := strings.Cut(p.Description, may)
			for _, t := range p.Targets {
				out = append(out, asked{b.Title, p.Title, fill(t.Expr, values), until})
			}
		}
	}
	return out, nil
}

func fill(expr string, values map[string]string) string {
	for name, v := range values {
		expr = strings.ReplaceAll(expr, "$"+name, v)
	}
	return expr
}

// ask asks all expressions once.
func (c client) ask(ctx context.Context, all []asked) (empty, excused []asked, series int, err error) {
	for _, a := range all {
		found, err := c.query(ctx, a.expr)
		if err != nil {
			return nil, nil, 0, fmt.Errorf("%s: %s: %w", a.board, a.panel, err)
		}
		series += len(found)
		switch {
		case len(found) > 0:
		case a.until != "":
			excused = append(excused, a)
		default:
			empty = append(empty, a)
		}
	}
	return empty, excused, series, nil
}

// client asks a Prometheus.
type client struct{ base string }

// sample is one series of an answer.
type sample struct {
	Metric map[string]string `json:"metric"`
}

// refusedError is an expression that Prometheus does not understand: waiting does not help.
type refusedError struct{ expr, why string }

func (e *refusedError) Error() string { return e.expr + ": " + e.why }

func (c client) query(ctx context.Context, expr string) ([]sample, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/api/v1/query?query="+url.QueryEscape(expr), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Status, ErrorType, Error string
		Data                     struct{ Result []sample }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s: %w", expr, err)
	}
	if answer.Status != "success" {
		return nil, &refusedError{expr, answer.Error}
	}
	return answer.Data.Result, nil
}
