# shellcheck shell=bash
# What builds and runs containers: an engine that answers, and its client's plugins buildx and compose. What the machine has
# is used as it is; what is absent comes from Debian's packages and from Go sources, and an engine that sleeps is started.

buildx_version=v0.30.1
compose_version=v5.2.0

setup_containers() {
  setup_engine
  plugin buildx 0.14 github.com/docker/buildx "$buildx_version" ./cmd/buildx github.com/docker/buildx/version.Version
  plugin compose 2.24 github.com/docker/compose/v5 "$compose_version" ./cmd github.com/docker/compose/v5/internal.Version
}

# find_docker sets DOCKER to a client that reaches an engine: a machine may have several, and one that is broken first.
find_docker() {
  local client
  for client in ${DOCKER:+"$DOCKER"} $(type -aP docker); do
    if timeout 10 "$client" version --format '{{.Server.Version}}' >/dev/null 2>&1; then
      DOCKER=$client
      return
    fi
  done
  return 1
}

setup_engine() {
  step "container engine"
  if find_docker; then
    ok "ready: $(engine_name)"
    return
  fi
  if [[ -n ${DOCKER_HOST-} ]]; then
    die "DOCKER_HOST is set, and no engine answers there" "start that engine, or unset DOCKER_HOST to use one on this machine"
  fi
  if ! command -v dockerd >/dev/null && [[ ! -x /usr/sbin/dockerd ]]; then
    debian "container engine" docker.io iptables
    step "container engine"
  fi
  start_engine
  ok "started: $(engine_name), log $engine_log"
}

engine_name() { printf '%s, engine %s' "$DOCKER" "$("$DOCKER" version --format '{{.Server.Version}}')"; }

# start_engine starts dockerd, as a service where there is a service manager, and waits until it answers.
engine_log="$sightline_cache/dockerd.log"
start_engine() {
  local hint="by hand: start dockerd (root; it needs network and mount name spaces, cgroups and iptables), then try again"
  if [[ -d /run/systemd/system ]]; then
    engine_log="of journalctl -u docker"
    quietly as_root systemctl start docker || die "systemctl cannot start docker" "$hint"
  else
    # Descriptor 9 is the lock of scripts/setup.sh: an engine that lives on must not hold it.
    as_root setsid nohup "$(type -P dockerd || echo /usr/sbin/dockerd)" >"$engine_log" 2>&1 </dev/null 9>&- &
  fi
  for _ in $(seq 150); do
    if find_docker; then return; fi
    sleep 0.2
  done
  if [[ -S /var/run/docker.sock && ! -w /var/run/docker.sock ]]; then
    die "the engine runs, and this user may not speak to it" "as root: usermod -aG docker $(id -un), then log in again"
  fi
  if [[ -s $engine_log ]]; then cp "$engine_log" "$log"; fi # die shows its last lines
  die "no container engine can be started: this machine cannot run containers" "$hint"
}

# plugin NAME LEAST MODULE VERSION PACKAGE VARIABLE gives the client the plugin NAME, unless it has LEAST or a newer one.
# VARIABLE is where the plugin keeps its version.
plugin() {
  local name=$1 least=$2 module=$3 version=$4 package=$5 variable=$6 have folder
  step "docker $name"
  have=$("$DOCKER" "$name" version 2>/dev/null | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1 || true)
  if [[ -n $have && $(printf '%s\n%s\n' "$least" "$have" | sort -V | head -n 1) == "$least" ]]; then
    ok "ready: $have"
    return
  fi
  [[ -x $tools/docker-$name-$version ]] || build_plugin "$@"
  folder="${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins"
  mkdir -p "$folder"
  ln -sf "$tools/docker-$name-$version" "$folder/docker-$name"
  quietly "$DOCKER" "$name" version || die "$DOCKER does not take the plugin $folder/docker-$name" "a client of 2020 or newer does"
  ok "installed: $version"
}

# build_plugin builds as a module that has the plugin's own go.mod: `go install` refuses one with replacements.
build_plugin() {
  local name=$1 module=$3 version=$4 package=$5 variable=$6 work
  mkdir -p "$tools"
  work=$(mktemp -d "$tools/work.XXXXXX")
  if ! quietly build_in "$work" "$module" "$version" "$package" "$variable"; then
    rm -rf "$work"
    die "cannot build $name from Go module $module@$version" "by hand: install Docker's packages docker-$name-plugin"
  fi
  mv -f "$work/plugin" "$tools/docker-$name-$version"
  rm -rf "$work"
}

build_in() (
  set -e
  cd "$1"
  source=$(cd / && plainly go mod download -json "$2@$3" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  sed 's/^module .*/module plugin/' "$source/go.mod" >go.mod
  cp "$source/go.sum" go.sum
  chmod u+w go.mod go.sum
  plainly go mod edit -require "$2@$3"
  plainly go build -trimpath -ldflags "-s -w -X $5=$3" -o plugin "$2/${4#./}"
)

# plainly GO... is go without our workspace and flags, and without C.
plainly() { env GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0 "$@"; }

# go_settings prints where this machine's go gets modules, as a file for GOENV: builds in containers take it as a secret, so
# that neither images nor their history show it.
go_settings() {
  local name
  for name in GOPROXY GOSUMDB GOPRIVATE GONOPROXY GONOSUMDB GOINSECURE; do printf '%s=%s\n' "$name" "$(go env "$name")"; done
}
