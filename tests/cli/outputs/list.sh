"$TELLTALE" list "$SHARED/leak.tt" | grep -q keep_record && echo "site with function"
"$TELLTALE" list -n 1 --json "$SHARED/leak.tt" | python3 -c '
import json, sys
sites = json.load(sys.stdin)
sites = sites["sites"] if isinstance(sites, dict) else sites
print(len(sites))'
