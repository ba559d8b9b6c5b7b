# A directory.
. "$SUITE/read.inc"
mkdir s.tt
read_all s.tt
