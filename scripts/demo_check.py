# SPDX-License-Identifier: Apache-2.0
"""Holds the demo's findings against what SIPp and the owners counted; the last line is the result."""
import json
import pathlib
import subprocess
import sys

telltale, out = sys.argv[1], pathlib.Path(sys.argv[2])
truth = {n: json.loads((out / f"{n}.json").read_text()) for n in ("leaky4", "leaky3", "leaky2", "leaky1", "hotfix4")}
findings = json.loads((out / "article.json").read_text())["findings"]
leaks = [f for f in findings if f["verdict"].startswith("leak")]
wrong = []


def expect(what, got, want):
    print(f"demo: {'ok ' if got == want else 'NOT'} {what}: {got}" + ("" if got == want else f", expected {want}"))
    if got != want:
        wrong.append(what)


expect("leaks found in the shipped server", len(leaks), 1)
if leaks:
    leak, calls = leaks[0], truth["leaky4"]["calls"]
    frame = leak["site"]["frames"][0]
    expect("allocation site", (frame["function"], frame["file"].rsplit("/", 1)[-1]), ("owner_record_new", "owner.c"))
    expect("lost blocks (SIPp placed %d calls)" % calls, leak["lost"]["units"], truth["leaky4"]["leaked_blocks"])
    expect("requested bytes lost", leak["lost"]["bytes"], 40 * truth["leaky4"]["leaked_blocks"])
    expect("requested bytes per call", leak["rate"]["bytes_per_operation"], 80.0)
    expect("blocks per call", leak["rate"]["per_operation"], 2.0)
    expect("law across 1 to 4 owners", (leak["law"] or {}).get("text"), "lost bytes = 40 x (owners - 2) per call, owners > 2")
    expect("confirmed by controls", leak["confirmed"], True)
    expect("fixed build without the loss", leak["fix"]["fixed"], True)
for name, want in (("leaky3", 1), ("leaky2", 0), ("leaky1", 0), ("hotfix4", 0)):
    status = subprocess.run([telltale, "check", str(out / f"{name}.tt")], stdout=subprocess.DEVNULL).returncode
    expect(f"check of {name} (1 = leak)", status, want)
print("demo: " + ("telltale found the leak of article 310626 and nothing else" if not wrong else "FAILED: " + ", ".join(wrong)))
sys.exit(1 if wrong else 0)
