# A copy that was cut off.
. "$SUITE/read.inc"
head -c 9000 "$SHARED/good.tt" >s.tt
read_all s.tt
