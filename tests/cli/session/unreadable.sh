# A session of another user.
. "$SUITE/read.inc"
cp "$SHARED/good.tt" s.tt
chmod 0 s.tt
if [ "$(id -u)" -eq 0 ]; then # root reads everything
    command -v setpriv >/dev/null || { echo "needs setpriv"; exit 77; }
    chmod 777 .
    setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$TELLTALE" || { echo "nobody cannot reach the build"; exit 77; }
    as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all -- "$@"; }
else
    as_nobody() { "$@"; }
fi
as_nobody "$TELLTALE" check s.tt
