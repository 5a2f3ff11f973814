package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

const (
	// AskWithin is how long a process may take to answer about itself.
	AskWithin = 2 * time.Second

	maxAnswerBytes = 64 << 10
	loopback4      = "127.0.0.1"
	loopback6      = "::1"
)

// Ask asks the process that listens at an address, host:port, for /readyz or /livez. It returns nil for yes, and
// otherwise why not. A process that listens at every address is asked on loopback.
func Ask(ctx context.Context, address, path string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("ask %q: %w", address, err)
	}
	ctx, cancel := context.WithTimeout(ctx, AskWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(near(host), port)+path, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	// A client of its own: no proxy of the environment, no redirect to somebody else.
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	var a Answer
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", resp.Status, err)
	case json.Unmarshal(body, &a) != nil || a.Checks == nil || a.OK != (resp.StatusCode == http.StatusOK):
		return fmt.Errorf("somebody else answers at %s: %s", address, resp.Status)
	case !a.OK:
		return errors.New(a.String())
	}
	return nil
}

// near is host, or loopback where host means every address.
func near(host string) string {
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "":
		return loopback4
	case err != nil || !ip.IsUnspecified():
		return host
	case ip.Is4():
		return loopback4
	default:
		return loopback6
	}
}
