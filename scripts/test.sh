#!/usr/bin/env bash
# Runs every test and ends with one line, "N passed, N failed, N skipped", over Go, Python and Node together.
# Usage: scripts/test.sh [GO TEST FLAGS], for example scripts/test.sh -run TestDrain
# In CI (CI=true) a skipped test is a failure: a test that found something missing has tested nothing. Only a Go test
# that says "NOT TESTED: why" may skip there, for data which the repository cannot carry, and a seed of a fuzz target.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

passed=0
failed=0
skipped=0
broken=() # parts that ended with an error, whatever they counted

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

part() { printf '\ntest   %s\n' "$1"; }

# tally PASSED FAILED SKIPPED STATUS NAME adds a part's figures to the totals.
tally() {
  passed=$((passed + $1)) skipped=$((skipped + $3))
  if (($4 != 0)); then
    broken+=("$5")
    failed=$((failed + ($2 > 0 ? $2 : 1)))
  fi
}

mapfile -t packages < <(modules | sed 's|$|/...|')

part "the pure packages build without C"
mapfile -t pure < <(for dir in pkg streams services; do echo "./$dir/..."; done)
# The roots of the three modules with native adapters are pure: other services import them.
for dir in services/ingest services/preprocess services/infer; do
  if compgen -G "$dir/*.go" >/dev/null; then pure+=("./$dir"); fi
done
if CGO_ENABLED=0 go build "${pure[@]}"; then tally 1 0 0 0 ""; else tally 0 1 0 1 "build without C"; fi

part "Go, ${#packages[@]} modules, race detector"
# Compile first: on a small machine compilers would disturb the tests that measure time.
status=0
go build -race "${packages[@]}" || status=$?
"$tools/gotestsum-v1.13.0" --format pkgname-and-test-fails --format-hide-empty-pkg --hide-summary skipped \
  --jsonfile "$out/go.json" -- -race -vet=off -shuffle on -timeout 10m "$@" "${packages[@]}" || status=$?
count() { awk -v action="\"Action\":\"$1\"" 'index($0, action) && /"Test":"/ { n++ } END { print n + 0 }' "$out/go.json"; }
tally "$(count pass)" "$(count fail)" "$(count skip)" "$status" Go
# One line for each skipped test: what it said last.
awk 'function value(key) { match($0, "\"" key "\":\"([^\"\\\\]|\\\\.)*\""); return substr($0, RSTART + length(key) + 4, RLENGTH - length(key) - 5) }
  !/"Test":"/ { next }
  { test = value("Package") " " value("Test") }
  /"Action":"output"/ && !/"Output":"(===|---| *---) / { said[test] = value("Output"); sub(/\\n$/, "", said[test]) }
  /"Action":"skip"/ { print "       " test ":" said[test] }' "$out/go.json" >"$out/skips"
if [[ -s $out/skips ]]; then printf 'skipped:\n%s\n' "$(<"$out/skips")"; fi
allowed=$(grep -cE 'NOT TESTED: | Fuzz[^ ]*/' "$out/skips" || true)

if (($# == 0)) && [[ -d services/trainer ]]; then
  part "the trainer (Python)"
  # Debian's interpreter, as set-up installs Debian's numpy and OpenCV for it.
  python=/usr/bin/python3
  [[ -x $python ]] || python=python3
  status=0
  PYTHONDONTWRITEBYTECODE=1 "$python" -m unittest discover -s services/trainer -p '*test*.py' 2>&1 | tee "$out/python" || status=$?
  read -r ran bad skip < <(awk '/^Ran [0-9]+ test/ { ran = $2 }
    match($0, /failures=[0-9]+/) { bad += substr($0, RSTART + 9, RLENGTH - 9) }
    match($0, /errors=[0-9]+/) { bad += substr($0, RSTART + 7, RLENGTH - 7) }
    match($0, /skipped=[0-9]+/) { skip += substr($0, RSTART + 8, RLENGTH - 8) }
    END { print ran + 0, bad + 0, skip + 0 }' "$out/python")
  if ((ran == 0)); then status=1; fi
  tally $((ran > bad + skip ? ran - bad - skip : 0)) "$bad" "$skip" "$status" Python
fi

if (($# == 0)) && [[ -f examples/node/package.json ]]; then
  part "the Node examples"
  status=0
  npm test --silent --prefix examples/node 2>&1 | tee "$out/node" || status=$?
  read -r good bad skip < <(awk '($1 == "#" || $1 == "ℹ") && $3 ~ /^[0-9]+$/ { n[$2] += $3 }
    END { print n["pass"] + 0, n["fail"] + n["cancelled"] + 0, n["skipped"] + 0 }' "$out/node")
  if ((good + bad + skip == 0)); then status=1; fi
  tally "$good" "$bad" "$skip" "$status" Node
fi

unexpected=$((skipped - allowed))
if [[ ${CI-} == true ]] && ((unexpected > 0)); then
  printf '\nCI: %d skipped tests count as failed\n' "$unexpected"
  tally 0 "$unexpected" -"$unexpected" 1 "skipped tests"
fi
if ((${#broken[@]})); then
  printf '\nfailed: %s\n' "$(printf '%s, ' "${broken[@]}" | sed 's/, $//')"
fi
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
((${#broken[@]} == 0))
