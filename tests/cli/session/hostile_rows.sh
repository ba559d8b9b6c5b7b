# Rows that no recorder writes: the readers say something or nothing, but do not crash.
. "$SUITE/read.inc"
command -v sqlite3 >/dev/null || { echo "needs sqlite3"; exit 77; }
try() {
    cp "$SHARED/good.tt" s.tt
    sqlite3 s.tt "$1" || exit 1
    for command in report check list; do
        "$TELLTALE" "$command" s.tt >out 2>err
        status=$?
        [ "$status" -le 3 ] || echo "$command: $status after: $1"
    done
}
try "update or replace stack set frames = x'0102'"
try "update or replace stack set frames = zeroblob(1000000)"
try "update or replace stack set frames = 'text'"
try "delete from stack"
try "update or replace site set stack = 999999"
try "update or replace site set stack = null"
try "update or replace site set thin = 77"
try "update or replace site set size_min = -1, size_max = 9e18"
try "update or replace site_sample set births = -births"
try "update or replace site_sample set deaths = births + 1000000"
try "update or replace site_sample set births = 9223372036854775807, birth_bytes = 9223372036854775807"
try "update or replace survivor set tick = -5"
try "update or replace survivor set count = 9223372036854775807"
try "update or replace site_death set bin = 1000"
try "update or replace epoch set at_ns = 0"
try "update or replace epoch set at_ns = -at_ns"
try "delete from epoch"
try "delete from process"
try "delete from meta"
try "update or replace meta set value = 'nonsense'"
try "update or replace process_look set tick = 0, at_ns = 0"
try "update or replace process set exe = null, build_id = null, cmdline = null"
try "update or replace module set path = '/no/such/file'"
try "update or replace module set start = 0, end = -1"
try "update or replace release_age set age = -1"
try "insert into label values ('<script>', char(27) || '[31m')"
echo done
