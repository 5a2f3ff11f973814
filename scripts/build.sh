#!/usr/bin/env bash
# Builds bin/sightline.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

step "bin/sightline" # two minutes with an empty Go cache
mkdir -p bin
quietly go build -o bin/ ./services/sightline/... || die "it does not build"
ok "built"
