# SPDX-License-Identifier: Apache-2.0
"""Findings about resources held against the ground truth that a program printed about itself (tests/fixtures/fixture.h): every
planted place found as a leak of its resource, no other leak, and look-alikes called by a word that is right for them. `known` are the
resources that are asked for by name; the loss of another is asked for only as what it may be seen as too (`also`: a stream's
heap block). Start: judge."""
import pathlib
import re
import subprocess
import sys

from harness import run

# Way in: options of run, the resources that it sees as themselves, the verdicts that count for a planted leak, and functions whose
# units it does not see as what they are: the child of vfork. A port and its
# socket are one loss and one finding, about either. The kernel
# knows nothing of blocks.
GROWS = ("leak-lost", "leak-retained", "undetermined", "warm-up", "load-following", "cache")
WAYS = {
    "agent": ([], {"heap", "fd", "socket", "port", "thread", "mapping", "child", "timer", "ipc", "library", "stream", "directory", "slot", "ticket"}, ("leak-lost", "leak-retained"), r"bad_vfork_"),
    "kernel": (["--no-inject"], {"fd", "socket", "port", "thread", "mapping", "child", "timer", "ipc", "library", "stream", "directory", "slot", "ticket"}, ("leak-lost", "leak-retained"), r"bad_vfork_"),
}


def way_in(arguments):
    """The first argument, or the end with the usage."""
    if len(arguments) < 2 or arguments[1] not in WAYS:
        sys.exit(f"usage: {arguments[0]} {'|'.join(WAYS)} [NAME...]")
    return arguments[1]


def way_works(t, way):
    """False, said, where the kernel or its rules have no eBPF for us."""
    if way != "kernel":
        return True
    status, _, err = run(t.under("exact", t.path("try.tt"), ["/bin/true"], *WAYS[way][0]))
    if status == 3 or b"cannot record from the kernel" in err:  # the command runs all the same
        print(f"skip {t.name}: {err.decode().strip() or 'no eBPF'}")
        return False
    return status == 0


def place(function, file, line):
    return function, pathlib.PurePath(file or "").name, line


def frames(finding):
    """The places of a finding's frames; functions without C++ parameters."""
    return {place(re.sub(r"\(.*", "", f.get("function") or ""), f.get("file"), f.get("line")) for f in finding["site"]["frames"]}


def told(finding):
    """A finding in one line, for messages."""
    return (finding["resource"], finding["verdict"], finding["lost"]["units"], [f"{f.get('function')} {f.get('line')}" for f in finding["site"]["frames"][:4]],
            finding["would_change_it"] if finding["verdict"] == "undetermined" else "")


def also(site):
    return set(filter(None, site["also"].split("|")))


def asked(site, known, unseen):
    """Resources of which one finding must speak."""
    own = site["resource"] in known and not re.match(unseen, site["function"])
    if not own:
        return also(site) & known
    return {"socket", "port"} if {"socket", "port"} <= {site["resource"]} | also(site) else {site["resource"]}


def merged(truths):
    """The sites of all processes of a run, by place and resource."""
    sites = {}
    for site in (s for truth in truths for s in truth["sites"]):
        key = place(site["function"], site["file"], site["line"]), site["resource"]
        if key in sites:
            for field in ("births", "live", "bytes"):
                sites[key][field] += site[field]
        else:
            sites[key] = dict(site)
    return sites


def left_open(truths, report, way):
    """Whether a planted place was found without a verdict: a machine that stands still for seconds takes evidence away, and the
    run is worth another one."""
    _, known, verdicts, unseen = WAYS[way]
    for (where, _), site in merged(truths).items():
        about = [f for f in report["findings"] if site["leak"] and f["resource"] in asked(site, known, unseen) and where in frames(f)]
        if about and not any(f["verdict"] in verdicts for f in about):
            return True
    return False


def judge(t, name, truths, report, way, counted=True):
    """`counted`: the truths count releases too, so that what is live in the end must be the same. A child that is forked
    before its parent's functions are watched is followed a moment later, so that of several processes less may be seen, and
    the verdict may stay open."""
    _, known, verdicts, unseen = WAYS[way]
    if len(truths) > 1:
        verdicts = GROWS
    sites = merged(truths)
    planted = {key: s for key, s in sites.items() if s["leak"]}
    leaks = [f for f in report["findings"] if f["verdict"].startswith("leak")]
    missing, wrong, words = [], [], []
    for (where, resource), site in planted.items():
        wanted = asked(site, known, unseen)
        mine = [f for f in report["findings"] if f["verdict"] in verdicts and f["resource"] in wanted and where in frames(f)]
        if wanted and not mine:
            missing.append((where, wanted, [told(f) for f in report["findings"] if where in frames(f)]))
        elif wanted and not 0 < min(f["lost"]["units"] or f["live"] for f in mine) <= 2 * site["births"]:
            missing.append((where, resource, site["births"], [told(f) for f in mine]))
        elif counted and resource in wanted:
            # Of several processes some may have too few losses for a verdict of their own.
            everywhere = [f for f in report["findings"] if f["resource"] in wanted and where in frames(f)]
            live = sum(f["live"] for f in everywhere)
            if live != site["live"] if len(truths) == 1 else not site["live"] / 2 <= live <= site["live"]:
                missing.append((where, resource, site["live"], [(f["births"], f["live"], told(f)) for f in everywhere]))
    # glibc gives the stack of a thread that has ended to the next one: what a lost thread holds may have been acquired by another.
    suspects = {**planted, **{key: s for key, s in sites.items() if planted and s["resource"] == "thread"}}
    for finding in leaks:
        if not any(where in frames(finding) and finding["resource"] in ({resource} if site["leak"] else set()) | also(site)
                   for (where, resource), site in suspects.items()):
            wrong.append(told(finding))
    for (where, resource), site in sites.items():
        if not site["leak"]:
            words += [(site["verdicts"], told(f)) for f in report["findings"]
                      if f["resource"] == resource and where in frames(f) and f["verdict"] not in site["verdicts"].split("|")]
    some = sum(bool(asked(site, known, unseen)) for site in planted.values())
    t.check(not missing, f"{name}: {some - len(missing)} of {some} planted places found", "\n     ".join(map(str, missing[:20])))
    t.check(not wrong, f"{name}: nothing else called a leak ({len(wrong)})", "\n     ".join(map(str, wrong[:20])))
    t.check(not words, f"{name}: look-alikes by their names", "\n     ".join(map(str, words[:20])))


def remove_ipc(said):
    """System V objects outlive their process; the programs that make them name them on standard error in ipcrm's words."""
    for line in said.decode(errors="replace").splitlines():
        made = re.fullmatch(r"(shm|sem|msg) (\d+)", line)
        if made:
            subprocess.run(["ipcrm", {"shm": "-m", "sem": "-s", "msg": "-q"}[made[1]], made[2]], check=False, stderr=subprocess.DEVNULL)
