# Not a database at all.
. "$SUITE/read.inc"
seq 1 10000 >s.tt
read_all s.tt
