# Colour on a terminal only, and not there either with NO_COLOR (no-color.org) or --color never.
command -v script >/dev/null || { echo "needs script"; exit 77; }
escapes() { grep -c "$(printf '\033')" >count; test "$(cat count)" -gt 0 && echo "$1: coloured" || echo "$1: plain"; }
"$TELLTALE" report --horizon 1 "$SHARED/leak.tt" | escapes pipe
"$TELLTALE" report --horizon 1 --color always "$SHARED/leak.tt" | escapes always
terminal() { TERM=xterm script -qec "$1" /dev/null </dev/null; }
terminal "'$TELLTALE' report --horizon 1 '$SHARED/leak.tt'" | escapes terminal
terminal "'$TELLTALE' report --horizon 1 --color never '$SHARED/leak.tt'" | escapes never
NO_COLOR=1 terminal "'$TELLTALE' report --horizon 1 '$SHARED/leak.tt'" | escapes NO_COLOR
