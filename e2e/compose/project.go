package compose

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Project is the compose file run as a project of its own, with published ports of its own, so that it disturbs nobody who
// has Sightline up on this machine. Everything else is as the file has it.
type Project struct {
	Name string
	// Docker is the client, Dir where the compose file is.
	Docker, Dir string
	// Override is a second compose file.
	Override string
}

// Ports writes the second file: services publish the port inside, by name, at another one outside; those with none publish
// nothing.
func Ports(path string, publish map[string]map[int]int) error {
	var b bytes.Buffer
	b.WriteString("services:\n")
	names := make([]string, 0, len(publish))
	for name := range publish {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "  %s:\n    ports: !override", name)
		if len(publish[name]) == 0 {
			b.WriteString(" []")
		}
		b.WriteString("\n")
		for inside, outside := range publish[name] {
			fmt.Fprintf(&b, "      - \"127.0.0.1:%d:%d\"\n", outside, inside)
		}
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("compose: %w", err)
	}
	return nil
}

// Run is `docker compose ARGS...`.
func (p Project) Run(ctx context.Context, args ...string) (string, error) {
	return command(ctx, p.Docker, p.Dir, []string{
		"COMPOSE_PROJECT_NAME=" + p.Name, "COMPOSE_FILE=" + filepath.Join(p.Dir, "docker-compose.yaml") + string(os.PathListSeparator) + p.Override,
		"COMPOSE_PROGRESS=quiet",
	}, args...)
}

func command(ctx context.Context, docker, dir string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, docker, append([]string{"compose"}, args...)...) //nolint:gosec // the client that set-up found
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("docker compose %s: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()+"\n"+out.String()))
	}
	return out.String(), nil
}
