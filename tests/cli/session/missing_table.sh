# A session from which somebody took a table.
. "$SUITE/read.inc"
command -v sqlite3 >/dev/null || { echo "needs sqlite3"; exit 77; }
cp "$SHARED/good.tt" s.tt
sqlite3 s.tt 'drop table site_sample; drop table survivor'
read_all s.tt
