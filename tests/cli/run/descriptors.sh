# The command sees the same descriptors, signal masks, limits, directory and umask as without us.
probe='ls /proc/self/fd | wc -l; grep -E "^Sig(Blk|Ign)|^Threads|^TracerPid" /proc/self/status; ulimit -a; pwd; umask'
sh -c "$probe" >bare 3<&0
"$TELLTALE" run -q -o s.tt -- sh -c "$probe" >under 3<&0
diff bare under && echo same
