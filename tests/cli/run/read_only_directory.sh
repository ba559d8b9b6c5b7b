mkdir dir
chmod a-w dir
if [ "$(id -u)" -eq 0 ]; then # root writes everywhere: make the directory read-only in a mount namespace
    command -v unshare >/dev/null || { echo "needs unshare"; exit 77; }
    unshare -m sh -c 'mount --bind dir dir && mount -o remount,bind,ro dir' 2>/dev/null || { echo "may not mount"; exit 77; }
    unshare -m sh -c 'mount --bind dir dir && mount -o remount,bind,ro dir && "$TELLTALE" run -q -o dir/s.tt -- echo started'
else
    "$TELLTALE" run -q -o dir/s.tt -- echo started
fi
