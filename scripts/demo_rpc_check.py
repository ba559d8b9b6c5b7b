# SPDX-License-Identifier: Apache-2.0
"""Holds the RPC demo's findings against the truth of rpcload: the failures that the clients' callers saw, and rpcssd's ledger. The
last line is the result."""
import json
import pathlib
import subprocess
import sys

telltale, out = sys.argv[1], pathlib.Path(sys.argv[2])
RESOURCE = "port grant in rpcssd"
wrong = []


def expect(what, got, want):
    print(f"demo: {'ok ' if got == want else 'NOT'} {what}: {got}" + ("" if got == want else f", expected {want}"))
    if got != want:
        wrong.append(what)


def truth(name):
    return json.loads((out / f"{name}.json").read_text())


def findings(name):
    """Leaks of a run by itself."""
    said = subprocess.run([telltale, "report", "--format", "json", out / f"{name}.tt"], stdout=subprocess.PIPE, check=True).stdout
    return [f for f in json.loads(said)["findings"] if f["verdict"].startswith("leak")]


leaks = [f for f in json.loads((out / "article.json").read_text())["findings"] if f["verdict"].startswith("leak")]
hang = truth("hang")
expect("the client hangs", hang["hung"], True)
pool, lost = hang["pool"], hang["ports_lost"]
expect(f"after {lost} failures, all of the {pool} ports but those in use or cooling", pool - 5 <= lost <= pool, True)
expect("leaks found in the client that hung", [f["resource"] for f in leaks], [RESOURCE])
if leaks:
    leak = leaks[0]
    expect("acquired in", leak["site"]["frames"][0]["function"], "dg_open")
    expect("ports lost", leak["lost"]["units"], lost)
    expect("per OpenCluster, of which half failed", round(leak["rate"]["per_operation"], 1), 0.5)
    expect("limit that it runs into", leak["forecast"] and leak["forecast"]["limit"], pool)
    expect("law", (leak["law"] or {}).get("text"), "lost units = 1 x failure per OpenCluster")
    expect("confirmed by controls", leak["confirmed"], True)
    expect("fixed build without the loss", leak["fix"]["fixed"], True)
for number, coefficient in enumerate((1, 1, 0, 0, 1, 0), 1):
    name = "third" if number == 1 else f"class{number}"
    failures = truth(name)["clients"][0]["failures"][f"F{number}"]
    lost = sum(f["lost"]["units"] for f in findings(name) if f["resource"] == RESOURCE)
    expect(f"ports lost by {failures} failures of class F{number}", lost, coefficient * failures)
expect("the hotfix", findings("hotfix"), [])
print("demo: " + ("telltale found the ports of article 814622 and nothing else" if not wrong else "FAILED: " + ", ".join(wrong)))
sys.exit(1 if wrong else 0)
