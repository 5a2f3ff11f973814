# shellcheck shell=bash
# The ONNX Runtime library (CPU), from a Go module that carries it: no other source than the Go module proxy is needed.

ort_module=github.com/k2-fsa/sherpa-onnx-go-linux@v1.13.8
ort_sum=h1:33xcR9pYuD/VZ2luCWP1PJ4uLLeYM0i5GWGgM1lZjP8= # of the module; go checks the files against it

setup_onnxruntime() {
  step "ONNX Runtime 1.28.2"
  local ours="$sightline_cache/onnxruntime/1.28.2/libonnxruntime.so"
  if [[ $SIGHTLINE_ORT_LIBRARY != "$ours" ]]; then
    [[ -r $SIGHTLINE_ORT_LIBRARY ]] || die "SIGHTLINE_ORT_LIBRARY names a file that cannot be read: $SIGHTLINE_ORT_LIBRARY"
    ok "ready: $SIGHTLINE_ORT_LIBRARY (SIGHTLINE_ORT_LIBRARY)"
    return
  fi
  if [[ -s $ours ]]; then
    ok "ready: $ours"
    return
  fi

  local arch answer sum dir
  case $(uname -s)-$(uname -m) in
  Linux-x86_64) arch=x86_64-unknown-linux-gnu ;;
  Linux-aarch64) arch=aarch64-unknown-linux-gnu ;;
  *) die "no library at hand for $(uname -s) on $(uname -m)" \
    "fetch ONNX Runtime 1.24 or newer for it and set SIGHTLINE_ORT_LIBRARY to the library's path" ;;
  esac
  # Outside the workspace, or go would take the module for one of ours.
  if ! answer=$(cd / && GOFLAGS='' GOWORK=off go mod download -json "$ort_module" 2>&1); then
    printf '\n%s\n' "$answer" >&2
    die "cannot download Go module $ort_module" "by hand: GOWORK=off go mod download $ort_module" \
      "or set SIGHTLINE_ORT_LIBRARY to an ONNX Runtime library, 1.24 or newer"
  fi
  sum=$(sed -n 's/^\t"Sum": "\(.*\)",$/\1/p' <<<"$answer")
  dir=$(sed -n 's/^\t"Dir": "\(.*\)",$/\1/p' <<<"$answer")
  [[ $sum == "$ort_sum" ]] || die "checksum of $ort_module is $sum, expected $ort_sum"
  place "$dir/lib/$arch/libonnxruntime.so" "$ours"
  place "$dir/LICENSE" "${ours%/*}/LICENSE.sherpa-onnx"
  ok "installed: $ours"
}

# place FROM TO copies a file so that TO is there whole or not at all.
place() {
  mkdir -p "${2%/*}"
  cp "$1" "$2.part" && chmod 0644 "$2.part" && mv -f "$2.part" "$2"
}
