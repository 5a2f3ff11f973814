#!/usr/bin/env bash
# Checks everything and then fails once. Usage: scripts/lint.sh [fmt|tidy]; those two mend, and check nothing.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

golangci="$tools/golangci-lint-v2.15.0"
failed=()

check() {
  local name=$1
  shift
  printf 'lint   %-34s ' "$name"
  local out
  if out=$("$@" 2>&1); then
    echo ok
  else
    printf 'FAILED\n%s\n\n' "$out"
    failed+=("$name")
  fi
}

in_module() { (cd "$1" && shift && "$@"); }

# C belongs to the adapters: everything else builds without a C compiler.
c_wall() {
  local stray
  mapfile -t packages < <(modules | sed 's|$|/...|')
  stray=$(go list -e -f '{{if .CgoFiles}}{{.ImportPath}}{{end}}' "${packages[@]}" |
    grep -vE '/services/(ingest/ffmpeg|preprocess/cv|infer/ort)$' || true)
  [[ -z $stray ]] || { printf 'these packages import "C": %s\n' "$stray"; return 1; }
}

if [[ ${1-} == fmt ]]; then
  while IFS= read -r module; do in_module "$module" "$golangci" fmt; done < <(modules)
  exit
fi

if [[ ${1-} == tidy ]]; then
  # Twice: what one module requires shows in the go.mod of those that require it.
  for _ in 1 2; do
    while IFS= read -r module; do in_module "$module" env GOWORK=off go mod tidy; done < <(modules)
  done
  scripts/notices.sh
  exit
fi

# Files that are only ever sourced are checked through the scripts that source them.
mapfile -t programs < <(find . -name node_modules -prune -o -name '*.sh' -perm -u+x -print)
check "shellcheck" shellcheck -a -x .ci/run "${programs[@]}"
check "licences of Go modules" scripts/notices.sh check
check "C only in the adapters" c_wall
check "Prometheus' rules" in_module deploy/prometheus "$tools/promtool" check rules rules.yaml alerts.yaml
check "what alerts fire on" in_module deploy/prometheus "$tools/promtool" test rules alerts_test.yaml
while IFS= read -r module; do
  check "tidy $module" in_module "$module" env GOWORK=off go mod tidy -diff
  check "golangci-lint $module" in_module "$module" "$golangci" run ./...
done < <(modules)

if ((${#failed[@]})); then
  printf '\nlint failed: %s\n' "$(printf '%s, ' "${failed[@]}" | sed 's/, $//')"
  exit 1
fi
echo 'lint   passed'
