# No such file.
. "$SUITE/read.inc"
read_all s.tt
