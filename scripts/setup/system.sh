# shellcheck shell=bash
# Go itself, and packages of the system.

# setup_go checks for the version that go.work names.
setup_go() {
  step "go"
  local want have
  want=$(awk '$1 == "go" { print $2 }' go.work)
  command -v go >/dev/null || die "no 'go' in PATH" "install Go $want or newer, see https://go.dev/doc/install"
  # Run outside the workspace: there an old go would only say that it is too old.
  have=$(cd / && GOTOOLCHAIN=local go env GOVERSION)
  have=${have#go}
  if [[ $(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n 1) != "$want" ]]; then
    die "Go $have is too old" "install Go $want or newer, see https://go.dev/doc/install"
  fi
  ok "ready: $have"
}

setup_packages() {
  debian "system packages" libopencv-dev pkg-config gcc g++ libavcodec-dev libavutil-dev libswscale-dev \
    libturbojpeg0-dev ffmpeg
}

setup_shellcheck() { debian "shellcheck" shellcheck; }

# For `make model` and for the trainer's tests, which build its network.
setup_trainer() { debian "the trainer's Python" python3 python3-numpy python3-torch python3-onnx python3-opencv; }

# debian NAME PACKAGE... installs what is absent of the packages.
debian() {
  step "$1"
  local missing
  shift
  if ! command -v dpkg-query >/dev/null; then
    if [[ ${SIGHTLINE_SKIP_PACKAGES-} == 1 ]]; then
      ok "skipped, as SIGHTLINE_SKIP_PACKAGES says"
      return
    fi
    die "this is neither Debian nor Ubuntu" "install what these packages hold: $*" \
      "then set SIGHTLINE_SKIP_PACKAGES=1"
  fi
  missing=$(absent "$@")
  if [[ -z $missing ]]; then
    ok "ready"
    return
  fi
  local -a list
  read -r -a list <<<"$missing"
  # The package lists may be absent or older than the mirror: fetch them when the first try says so, then once only.
  if ! install_packages "${list[@]}"; then
    if ! quietly as_root apt-get update -q || ! install_packages "${list[@]}"; then
      die "cannot install: $(absent "$@")" "by hand: apt-get update && apt-get install --no-install-recommends $missing"
    fi
  fi
  missing=$(absent "$@")
  [[ -z $missing ]] || die "still absent after apt-get: $missing"
  ok "installed: ${list[*]}"
}

install_packages() {
  quietly as_root apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
}

# absent prints which of the packages are not installed, on one line.
absent() {
  local package out=()
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || out+=("$package")
  done
  printf '%s' "${out[*]-}"
}
