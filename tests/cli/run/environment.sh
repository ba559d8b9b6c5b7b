# Variables reach the command; ours come in addition, and a library that was preloaded stays so.
FLAVOUR='two words' "$TELLTALE" run -q -o s.tt -- sh -c 'echo "$FLAVOUR"'
LD_PRELOAD=libm.so.6 "$TELLTALE" run -q -o s.tt -- sh -c 'grep -c /libm.so /proc/$$/maps >/dev/null && echo kept'
env | grep -v '^_=' | sort >bare
"$TELLTALE" run -q -o s.tt -- env | grep -Ev '^(_|LD_PRELOAD|TELLTALE_[A-Z]*)=' | sort | diff bare - && echo same
