#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The programs that leak on purpose (tests/fixtures) under telltale: what each prints about itself when it ends is held
against the findings. Every planted leak must be found at its function and line with a right verdict, and nothing else may
be called a leak. They mostly sleep, so several run at once. Usage: fixtures.py MODE [NAME...]. Start: judge."""
import concurrent.futures
import json
import os
import pathlib
import sys

from harness import MODES, Test, run

# name: (fixture, its options, options of run). The horizon is short, so that seconds suffice: METHODS' 600 s is for servers.
CASES = {
    "leak_each": ("leak_ops", [], []),
    "leak_tenth": ("leak_ops", ["--every", "10"], []),
    "two_sites": ("leak_two_sites", ["--every", "4"], []),
    "ttl_cache": ("ttl_cache", [], []),
    "lru_cache": ("lru_cache", [], []),
    "warm_up": ("warm_up", [], []),
    "growing_pool": ("growing_pool", [], []),
    "realloc_growth": ("realloc_growth", [], []),
    "all_at_start": ("all_at_start", [], []),
    "live_at_exit": ("live_at_exit", [], []),
    "thread_crowd": ("thread_crowd", [], []),
    "plugin_host": ("plugin_host", [], []),
    "fork_workers": ("fork_workers", [], ["-f"]),
    "cxx_objects": ("cxx_objects", [], []),
    "rare_leak": ("rare_leak", [], []),
}
HORIZON, SECONDS = "2", "10"
# Options that let a few seconds suffice in the modes that do not follow every block.
MODE_OPTIONS = {"exact": [], "adaptive": ["--rate", "100"], "sampled": ["--mean", "64"]}
# Where only a sample is followed, the ages and the steadiness that tell one healthy word from the next are estimates.
NEARBY = {"exact": [], "adaptive": ["undetermined"], "sampled": ["delayed release", "steady", "undetermined"]}
# A byte sampler is not made for these within seconds (the needle; a leak among 100,000 blocks that are live at once).
NOT_SAMPLED = {"rare_leak", "all_at_start"}
AT_ONCE = 8
# Sampling finds by chance, and in ten seconds not always.
TRIES = {"exact": 2, "adaptive": 3, "sampled": 3}

mode = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] in MODES else None
if not mode:
    sys.exit(f"usage: {sys.argv[0]} {'|'.join(MODES)} [NAME...]")
t = Test("fixtures-" + mode)


def names(finding, site):
    """Whether one of the finding's frames is the planted place."""
    return any(site["function"] in (f.get("function") or "") and pathlib.PurePath(f.get("file") or "").name == site["file"]
               and f.get("line") == site["line"] for f in finding["site"]["frames"])


def judge(checks, name, truths, report):
    """Holds findings against the truth of all processes of the run."""
    sites = {}
    for truth in truths:
        for site in truth["sites"]:
            key = (site["function"], site["line"])
            if key in sites:
                for field in ("births", "live", "bytes"):
                    sites[key][field] += site[field]
            else:
                sites[key] = dict(site)
    leaks = [f for f in report["findings"] if f["verdict"].startswith("leak")]
    for site in sites.values():
        about = [f for f in report["findings"] if names(f, site)]
        place = f"{name}: {site['function']} at {site['file']}:{site['line']}"
        words = site["verdicts"].split("|")
        if site["leak"]:
            mine = [f for f in leaks if f in about]
            if not checks.found(mine, f"{place} is found as a leak", [(f["verdict"], f["evidence"]) for f in about] or [(f["verdict"], f["site"]["frames"][:3]) for f in report["findings"]]):
                continue
            checks.found(all(f["verdict"] in words for f in mine), f"{place}: verdict word", [f["verdict"] for f in mine])
            lost = sum(f["lost"]["units"] for f in mine)
            checks.found(0 < lost <= site["live"] * (1.001 if mode == "exact" else 2), f"{place}: {lost:.0f} of {site['live']} lost units "
                    "reported", lost)
        else:
            words += NEARBY[mode]
            checks.found(all(f["verdict"] in words for f in about), f"{place}: not called anything else than {site['verdicts']}",
                    [f["verdict"] for f in about])
    wrong = [f for f in leaks if not any(site["leak"] and names(f, site) for site in sites.values())]
    checks.right(not wrong, f"{name}: no other leak", [(f["verdict"], f["site"]["frames"][:4], f["evidence"]) for f in wrong])
    return any(site["leak"] for site in sites.values())


def rate_holds(checks, name, truths, report):
    """Exact mode, one leak site, a declared operation: lost units per operation."""
    operations = sum(truth["operations"] for truth in truths)
    planted = [s for truth in truths for s in truth["sites"] if s["leak"]]
    if mode != "exact" or len(planted) != 1 or not operations:
        return
    wanted = planted[0]["live"] / operations
    rates = [f["rate"]["per_operation"] for f in report["findings"] if f["rate"].get("operation") == "request"
             and f["verdict"].startswith("leak")]
    if rates:
        checks.right(abs(rates[0] - wanted) <= 0.15 * wanted, f"{name}: {wanted:g} lost units per request", rates)


def attempt(checks, name, session):
    fixture, options, run_options = CASES[name]
    program = pathlib.Path(os.environ["FIXTURES"], "fixture_" + fixture)
    status, out, err = run(t.under(mode, session, [program, "--seconds", SECONDS, *options], "--horizon", HORIZON, "--operation", "request=serve_request",
                                   *MODE_OPTIONS[mode], *run_options))
    if not checks.right(status == 0, f"{name}: does its own work", f"{status}: {err.decode()}"):
        return
    truths = [json.loads(line) for line in out.decode().splitlines()]
    report = t.findings(session)
    if checks.right(report, f"{name}: report"):
        leaky = judge(checks, name, truths, report)
        rate_holds(checks, name, truths, report)
        status, out, err = run([t.telltale, "check", session])
        found = any(f["verdict"].startswith("leak") for f in report["findings"])
        checks.right(status == found, f"{name}: check's exit status is that of its findings", f"{status}: {(out + err).decode()}")
        checks.found(found == leaky, f"{name}: leaks when it does")


def one(name):
    if CASES[name][0] == "cxx_objects" and not pathlib.Path(os.environ["FIXTURES"], "fixture_cxx_objects").exists():
        return  # no C++ compiler
    t.tries(TRIES[mode], lambda checks, k: attempt(checks, name, t.path(f"{name}{k}.tt")))


def main():
    chosen = sys.argv[2:] or [n for n in CASES if mode != "sampled" or n not in NOT_SAMPLED]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for done in concurrent.futures.as_completed([pool.submit(one, name) for name in chosen]):
            done.result()
    return t.end()


if __name__ == "__main__":
    sys.exit(main())
