#!/usr/bin/env bash
# Builds the images of Sightline, makes the secrets that the compose file mounts, and prints what the images take.
# Usage: scripts/images.sh [IMAGE|bake's options...]; SIGHTLINE_IMAGE_TAG is their tag (dev), INFER=cuda the variant of infer.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/setup/containers.sh
. scripts/setup/containers.sh

find_docker || die "no container engine answers" "scripts/setup.sh containers"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go_settings >"$work/go-env"
REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)
VERSION=$(git describe --tags --always --dirty 2>/dev/null || echo dev)
CREATED=$(TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ 2>/dev/null || echo 1970-01-01T00:00:00Z)
export REVISION VERSION CREATED GO_ENV="$work/go-env" SOURCE_DATE_EPOCH=0 # files are of 1970, see gather.sh

# A cold build takes minutes: show where it is.
"$DOCKER" buildx bake --allow="fs.read=$work" --provenance=false --sbom=false -f deploy/docker/bake.hcl "$@"
scripts/secrets.sh

printf '\n%-12s %8s  %s\n' image size tag
for image in ingest preprocess infer recovery drift-monitor sightline camera; do
  "$DOCKER" image inspect -f '{{index .RepoTags 0}} {{.Size}}' "sightline/$image:${SIGHTLINE_IMAGE_TAG:-dev}" 2>/dev/null |
    awk -v name="$image" '{ printf "%-12s %5.1f MB  %s\n", name, $2 / 1e6, $1 }' || true
done
