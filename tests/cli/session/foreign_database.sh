# A database of another program.
. "$SUITE/read.inc"
command -v sqlite3 >/dev/null || { echo "needs sqlite3"; exit 77; }
sqlite3 s.tt 'create table meta (key, value); insert into meta values (1, 2)'
read_all s.tt
