#!/usr/bin/env bash
# Brings a machine to the state that a Make target needs. Usage: scripts/setup.sh build|demo|dashboards|test|lint|model|bench|chaos|containers...
# Each step looks first and does nothing when its result is there, so that a second run takes no time. What it makes
# lies outside the repository, in ${XDG_CACHE_HOME:-~/.cache}/sightline. The steps are functions in scripts/setup/.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/setup/system.sh
. scripts/setup/system.sh
# shellcheck source=scripts/setup/onnxruntime.sh
. scripts/setup/onnxruntime.sh
# shellcheck source=scripts/setup/footage.sh
. scripts/setup/footage.sh
# shellcheck source=scripts/setup/tools.sh
. scripts/setup/tools.sh
# shellcheck source=scripts/setup/prometheus.sh
. scripts/setup/prometheus.sh
# shellcheck source=scripts/setup/containers.sh
. scripts/setup/containers.sh

steps=()
for goal in "$@"; do
  case $goal in
  build) steps+=(go packages) ;;
  demo | bench | chaos) steps+=(go packages onnxruntime footage) ;;
  test) steps+=(go packages onnxruntime footage gotestsum prometheus trainer node) ;;
  dashboards) steps+=(prometheus) ;;
  lint) steps+=(go packages shellcheck golangci_lint prometheus) ;;
  model) steps+=(go packages onnxruntime footage trainer) ;;
  containers) steps+=(go containers) ;;
  *) die "no goal named '$goal'" "goals: build demo bench chaos dashboards test lint model containers" ;;
  esac
done

# One set-up at a time: a second one waits, then finds everything there.
mkdir -p "$sightline_cache"
exec 9>"$sightline_cache/setup.lock"
flock 9
rm -f "$log"

for name in $(printf '%s\n' "${steps[@]}" | awk '!seen[$0]++'); do
  "setup_$name"
done
