#!/usr/bin/env bash
# Makes the root of an image without a distribution. Usage: gather.sh ROOT BINARY...
# ROOT gets the shared libraries that the programs and what already lies in ROOT need, in their places, with their packages'
# records and copyrights, so that scanners and scripts/sbom.sh see what they are; the authorities of TLS; a user. Times are
# all the same: the same content makes the same layer.
set -euo pipefail

root=$1
shift

mkdir -p "$root"/{etc/ssl/certs,tmp,usr/local/bin,var/lib/dpkg/status.d,usr/share/doc/sightline}
chmod 1777 "$root/tmp"
printf 'root:x:0:0:root:/:/sbin/nologin\nsightline:x:65532:65532:Sightline:/:/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nsightline:x:65532:\n' >"$root/etc/group"
cp LICENSE NOTICE THIRD_PARTY_NOTICES.md "$root/usr/share/doc/sightline/"

# record PACKAGE
record() {
  dpkg-query -s "$1" >"$root/var/lib/dpkg/status.d/${1%%:*}"
  local doc=/usr/share/doc/${1%%:*}
  if [[ -r $doc/copyright ]]; then # a slim base may have left it out
    mkdir -p "$root$doc"
    cp -L "$doc/copyright" "$root$doc/"
  fi
}

# Mozilla's authorities as Debian has them; those that a build machine adds for its own network belong in no image.
sed -n 's/^mozilla\//&/p' /etc/ca-certificates.conf | while IFS= read -r name; do cat "/usr/share/ca-certificates/$name"; done \
  >"$root/etc/ssl/certs/ca-certificates.crt"
record ca-certificates

# ldd follows all levels. A program without libraries is no error.
mapfile -t programs < <(find "$root" -type f -name '*.so*'; printf '%s\n' "$@")
mapfile -t libraries < <(for program in "${programs[@]}"; do ldd "$program" 2>/dev/null || true; done |
  awk '$2 == "=>" { print $3 == "not" ? "absent:" $1 : $3 } $2 ~ /^\(/ && $1 ~ /^\// { print $1 }' | sort -u)
for library in "${libraries[@]}"; do
  if [[ $library == absent:* ]]; then
    echo "not found: ${library#absent:}" >&2
    exit 1
  fi
  mkdir -p "$root${library%/*}"
  cp -L "$library" "$root$library"
  file=$(realpath "$library")
  # A package may have the file under /lib, which is a link to /usr/lib.
  if owner=$(dpkg-query -S "$file" 2>/dev/null || dpkg-query -S "${file#/usr}" 2>/dev/null); then
    record "${owner%%: /*}"
  elif [[ -r $file.status ]]; then # built here; whoever did left the record
    cp "$file.status" "$root/var/lib/dpkg/status.d/$(sed -n 's/^Package: //p' "$file.status")"
  else
    echo "no package has $file" >&2
    exit 1
  fi
done

find "$root" -exec touch -h -d @0 {} +
