// Command secrets makes certificates and keys for a broker on this machine; see package secrets.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sightline-dev/sightline/deploy/nats/secrets"
)

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("secrets", flag.ContinueOnError)
	dir := flags.String("dir", "deploy/secrets", "folder to fill")
	var rotate []string
	flags.Func("rotate", "user who gets a new key; may be repeated", func(v string) error {
		rotate = append(rotate, v)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	wrote, err := secrets.Make(*dir, time.Now(), rotate...)
	for _, name := range wrote {
		_, _ = fmt.Fprintln(os.Stdout, "made "+filepath.Join(*dir, name))
	}
	if err == nil && len(rotate) > 0 {
		_, _ = fmt.Fprintln(os.Stdout, "make the containers of the broker's nodes anew one by one, then those of whoever has a new key: docs/deployment.md, Users")
	}
	return err
}
