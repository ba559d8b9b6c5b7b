pid=$("$TELLTALE" run -q -o 'a-%p-%h%%.tt' -- sh -c 'echo $$')
test -s "a-$pid-$(hostname)%.tt" && echo "named by pid and host"
mkdir default
cd default
pid=$("$TELLTALE" run -q -- sh -c 'echo $$')
test -s "telltale-$pid.tt" && echo "default name"
"$TELLTALE" run -q -o 'a-%q.tt' -- echo started; echo $?
