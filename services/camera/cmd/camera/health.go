package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// askWithin is how long a camera may take to answer.
const askWithin = 2 * time.Second

// health asks the camera that listens at --listen whether it answers, as a player would.
func health(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("camera health", flag.ContinueOnError)
	flags.SetOutput(out)
	address := flags.String("listen", "127.0.0.1:8554", "`host:port` of RTSP, as the camera was told")
	secure := flags.Bool("tls", false, "the camera serves RTSPS")
	if err := flags.Parse(args); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(*address)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost" // whichever of the two loopbacks answers
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	defer func() { _ = c.Close() }()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	if *secure {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // who it is matters to nobody here, and nothing is told
	}
	if _, err := io.WriteString(c, "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	line, err := bufio.NewReader(io.LimitReader(c, 1024)).ReadString('\n')
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	if !strings.HasPrefix(line, "RTSP/1.0 ") {
		return fmt.Errorf("what listens at %s is no camera", *address)
	}
	return nil
}
