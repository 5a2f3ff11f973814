# shellcheck shell=bash
# The demo's footage: Debian's opencv-doc carries a street scene (768x576, 10 fps, 80 s). The package is 96 MB of
# documentation, so we take the one file out of it and install nothing. It is encoded once, as an H.264 camera would.

setup_footage() {
  step "footage"
  local dir="$sightline_cache/footage"
  if [[ $SIGHTLINE_FOOTAGE != "$dir/vtest.ts" ]]; then
    [[ -r $SIGHTLINE_FOOTAGE ]] || die "SIGHTLINE_FOOTAGE names a file that cannot be read: $SIGHTLINE_FOOTAGE"
    ok "ready: $SIGHTLINE_FOOTAGE (SIGHTLINE_FOOTAGE)"
    return
  fi
  if [[ -s $dir/vtest.ts && -s $dir/vtest.avi ]]; then
    ok "ready: $dir/vtest.ts"
    return
  fi
  mkdir -p "$dir"
  [[ -s $dir/vtest.avi ]] || extract_footage "$dir"
  # No B-frames and a key frame every 2 s: a reader then waits for no later picture, and not long for its first.
  if ! quietly ffmpeg -nostdin -y -loglevel error -i "$dir/vtest.avi" -an -c:v libx264 -threads 1 -preset veryfast \
    -profile:v main -pix_fmt yuv420p -bf 0 -g 20 -r 10 -b:v 2M -maxrate 2M -bufsize 2M -f mpegts "$dir/vtest.ts.part"; then
    die "ffmpeg cannot encode $dir/vtest.avi" "or set SIGHTLINE_FOOTAGE to an H.264 MPEG-TS file of your own"
  fi
  mv -f "$dir/vtest.ts.part" "$dir/vtest.ts"
  ok "made: $dir/vtest.ts"
}

# extract_footage DIR leaves vtest.avi in DIR.
extract_footage() {
  local dir=$1 work hint="or set SIGHTLINE_FOOTAGE to an H.264 MPEG-TS file of your own"
  command -v apt-get >/dev/null || die "no apt-get here to download Debian's opencv-doc with" "$hint"
  work=$(mktemp -d "$dir/work.XXXXXX")
  if ! (cd "$work" && quietly download_doc); then
    if ! quietly as_root apt-get update -q || ! (cd "$work" && quietly download_doc); then
      rm -rf "$work"
      die "cannot download package opencv-doc" "by hand: apt-get update && apt-get download opencv-doc" "$hint"
    fi
  fi
  local member=./usr/share/doc/opencv-doc/examples/data/vtest.avi
  if ! dpkg-deb --fsys-tarfile "$work"/opencv-doc_*.deb | tar -x -C "$work" "$member" || [[ ! -s $work/$member ]]; then
    rm -rf "$work"
    die "package opencv-doc does not hold $member" "$hint"
  fi
  mv -f "$work/$member" "$dir/vtest.avi"
  rm -rf "$work"
}

# As root, apt would warn that its unprivileged user cannot write to our cache.
download_doc() {
  if ((EUID == 0)); then apt-get download -q -o APT::Sandbox::User=root opencv-doc; else apt-get download -q opencv-doc; fi
}
