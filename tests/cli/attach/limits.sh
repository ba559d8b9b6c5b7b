# A limit of the process that leaves no room is named, with its remedy; the process goes on, and is attached to once it may.
command -v prlimit >/dev/null || { echo "needs prlimit"; exit 77; }
mkfifo never
sh -c 'echo ready; read line' <>never >truth & # loaded, and opens nothing any more
target=$!
until grep -qs ready truth; do sleep 0.02; done
tried() {
    prlimit --pid $target --$1=$2:
    "$TELLTALE" attach -q -p $target -d 1 -o s.tt
    echo "$1 $?"
    prlimit --pid $target --$1=$3:
}
tried nofile 0 256
tried fsize 0 unlimited
tried as 4096 unlimited
test ! -e s.tt && echo "no session"
"$TELLTALE" attach -q -p $target -d 0.1 -o s.tt
echo "then $?"
kill -0 $target && echo "alive"
kill $target
