#!/usr/bin/env bash
# Makes the pictures of the README from the release build, in a real window on a virtual screen.
# Needs Xvfb, xdotool and ImageMagick. Nothing else depends on it.
#
#   cargo build --release && assets/screenshots/make.sh
here=$(cd "$(dirname "$0")" && pwd)
out=$(mktemp -d)
source "$here/../../tests/virtual_screen.sh"

# Few colours keep the files small.
keep() {
  picture "$1"
  convert "$out/$1.png" +dither -colors 240 -strip -define png:compression-level=9 "PNG8:$here/$1.png"
}
# The hint of a panel in the middle has said what it says.
dismiss_hint() { rest 1; click 900 101; xdotool mousemove 690 775; rest 2; }

open_window 1280 800
rest 10
click 387 101
click 1233 101
dismiss_hint

# All layers at three bits, then the first and the last back at eight: four plans in the history.
key ctrl+a
key 3
rest 6
for end in Home End; do
  key "$end"
  key 8
  rest 5
done
xdotool mousemove 690 775
rest 2
keep overview

key ctrl+5
dismiss_hint
keep graph

scroll 1110 600 60
press 1258 532 1190 532
keep inspector
let_go
rest 3
key ctrl+z

key ctrl+6
dismiss_hint
click 565 123
xdotool mousemove 690 775
rest 2
keep samples

# The accuracy of a plan settles while its samples are measured.
key ctrl+2
xdotool mousemove 690 600 click --repeat 30 --delay 40 4
key ctrl+a
frame=10
for bits in 8 4 3; do
  key "$bits"
  for _ in 1 2 3 4 5 6; do
    picture "frame-$frame"
    frame=$((frame + 1))
    sleep 0.3
  done
done
convert -delay 45 -loop 0 "$out"/frame-*.png -resize 960x600 -quality 55 -define webp:method=6 "$here/live.webp"
ls -l "$here"
