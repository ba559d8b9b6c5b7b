# An empty file, as a recorder leaves that had no time.
. "$SUITE/read.inc"
: >s.tt
read_all s.tt
