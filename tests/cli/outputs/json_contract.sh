# The keys that scripts may rely on, as DESIGN promises them.
"$TELLTALE" report --horizon 1 --format json "$SHARED/leak.tt" >out
python3 - "$SHARED/leak.truth" <<'END'
import json, sys
truth = json.load(open(sys.argv[1]))["sites"][0]
report = json.load(open("out"))
assert report["schema"] == "telltale.findings/1", report["schema"]
for key in ("tool", "target", "session", "findings"):
    assert key in report, key
for key in ("pid", "exe", "build_id"):
    assert key in report["target"], key
for key in ("seconds", "mode", "dropped"):
    assert key in report["session"], key
first = report["findings"][0]
for key in ("id", "resource", "verdict", "severity", "site", "owner", "lost", "rate", "law", "forecast", "evidence",
            "confidence", "would_change_it"):
    assert key in first, key
assert first["resource"] == "heap" and first["verdict"] in ("leak-retained", "leak-lost"), first["verdict"]
frame = next(f for f in first["site"]["frames"] if f["function"] == truth["function"])
assert frame["file"].endswith(truth["file"]) and frame["line"] == truth["line"], frame
for key in ("function", "module", "file", "line", "inlined"):
    assert key in frame, key
for key in ("units", "bytes", "since_start", "before_attach"):
    assert key in first["lost"], key
for key in ("per_second", "per_operation", "operation", "interval"):
    assert key in first["rate"], key
assert first["rate"]["operation"] == "request" and first["rate"]["per_operation"] == 1, first["rate"]
assert all("kind" in e for e in first["evidence"]) and first["evidence"]
print("contract kept")
END
