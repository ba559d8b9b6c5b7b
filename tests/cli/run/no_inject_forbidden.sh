# Without the privilege: one line with the remedy, and the command runs; what /proc tells is recorded.
[ "$(id -u)" -eq 0 ] || { echo "needs root, to give it up"; exit 77; }
command -v setpriv >/dev/null || { echo "needs setpriv"; exit 77; }
"$TELLTALE" run --no-inject -q -o try.tt -- true 2>why || { cat why; exit 77; }
[ -s why ] && { head -n 1 why; exit 77; }
setpriv --bounding-set=-all --inh-caps=-all "$TELLTALE" run --no-inject -q -o s.tt -- sh -c 'echo ran; exit 5' 2>said
echo $?
grep -c 'eBPF needs CAP_BPF and CAP_PERFMON: run as root' said
grep -c ulimit said
sqlite3 s.tt "SELECT state, count(*) > 0 FROM process, proc_sample GROUP BY 1"
