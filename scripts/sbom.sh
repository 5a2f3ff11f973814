#!/usr/bin/env bash
# Lists what each image contains, as CycloneDX JSON in bin/sbom. Usage: scripts/sbom.sh [IMAGE...]
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/setup/containers.sh
. scripts/setup/containers.sh

find_docker || die "no container engine answers" "scripts/setup.sh containers"
if (($# == 0)); then set -- ingest preprocess infer recovery drift-monitor sightline camera; fi
tag=${SIGHTLINE_IMAGE_TAG:-dev}
mkdir -p bin/sbom
go build -o bin/sbom/list ./deploy/docker/sbom

printf '%-12s %8s %8s  %s\n' image packages modules file
for name in "$@"; do
  image="sightline/$name:$tag" out="bin/sbom/$name.cdx.json"
  "$DOCKER" image inspect "$image" >/dev/null 2>&1 || die "there is no image $image" "make images"
  container=$("$DOCKER" create "$image") # its files; it is never started
  if ! "$DOCKER" export "$container" | bin/sbom/list -name "sightline/$name" -version "$tag" >"$out.part"; then
    "$DOCKER" rm "$container" >/dev/null
    die "cannot list $image"
  fi
  "$DOCKER" rm "$container" >/dev/null
  mv -f "$out.part" "$out"
  printf '%-12s %8d %8d  %s\n' "$name" "$(grep -c '"purl": "pkg:deb/' "$out" || true)" "$(grep -c '"purl": "pkg:golang/' "$out" || true)" "$out"
done
