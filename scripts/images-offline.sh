#!/usr/bin/env bash
# Makes the base images that Dockerfiles and the compose file name, on a machine without a container registry: from Debian
# packages and Go sources, under the very names. Only those that are absent. Usage: scripts/images-offline.sh [IMAGE...]
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/setup/system.sh
. scripts/setup/system.sh
# shellcheck source=scripts/setup/containers.sh
. scripts/setup/containers.sh

# In this order: later ones are made with earlier ones.
all=(docker/dockerfile:1 debian:bookworm-slim golang:1.26-bookworm nats:2.15-alpine prom/prometheus:v2.42.0)
label="dev.sightline.stand-in" # on what was made here, so that nobody takes it for the original
if (($# == 0)); then set -- "${all[@]}"; fi

find_docker || die "no container engine answers" "scripts/setup.sh containers"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# stand_in TARGET IMAGE builds a target of offline.Dockerfile.
stand_in() {
  go_settings >"$work/go-env"
  mkdir -p "$work/authorities" "$work/context"
  cp /usr/local/share/ca-certificates/*.crt "$work/authorities/" 2>/dev/null || true
  quietly "$DOCKER" buildx build --provenance=false --load -f deploy/docker/offline.Dockerfile --target "$1" -t "$2" --label "$label=$1" \
    --secret "id=go-env,src=$work/go-env" --build-context authorities="$work/authorities" \
    --build-context goroot="$(go env GOROOT)" "$work/context"
}

# The Dockerfile frontend, so that `# syntax=` lines, heredocs and named contexts work with an old engine too.
make_dockerfile() (
  set -e
  mkdir -p "$work/frontend"
  cd "$work/frontend"
  printf 'module frontend\n' >go.mod
  quietly plainly go get github.com/moby/buildkit/frontend/dockerfile/cmd/dockerfile-frontend@v0.26.1
  quietly plainly go build -trimpath -ldflags '-s -w' -o dockerfile-frontend github.com/moby/buildkit/frontend/dockerfile/cmd/dockerfile-frontend
  tar -c dockerfile-frontend | "$DOCKER" import -c 'ENTRYPOINT ["/dockerfile-frontend"]' \
    -c 'LABEL moby.buildkit.frontend.network.none=true' \
    -c 'LABEL moby.buildkit.frontend.caps=moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests,moby.buildkit.frontend.contexts' \
    -c "LABEL $label=dockerfile" - "$1" >/dev/null
)

# A minimal Debian from this machine's mirrors, which apt in it goes on using.
make_debian() {
  local mirror
  mirror=$(mirrors | awk '$2 == "bookworm" { print $1; exit }')
  quietly as_root debootstrap --variant=minbase bookworm "$work/debian" "${mirror:-$(mirrors | awk '{ print $1; exit }')}" ||
    die "debootstrap cannot make $1" "it needs root, and a Debian mirror in this machine's apt sources"
  mirrors | awk '$2 ~ /^bookworm/ { print "deb", $1, $2, "main" }' | as_root tee "$work/debian/etc/apt/sources.list" >/dev/null
  apt-config dump | grep -E '^Acquire::(Check|Retries|http)' | as_root tee "$work/debian/etc/apt/apt.conf.d/90mirror" >/dev/null
  as_root find "$work/debian/var/cache/apt" "$work/debian/var/lib/apt/lists" "$work/debian/usr/share"/{doc,man,locale,info} \
    "$work/debian/var/log" -type f ! -name copyright -delete
  as_root tar -C "$work/debian" --sort=name -c . | "$DOCKER" import -c 'CMD ["bash"]' -c "LABEL $label=debian" - "$1" >/dev/null
  as_root rm -rf "$work/debian"
}

# mirrors prints URI and release of each of this machine's sources that Debian is the origin of.
mirrors() {
  # shellcheck disable=SC2016 # apt-get's own placeholders
  apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk '$1 == "Debian" && $4 == "main" { print $2, $3 }' | sort -u
}

"$DOCKER" image inspect debian:bookworm-slim >/dev/null 2>&1 || debian "debootstrap" debootstrap
made=()
for image in "$@"; do
  step "$image"
  if standing=$("$DOCKER" image inspect -f "{{index .Config.Labels \"$label\"}}" "$image" 2>/dev/null); then
    ok "ready${standing:+ (a stand-in)}"
    continue
  fi
  case $image in
  docker/dockerfile:1) make_dockerfile "$image" || die "cannot build $image" ;;
  debian:bookworm-slim) make_debian "$image" ;;
  golang:1.26-bookworm)
    [[ $(go env GOVERSION) == go1.26* ]] || die "$image wants Go 1.26, and this is $(go env GOVERSION)"
    stand_in golang "$image" || die "cannot build $image"
    ;;
  nats:2.15-alpine) stand_in nats "$image" || die "cannot build $image" ;;
  prom/prometheus:v2.42.0) stand_in prometheus "$image" || die "cannot build $image" ;;
  *) die "no way to make $image here" "images: ${all[*]}" ;;
  esac
  made+=("$image")
  ok "made"
done

if ((${#made[@]})); then
  cat <<END

warning: made here, as stand-ins for the public images of the same names: ${made[*]}
         Use them to build, test and try on this machine only; never push them. Remove them to have the originals:
         docker image rm ${made[*]}
END
fi
