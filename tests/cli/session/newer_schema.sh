# A session of a later telltale.
. "$SUITE/read.inc"
command -v sqlite3 >/dev/null || { echo "needs sqlite3"; exit 77; }
cp "$SHARED/good.tt" s.tt
sqlite3 s.tt 'pragma user_version = 999'
read_all s.tt
