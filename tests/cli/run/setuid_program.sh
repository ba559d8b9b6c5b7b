# The loader drops LD_PRELOAD for a program that changes its user: said in one line.
[ "$(id -u)" -eq 0 ] || { echo "needs root to make a program of another user"; exit 77; }
cp /bin/echo other
chown nobody other
chmod u+s,a+rx other
"$TELLTALE" run -q -o s.tt -- ./other worked
echo $?
