// Command users writes accounts and users of the broker as a part of nats-server's configuration; see package access.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/sightline-dev/sightline/deploy/nats/access"
)

func main() {
	out := flag.String("o", "users.conf", "file to write")
	flag.Parse()
	if err := os.WriteFile(*out, []byte(access.Conf(access.Users())), 0o644); err != nil { //nolint:gosec // it has no secrets
		_, _ = fmt.Fprintln(os.Stderr, "users:", err)
		os.Exit(1)
	}
}
