// Command camera plays footage as a live RTSP camera; see package camera. `camera health` asks one whether it answers.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/sightline-dev/sightline/services/camera"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "health" {
		return health(ctx, args[1:], os.Stdout)
	}
	return camera.Command(ctx, args, os.Getenv, os.Stdout)
}
