#!/usr/bin/env bash
# Runs every fuzz target for a bounded time. Usage: scripts/fuzz.sh [TIME]
# New inputs go to the Go build cache, failing ones to testdata/fuzz of the package: commit those.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

time=${1:-10s}
passed=0
failed=()
mapfile -t packages < <(modules | sed 's|$|/...|')
list=$(go test -list '^Fuzz' -json "${packages[@]}") || die "the tests do not build" "make test shows why"
while read -r package target; do
  [[ -n $target ]] || continue
  printf '\n== %s %s for %s\n' "$package" "$target" "$time"
  if go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package"; then
    passed=$((passed + 1))
  else
    failed+=("$package $target")
  fi
done < <(sed -n 's/.*"Action":"output","Package":"\([^"]*\)".*"Output":"\(Fuzz[A-Za-z0-9_]*\)\\n".*/\1 \2/p' <<<"$list")

((${#failed[@]} == 0)) || printf 'failed: %s\n' "${failed[@]}"
printf '\n%d passed, %d failed\n' "$passed" "${#failed[@]}"
((${#failed[@]} == 0))
