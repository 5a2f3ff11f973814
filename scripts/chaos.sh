#!/usr/bin/env bash
# Builds the services and the broker as programs of their own, and runs chaos on them (docs/chaos.md).
# Usage: scripts/chaos.sh [ARGS], for example scripts/chaos.sh --only kill-infer --rounds 3
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

step "bin/chaos" # three minutes with an empty Go cache
mkdir -p bin/chaos
quietly go build -o bin/chaos/ ./chaos/cmd/chaos ./services/{ingest/cmd/ingest,preprocess/cmd/preprocess,recovery/cmd/recovery} ||
  die "the services do not build"
quietly go build -o bin/chaos/chaos-infer ./chaos/cmd/infer || die "infer does not build"
quietly go build -C chaos -o ../bin/chaos/nats-server github.com/nats-io/nats-server/v2 || die "nats-server does not build"
ok "built"
exec bin/chaos/chaos "$@"
