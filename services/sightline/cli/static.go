//go:build !cgo

package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// A build without C is the operator's tool alone: it links neither decoders nor models, and runs in an image that holds
// nothing else. The commands that need those say so.

func (a *app) up() *cobra.Command     { return a.elsewhere("up", "run everything in one process") }
func (a *app) bench() *cobra.Command  { return a.elsewhere("bench", "measure a machine") }
func (a *app) detect() *cobra.Command { return a.elsewhere("detect", "try a model on picture files") }

func (a *app) elsewhere(name, does string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: "Not in this build: " + does, DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return exit(ExitUsage, fmt.Errorf("this sightline is built without FFmpeg, OpenCV and ONNX Runtime, as its image has it, "+
				"and cannot %s: build it from source (make build), or start the services from their images (docker compose up)", does))
		},
	}
}
