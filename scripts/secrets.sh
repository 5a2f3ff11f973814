#!/usr/bin/env bash
# Makes the certificates and keys of the broker for development in deploy/secrets, as far as they are absent.
# Usage: scripts/secrets.sh [--rotate USER]...
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

go run ./deploy/nats/cmd/secrets --dir deploy/secrets "$@"
