// Command metrics writes the table of metrics into a page, between its markers.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/sightline-dev/sightline/pkg/telemetry"
)

func main() {
	page := flag.String("o", "", "the page")
	flag.Parse()
	if err := run(*page); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "metrics:", err)
		os.Exit(1)
	}
}

func run(page string) error {
	old, err := os.ReadFile(page) //nolint:gosec // the caller names it
	if err != nil {
		return err
	}
	text, err := telemetry.Document(string(old))
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	return os.WriteFile(page, []byte(text), 0o644) //nolint:gosec // documentation
}
