echo 'echo started' >plain
mkdir dir
"$TELLTALE" run -q -o s.tt -- ./plain; echo $?
"$TELLTALE" run -q -o s.tt -- ./dir; echo $?
printf 'not a program' >garbage
chmod +x garbage
"$TELLTALE" run -q -o s.tt -- ./garbage; echo $?
printf '#!/no/such/interpreter\n' >script
chmod +x script
"$TELLTALE" run -q -o s.tt -- ./script; echo $?
