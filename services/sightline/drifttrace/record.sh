#!/usr/bin/env bash
# Makes observation traces of the demo's footage, disturbed in the ways that cameras are, with the real decoder, figures
# and model. Clips are kept in CLIPS (large), traces are written to TRACES.
#   services/sightline/drifttrace/record.sh CLIPS TRACES [name...]
#   services/sightline/drifttrace/record.sh golden TRACES
# The second form puts what the tests need into services/drift-monitor/detect/testdata, a minute of each: 300 kB are enough.
# RECORD holds further flags of drifttrace, such as another model.
set -euo pipefail
if [[ ${1-} == golden ]]; then
  to=$(dirname "${BASH_SOURCE[0]}")/../../drift-monitor/detect/testdata
  cp "$2/steady.jsonl.gz" "$to/"
  for name in dark over low-contrast fog blur noise jpeg grey rotated shifted empty crowd; do
    gzip -dc "$2/$name.jsonl.gz" | sed -n 1,301p | gzip -9n >"$to/$name.jsonl.gz"
  done
  exit
fi
clips=$1 traces=$2
shift 2
mkdir -p "$clips" "$traces"
source=${SIGHTLINE_FOOTAGE%/*}/vtest.avi
recorder=${DRIFTTRACE:-bin/drifttrace}

# encode NAME FFMPEG-INPUT-AND-FILTERS...: as an H.264 camera would.
encode() {
  local name=$1
  shift
  [[ -s $clips/$name.ts ]] && return
  ffmpeg -nostdin -y -loglevel error "$@" -an -c:v libx264 -threads 1 -preset veryfast -profile:v main -pix_fmt yuv420p \
    -bf 0 -g 20 -r 10 -b:v 2M -maxrate 2M -bufsize 2M -f mpegts "$clips/$name.ts.part"
  mv "$clips/$name.ts.part" "$clips/$name.ts"
}
filter() { encode "$1" -i "$source" -vf "$2"; }

background() { # a median of pictures all over the clip: nobody is in it
  [[ -s $clips/background.png ]] || ffmpeg -nostdin -y -loglevel error -i "$source" \
    -vf "select='not(mod(n,6))',tmedian=radius=63" -fps_mode passthrough -frames:v 1 "$clips/background.png"
}

make_clip() {
  case $1 in
    steady | steady-odd) encode "$1" -i "$source" ;;
    steady-shifted) encode "$1" -ss 37 -i "$source" -t 42 -c:v rawvideo ;;
    dark) filter dark "lutrgb=r=val*0.3:g=val*0.3:b=val*0.3" ;;
    dim) filter dim "lutrgb=r=val*0.7:g=val*0.7:b=val*0.7" ;;
    night) filter night "lutrgb=r=val*0.12:g=val*0.12:b=val*0.12" ;;
    over) filter over "lutrgb=r=min(val*2\,255):g=min(val*2\,255):b=min(val*2\,255)" ;;
    over-strong) filter over-strong "lutrgb=r=min(val*3.2\,255):g=min(val*3.2\,255):b=min(val*3.2\,255)" ;;
    low-contrast) filter low-contrast "lutrgb=r=128+(val-128)*0.3:g=128+(val-128)*0.3:b=128+(val-128)*0.3" ;;
    low-contrast-mild) filter low-contrast-mild "lutrgb=r=128+(val-128)*0.6:g=128+(val-128)*0.6:b=128+(val-128)*0.6" ;;
    fog) filter fog "lutrgb=r=val*0.3+215*0.7:g=val*0.3+215*0.7:b=val*0.3+215*0.7" ;;
    blur) filter blur "gblur=sigma=6" ;;
    blur-mild) filter blur-mild "gblur=sigma=3" ;;
    noise) filter noise "noise=alls=70:allf=t" ;;
    noise-mild) filter noise-mild "noise=alls=25:allf=t" ;;
    grey) filter grey "hue=s=0" ;;
    hue) filter hue "hue=h=90" ;;
    swapped) filter swapped "colorchannelmixer=rr=0:rb=1:br=1:bb=0" ;;
    rotated) filter rotated "hflip,vflip" ;;
    flipped) filter flipped "hflip" ;;
    shifted) filter shifted "crop=iw-160:ih-120:160:60,scale=768:576" ;;
    jpeg)
      [[ -s $clips/jpeg.avi ]] || ffmpeg -nostdin -y -loglevel error -i "$source" -vf scale=320:240 -c:v mjpeg -q:v 31 -qmin 31 -qmax 31 -bitexact "$clips/jpeg.avi"
      encode jpeg -i "$clips/jpeg.avi" -vf scale=768:576:flags=neighbor
      ;;
    jpeg-full)
      [[ -s $clips/jpeg-full.avi ]] || ffmpeg -nostdin -y -loglevel error -i "$source" -c:v mjpeg -q:v 31 -qmin 31 -qmax 31 "$clips/jpeg-full.avi"
      encode jpeg-full -i "$clips/jpeg-full.avi"
      ;;
    empty)
      background
      encode empty -loop 1 -framerate 10 -i "$clips/background.png" -t 79.5 -vf "noise=alls=4:allf=t"
      ;;
    crowd) # the clip over itself at four times: most people are darker than the ground
      encode crowd -stream_loop 2 -i "$source" -ss 20 -stream_loop 2 -i "$source" -ss 40 -stream_loop 2 -i "$source" -ss 60 -stream_loop 2 -i "$source" \
        -filter_complex "[0][1]blend=all_mode=darken[a];[2][3]blend=all_mode=darken[b];[a][b]blend=all_mode=darken" -t 79.5
      ;;
    # What follows was recorded after rules were settled, to see whether they hold: held-* led to mends, final-* did not.
    held-dark-20) filter "$1" "lutrgb=r=val*0.2:g=val*0.2:b=val*0.2" ;;
    held-dark-45) filter "$1" "lutrgb=r=val*0.45:g=val*0.45:b=val*0.45" ;;
    held-over-26) filter "$1" "lutrgb=r=min(val*2.6\,255):g=min(val*2.6\,255):b=min(val*2.6\,255)" ;;
    held-contrast-20) filter "$1" "lutrgb=r=128+(val-128)*0.2:g=128+(val-128)*0.2:b=128+(val-128)*0.2" ;;
    held-contrast-45) filter "$1" "lutrgb=r=128+(val-128)*0.45:g=128+(val-128)*0.45:b=128+(val-128)*0.45" ;;
    held-fog-50) filter "$1" "lutrgb=r=val*0.5+215*0.5:g=val*0.5+215*0.5:b=val*0.5+215*0.5" ;;
    held-blur-9) filter "$1" "gblur=sigma=9" ;;
    held-blur-14) filter "$1" "gblur=sigma=14" ;;
    held-noise-100) filter "$1" "noise=alls=100:allf=t" ;;
    held-jpeg-160)
      [[ -s $clips/$1.avi ]] || ffmpeg -nostdin -y -loglevel error -i "$source" -vf scale=160:120 -c:v mjpeg -q:v 31 -qmin 31 -qmax 31 "$clips/$1.avi"
      encode "$1" -i "$clips/$1.avi" -vf scale=768:576:flags=neighbor
      ;;
    held-shift-left) filter "$1" "crop=iw-240:ih-180:0:120,scale=768:576" ;;
    held-rotated-dim) filter "$1" "hflip,vflip,lutrgb=r=val*0.7:g=val*0.7:b=val*0.7" ;;
    held-green) filter "$1" "colorbalance=gm=0.6:gs=0.4" ;;
    held-crowd-2)
      encode "$1" -stream_loop 2 -i "$source" -ss 33 -stream_loop 2 -i "$source" -filter_complex "[0][1]blend=all_mode=darken" -t 79.5
      ;;
    final-dark-25) filter "$1" "lutrgb=r=val*0.25:g=val*0.25:b=val*0.25" ;;
    final-dark-noisy) filter "$1" "lutrgb=r=val*0.35:g=val*0.35:b=val*0.35,noise=alls=30:allf=t" ;;
    final-contrast-27) filter "$1" "lutrgb=r=128+(val-128)*0.27:g=128+(val-128)*0.27:b=128+(val-128)*0.27" ;;
    final-contrast-70) filter "$1" "lutrgb=r=128+(val-128)*0.7:g=128+(val-128)*0.7:b=128+(val-128)*0.7" ;;
    final-blur-4) filter "$1" "gblur=sigma=4" ;;
    final-blur-12) filter "$1" "gblur=sigma=12" ;;
    final-fog-60) filter "$1" "lutrgb=r=val*0.4+215*0.6:g=val*0.4+215*0.6:b=val*0.4+215*0.6" ;;
    final-over-16) filter "$1" "lutrgb=r=min(val*1.6\,255):g=min(val*1.6\,255):b=min(val*1.6\,255)" ;;
    final-over-40) filter "$1" "lutrgb=r=min(val*4\,255):g=min(val*4\,255):b=min(val*4\,255)" ;;
    final-noise-45) filter "$1" "noise=alls=45:allf=t" ;;
    final-jpeg-120)
      [[ -s $clips/$1.avi ]] || ffmpeg -nostdin -y -loglevel error -i "$source" -vf scale=120:90 -c:v mjpeg -q:v 31 -qmin 31 -qmax 31 "$clips/$1.avi"
      encode "$1" -i "$clips/$1.avi" -vf scale=768:576:flags=neighbor
      ;;
    final-red) filter "$1" "colorbalance=rm=0.5:rs=0.3" ;;
    final-vflip) filter "$1" "vflip" ;;
    final-rotated-contrast) filter "$1" "hflip,vflip,lutrgb=r=128+(val-128)*0.6:g=128+(val-128)*0.6:b=128+(val-128)*0.6" ;;
    final-shift-down) filter "$1" "crop=iw-120:ih-90:60:0,scale=768:576" ;;
    final-empty-dim)
      background
      encode "$1" -loop 1 -framerate 10 -i "$clips/background.png" -t 79.5 -vf "lutrgb=r=val*0.9:g=val*0.9:b=val*0.9,noise=alls=4:allf=t"
      ;;
    final-crowd-3)
      encode "$1" -stream_loop 2 -i "$source" -ss 13 -stream_loop 2 -i "$source" -ss 51 -stream_loop 2 -i "$source" \
        -filter_complex "[0][1]blend=all_mode=darken[a];[a][2]blend=all_mode=darken" -t 79.5
      ;;
    *)
      echo "record.sh: no clip $1" >&2
      return 1
      ;;
  esac
}

all=(steady steady-odd dark dim night over over-strong low-contrast low-contrast-mild fog blur blur-mild noise noise-mild
  jpeg jpeg-full grey hue swapped rotated flipped shifted empty crowd)
(($# > 0)) || set -- "${all[@]}"
for name; do
  make_clip "$name"
  phase=0
  [[ $name == steady-odd ]] && phase=1
  # shellcheck disable=SC2086 # RECORD is further flags
  "$recorder" ${RECORD:-} -phase "$phase" "$clips/$name.ts" | gzip -9n >"$traces/$name.jsonl.gz"
  echo "$name: $(stat -c %s "$traces/$name.jsonl.gz") bytes"
done
