#!/usr/bin/env bash
# Builds programs into bin/. Usage: scripts/build.sh [PROGRAM...]; without any: sightline and one for each service.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

declare -A source=([sightline]=./services/sightline)
for dir in services/*/cmd/*/; do source[$(basename "$dir")]=./${dir%/}; done

if (($# == 0)); then set -- "${!source[@]}"; fi
packages=()
for program in "$@"; do
  [[ -n ${source[$program]-} ]] || die "no program named '$program'" "programs: ${!source[*]}"
  packages+=("${source[$program]}")
done

step "bin/" # two minutes with an empty Go cache
mkdir -p bin
quietly go build -o bin/ "${packages[@]}" || die "it does not build"
ok "built"
