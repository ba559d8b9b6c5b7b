# Every page but the first is noise.
. "$SUITE/read.inc"
size=$(wc -c <"$SHARED/good.tt")
head -c 4096 "$SHARED/good.tt" >s.tt
tr '\0' '\377' </dev/zero | head -c $((size - 4096)) >>s.tt
read_all s.tt
