#!/usr/bin/env bash
# Opens the release build in a real window on a virtual screen, drives it by keyboard, and takes
# pictures. Fails if no window appears, the program ends early, or the picture is blank.
#
#   tests/window_journey.sh FOLDER
set -euo pipefail
out=${1:?folder for the pictures}
program=${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/release/quantscope
mkdir -p "$out"

number=80
while [ -e "/tmp/.X11-unix/X$number" ] || [ -e "/tmp/.X$number-lock" ]; do number=$((number + 1)); done
Xvfb ":$number" -screen 0 1280x800x24 >/dev/null 2>&1 &
screen=$!
export DISPLAY=":$number" WAYLAND_DISPLAY= XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$(mktemp -d)}"
# The journey must not depend on what an earlier run remembered.
XDG_DATA_HOME=$(mktemp -d)
export XDG_DATA_HOME
for _ in $(seq 60); do [ -e "/tmp/.X11-unix/X$number" ] && break; sleep 0.5; done
"$program" >"$out/program.log" 2>&1 &
app=$!
trap 'kill $app $screen 2>/dev/null || true' EXIT

fail() { echo "window journey: $*" >&2; tail -20 "$out/program.log" >&2; exit 1; }
alive() { kill -0 $app 2>/dev/null || fail "the program ended early"; }
picture() {
  alive
  import -window root "$out/$1.png"
  local colours
  colours=$(identify -format '%k' "$out/$1.png")
  [ "$colours" -gt 50 ] || fail "picture $1 is blank ($colours colours)"
}

window=
for _ in $(seq 60); do
  alive
  window=$(xdotool search --onlyvisible --name Quantscope 2>/dev/null | tail -1 || true)
  [ -n "$window" ] && break
  sleep 0.5
done
[ -n "$window" ] || fail "no window appeared"
xdotool windowmove "$window" 0 0 windowsize "$window" 1280 800 windowfocus "$window" 2>/dev/null || true
sleep 12
picture opened
xdotool key ctrl+a
sleep 0.5
xdotool key 4
sleep 8
picture four-bits
cmp -s "$out/opened.png" "$out/four-bits.png" && fail "four bits changed nothing on screen"
xdotool key ctrl+z
sleep 4
picture undone
xdotool key ctrl+q
for _ in $(seq 20); do kill -0 $app 2>/dev/null || break; sleep 0.5; done
echo "window journey: pictures in $out"
