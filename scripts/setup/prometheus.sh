# shellcheck shell=bash
# promtool and Prometheus, from Debian's package prometheus. The package is not installed, only unpacked into the cache: to
# install it would start a server on this machine.

setup_prometheus() {
  step "promtool"
  if [[ -x $tools/promtool && -x $tools/prometheus ]]; then
    ok "ready"
    return
  fi
  if ! command -v dpkg-deb >/dev/null; then
    if [[ ${SIGHTLINE_SKIP_PACKAGES-} == 1 ]] && command -v promtool prometheus >/dev/null; then
      mkdir -p "$tools"
      ln -sf "$(command -v promtool)" "$(command -v prometheus)" "$tools/"
      ok "ready, as SIGHTLINE_SKIP_PACKAGES says"
      return
    fi
    die "this is neither Debian nor Ubuntu" "install Prometheus 2.42 or newer with promtool, then set SIGHTLINE_SKIP_PACKAGES=1"
  fi
  local work
  mkdir -p "$tools"
  work=$(mktemp -d "$tools/work.XXXXXX")
  # As with packages: the lists may be absent or older than the mirror.
  if ! fetch_prometheus "$work" && { ! quietly as_root apt-get update -q || ! fetch_prometheus "$work"; }; then
    rm -rf "$work"
    die "cannot download Debian's package prometheus" "by hand: apt-get update && apt-get download prometheus"
  fi
  mv -f "$work/usr/bin/promtool" "$work/usr/bin/prometheus" "$tools/"
  rm -rf "$work"
  ok "unpacked"
}

fetch_prometheus() {
  (cd "$1" && quietly apt-get download -q prometheus && quietly dpkg-deb -x prometheus_*.deb .)
}
