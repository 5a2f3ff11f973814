# shellcheck shell=sh
# The environment that builds, tests and the demo share. Source it, from the repository root or anywhere else:
#
#     . ./scripts/env.sh && go test ./pkg/...
#
# It changes nothing but these three variables, and keeps what you have set yourself.
#
#   GOFLAGS                gocv's build tag, which Debian's OpenCV 4.6 needs, and no VCS stamp
#   SIGHTLINE_ORT_LIBRARY  the ONNX Runtime library that infer opens
#   SIGHTLINE_FOOTAGE      the H.264 MPEG-TS file that the demo's cameras play

: "${HOME:?set HOME, or XDG_CACHE_HOME and HOME}"
sightline_cache="${XDG_CACHE_HOME:-$HOME/.cache}/sightline"

# GOFLAGS is kept as one list: the environment hides what `go env -w` has stored.
sightline_flags="${GOFLAGS-$(go env GOFLAGS 2>/dev/null || true)}"
case " $sightline_flags " in
*gocv_specific_modules*) ;;
*" -tags="*) sightline_flags=$(printf '%s' "$sightline_flags" | sed 's/-tags=/-tags=gocv_specific_modules,/') ;;
*) sightline_flags="$sightline_flags -tags=gocv_specific_modules" ;;
esac
case " $sightline_flags " in
*" -buildvcs="*) ;;
*) sightline_flags="$sightline_flags -buildvcs=false" ;;
esac
export GOFLAGS="${sightline_flags# }"
unset sightline_flags

export SIGHTLINE_ORT_LIBRARY="${SIGHTLINE_ORT_LIBRARY:-$sightline_cache/onnxruntime/1.28.2/libonnxruntime.so}"
export SIGHTLINE_FOOTAGE="${SIGHTLINE_FOOTAGE:-$sightline_cache/footage/vtest.ts}"
