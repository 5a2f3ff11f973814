# shellcheck shell=bash
# What the scripts share. Source it first; it moves to the repository root and reads env.sh.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root" || exit
# shellcheck source=scripts/env.sh
. scripts/env.sh
# shellcheck disable=SC2034 # not every script uses it
tools="$sightline_cache/tools"
export DEBIAN_FRONTEND=noninteractive

# step NAME prints the first half of a progress line, ok TEXT the second.
step() {
  current=$1
  started=$SECONDS
  printf 'setup  %-34s ' "$1"
}
ok() {
  local took=$((SECONDS - started))
  if ((took >= 2)); then printf '%s (%d s)\n' "$1" "$took"; else printf '%s\n' "$1"; fi
}

# die MESSAGE [HINT...] ends the script; inside a step it names that step and shows what its command said last.
die() {
  [[ -n ${current-} ]] && printf 'FAILED\n'
  if [[ -s $log ]]; then
    printf '\n--- the last lines of %s\n' "$log"
    tail -n 15 "$log"
  fi >&2
  printf '\nerror: %s%s\n' "${current:+set-up step \"$current\": }" "$1" >&2
  shift
  if (($#)); then printf '       %s\n' "$@" >&2; fi
  exit 1
}

# quietly COMMAND... keeps the command's output for the moment it fails.
log="$sightline_cache/setup.log"
quietly() {
  if "$@" >"$log" 2>&1 </dev/null; then rm -f "$log"; else return 1; fi
}

as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo -E "$@"
  else
    echo "root is needed for: $*" >&2
    return 1
  fi
}

# modules prints the folder of every module of go.work, relative to the root, one a line.
modules() {
  go list -m -f '{{.Dir}}' | while IFS= read -r dir; do printf '%s\n' ".${dir#"$root"}"; done
}
