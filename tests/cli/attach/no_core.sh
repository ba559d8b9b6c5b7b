# What is no core file is refused in one line.
echo hello >text
: >empty
head -c 4096 "$TELLTALE" >cut
mkdir folder
for file in none text empty cut folder "$TELLTALE"; do
    "$TELLTALE" core -q -o s.tt "$file"
    echo "$?"
done
test ! -e s.tt && echo "no session"
