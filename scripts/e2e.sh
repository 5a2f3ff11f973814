#!/usr/bin/env bash
# Tries Sightline in containers from end to end (docs/e2e.md). Usage: scripts/e2e.sh [FLAGS OF THE TEST PROGRAM], for example
# scripts/e2e.sh -test.run 'TestE2E/world/(main|kill-infer)'
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/setup/containers.sh
. scripts/setup/containers.sh

find_docker || die "no container engine answers: this machine cannot run containers" "scripts/setup.sh containers"
if [[ -z ${DOCKER_HOST-} ]]; then # the tests speak to the engine that this client speaks to
  DOCKER_HOST=$("$DOCKER" context inspect --format '{{.Endpoints.docker.Host}}')
fi
export DOCKER DOCKER_HOST
mkdir -p "$sightline_cache" bin/e2e
exec 8>"$sightline_cache/e2e.lock"
flock -n 8 || die "end-to-end tests are running on this machine already"

bases=(docker/dockerfile:1 debian:bookworm-slim golang:1.26-bookworm nats:2.15-alpine)
images=(ingest preprocess infer recovery drift-monitor sightline camera)

has() { "$DOCKER" image inspect "$1" >/dev/null 2>&1; }

# stale IMAGE reports whether an image is absent, or older than what it is made of.
stale() {
  local tagged
  tagged=$("$DOCKER" image inspect -f '{{.Metadata.LastTagTime.Format "2006-01-02T15:04:05Z07:00"}}' "$1" 2>/dev/null) || return 0
  [[ -n $(find pkg services streams deploy/docker go.work go.work.sum -newermt "$tagged" -type f \
    ! -name '*_test.go' ! -path '*/testdata/*' -print -quit) ]]
}

make_images() {
  local image absent=() old=()
  for image in "${images[@]}"; do
    if stale "sightline/$image:${SIGHTLINE_IMAGE_TAG:-dev}"; then old+=("$image"); fi
  done
  if ((${#old[@]})); then
    for image in "${bases[@]}"; do has "$image" || absent+=("$image"); done
  else
    has nats:2.15-alpine || absent+=(nats:2.15-alpine)
  fi
  for image in "${absent[@]}"; do
    timeout 300 "$DOCKER" pull --quiet "$image" || scripts/images-offline.sh "$image"
  done
  if ((${#old[@]})); then
    echo "images: ${old[*]}: absent, or older than their sources"
    scripts/images.sh "${old[@]}"
  else
    scripts/secrets.sh
  fi
}

# sweep removes what a run that died has left: the test program itself does it first and last.
sweep() {
  local filter
  for filter in label=dev.sightline.e2e label=com.docker.compose.project=sightline-e2e; do
    "$DOCKER" ps --all --quiet --filter "$filter" | xargs --no-run-if-empty "$DOCKER" rm --force --volumes >/dev/null
    "$DOCKER" network ls --quiet --filter "$filter" | xargs --no-run-if-empty "$DOCKER" network rm >/dev/null
    "$DOCKER" volume ls --quiet --filter "$filter" | xargs --no-run-if-empty "$DOCKER" volume rm >/dev/null
  done
}

# check_dockerfile lints every image, and the variant of infer for CUDA, whose base image need not be had for that. With a tag,
# as bake gives, an old engine would tag the result of the check.
check_dockerfile() {
  local image base
  base=$(awk '/^FROM nvidia\/cuda:/ { print $2 }' deploy/docker/Dockerfile)
  for image in "${images[@]}"; do check_target "$image" || return 1; done
  check_target infer --build-arg INFER=cuda --build-context "$base=docker-image://debian:bookworm-slim"
}

check_target() {
  local target=$1
  shift
  quietly "$DOCKER" buildx build --call=check -f deploy/docker/Dockerfile --target "$target" "$@" .
}

make_images
step "deploy/docker/Dockerfile"
check_dockerfile || die "the Dockerfile does not pass its check"
ok "no warnings, CUDA variant too"
step "bin/e2e"
CGO_ENABLED=0 quietly go test -c -tags e2e -o bin/e2e/e2e.test ./e2e || die "the tests do not build"
ok "built"
find bin/e2e -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} + # logs of the last run
trap sweep EXIT
cd e2e # where go test runs it
../bin/e2e/e2e.test -test.timeout 20m "$@"
