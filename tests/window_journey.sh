#!/usr/bin/env bash
# The journeys of tests/suite/journeys.rs in a real window on a virtual screen, by mouse and keyboard, with
# pictures. Fails if no window appears, the program ends early, panics or does not close, a picture is blank, or a
# step changes nothing on screen.
#
#   tests/window_journey.sh FOLDER
out=${1:?folder for the pictures}
source "$(dirname "$0")/virtual_screen.sh"

open_window 1280 800
rest 12
picture opened

# Why did accuracy collapse? All layers to three bits, a sweep, the worst two back to eight.
key ctrl+a
key 3
rest 6
picture three-bits
differ opened three-bits "three bits changed nothing on screen"
key ctrl+3
rest 1
click 610 169
rest 24
picture swept
differ three-bits swept "no sweep is seen"
click 378 197
picture sorted
click 60 221
key shift+Down
key 8
rest 6
key ctrl+2
picture raised
differ sorted raised "raising two layers changed nothing on screen"

# Every panel, and two plans compared.
for panel in 4 5 6 7 8; do
  key "ctrl+$panel"
  rest 2
  picture "panel-$panel"
done

# A clip handle.
scroll 1110 600 60
picture inspector
press 1258 532 1180 532
picture clip-held
let_go
rest 3
picture clipped
differ inspector clipped "the clip handle does not move"

# Undo to the first plan and redo.
for _ in 1 2 3; do key ctrl+z; done
rest 4
picture undone
for _ in 1 2 3; do key ctrl+y; done
rest 4
picture redone
differ undone redone "redo changed nothing on screen"

# Closing with unsaved work is asked about; the work is saved, and found again.
key ctrl+q
rest 1
picture asked
differ redone asked "unsaved work is not asked about"
project=$(mktemp -d)/journey.qscope
click 700 417
key ctrl+a
write "$project"
picture named
click 480 451
close_window
[ -s "$project" ] || fail "the project was not saved"
grep -qi panicked "$out/program.log" && fail "the program panicked"
echo "window journey: pictures in $out"
