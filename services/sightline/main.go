// Command sightline runs the whole system in one process, and is the operator's tool for a running one.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/sightline-dev/sightline/services/sightline/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if _, set := os.LookupEnv("GOGC"); !set {
		// Messages are large, short-lived and few: collecting less often costs tens of megabytes and saves a few per
		// cent of all CPU (docs/benchmarks.md).
		debug.SetGCPercent(400)
	}
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once
	code := cli.Main(ctx, os.Args[1:], os.Environ(), cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}
