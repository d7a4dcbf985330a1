# Drives the release build in a real window on a virtual screen, by mouse and keyboard.
#
# To be sourced. Set `out` to the folder of the pictures; then: open_window 1280 800, the steps, close_window.
# Points are those of a window of 1280 × 800 in its first layout.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=${CARGO_TARGET_DIR:-$top/target}/release/quantscope
app= screen=

fail() { echo "$(basename "$0"): $*" >&2; tail -20 "$out/program.log" >&2; exit 1; }
alive() { kill -0 "$app" 2>/dev/null || fail "the program ended early"; }

open_window() {
  local width=$1 height=$2 number=80 window=
  mkdir -p "$out"
  while [ -e "/tmp/.X11-unix/X$number" ] || [ -e "/tmp/.X$number-lock" ]; do number=$((number + 1)); done
  Xvfb ":$number" -screen 0 "${width}x${height}x24" >/dev/null 2>&1 &
  screen=$!
  export DISPLAY=":$number" WAYLAND_DISPLAY= XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$(mktemp -d)}"
  # Nothing may depend on what an earlier run remembered.
  XDG_DATA_HOME=$(mktemp -d)
  export XDG_DATA_HOME
  for _ in $(seq 60); do [ -e "/tmp/.X11-unix/X$number" ] && break; sleep 0.5; done
  (cd "$top" && exec "$program") >"$out/program.log" 2>&1 &
  app=$!
  trap 'kill $app $screen 2>/dev/null || true' EXIT
  for _ in $(seq 60); do
    alive
    window=$(xdotool search --onlyvisible --name Quantscope 2>/dev/null | tail -1 || true)
    [ -n "$window" ] && break
    sleep 0.5
  done
  [ -n "$window" ] || fail "no window appeared"
  xdotool windowmove "$window" 0 0 windowsize "$window" "$width" "$height" windowfocus "$window" 2>/dev/null || true
}

key() { alive; xdotool key "$@"; sleep 0.4; }
write() { alive; xdotool type --delay 15 "$*"; sleep 0.4; }
click() { alive; xdotool mousemove "$1" "$2"; sleep 0.2; xdotool click 1; sleep 0.5; }
scroll() { alive; xdotool mousemove "$1" "$2"; xdotool click --repeat "$3" --delay 40 5; sleep 0.8; }
rest() { sleep "$1"; alive; }

# press FROM_X FROM_Y TO_X TO_Y: the button stays down until let_go.
press() {
  alive
  xdotool mousemove "$1" "$2"; sleep 0.2; xdotool mousedown 1; sleep 0.1
  for step in 1 2 3 4 5 6; do
    xdotool mousemove $(($1 + ($3 - $1) * step / 6)) $(($2 + ($4 - $2) * step / 6)); sleep 0.08
  done
}
let_go() { xdotool mouseup 1; sleep 0.5; }

picture() {
  alive
  import -window root "$out/$1.png"
  local colours
  colours=$(identify -format '%k' "$out/$1.png")
  [ "$colours" -gt 50 ] || fail "picture $1 is blank ($colours colours)"
}

# The pictures differ, so what was done between them did something.
differ() { if cmp -s "$out/$1.png" "$out/$2.png"; then fail "$3"; fi; }

close_window() {
  for _ in $(seq 20); do kill -0 "$app" 2>/dev/null || return 0; sleep 0.5; done
  fail "the window did not close"
}
