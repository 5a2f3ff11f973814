#!/usr/bin/env bash
# Builds bin/sightline.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

step "bin/sightline"
mkdir -p bin
go build -o bin/ ./services/sightline/... || die "it does not build"
ok "built"
