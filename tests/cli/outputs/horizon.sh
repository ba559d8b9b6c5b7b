# With a horizon that the recording did not reach there is no leak verdict, whatever grew.
"$TELLTALE" check --horizon 1h "$SHARED/leak.tt"; echo $?
"$TELLTALE" report --horizon 1h --format json "$SHARED/leak.tt" | python3 -c '
import json, sys
print([f["verdict"] for f in json.load(sys.stdin)["findings"] if f["verdict"].startswith("leak")])'
