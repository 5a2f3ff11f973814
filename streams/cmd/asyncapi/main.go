// Command asyncapi writes the AsyncAPI document of Sightline's streams. Channels, consumers and buckets come from
// package streams; messages and schemas are written by hand in components.yaml beside this file.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "asyncapi:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("asyncapi", flag.ContinueOnError)
	file := flags.String("o", "", "file to write")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("flags: %w", err)
	}
	if *file == "" {
		return errors.New("-o is required: the file to write")
	}
	data, err := generate()
	if err != nil {
		return err
	}
	if err := os.WriteFile(*file, data, 0o644); err != nil { //nolint:gosec // a document for everybody
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
