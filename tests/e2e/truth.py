# SPDX-License-Identifier: Apache-2.0
"""Findings about resources held against the ground truth that a program printed about itself (tests/fixtures/fixture.h): every
planted place found as a leak of its resource, no other leak, and look-alikes called by a word that is right for them. `known` are the
resources that are asked for by name; the loss of another is asked for only as what it may be seen as too (`also`: a stream's
heap block). Start: judge."""
import pathlib
import re
import subprocess


def place(function, file, line):
    return function, pathlib.PurePath(file or "").name, line


def frames(finding):
    """The places of a finding's frames; functions without C++ parameters."""
    return {place(re.sub(r"\(.*", "", f.get("function") or ""), f.get("file"), f.get("line")) for f in finding["site"]["frames"]}


def told(finding):
    """A finding in one line, for messages."""
    return finding["resource"], finding["verdict"], finding["lost"]["units"], [f"{f.get('function')} {f.get('line')}" for f in finding["site"]["frames"][:4]]


def also(site):
    return set(filter(None, site["also"].split("|")))


def asked(site, known):
    """Resources of which one finding must speak."""
    return {site["resource"]} if site["resource"] in known else also(site) & known


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


def judge(t, name, truths, report, known):
    sites = merged(truths)
    planted = {key: s for key, s in sites.items() if s["leak"]}
    leaks = [f for f in report["findings"] if f["verdict"].startswith("leak")]
    missing, wrong, words = [], [], []
    for (where, resource), site in planted.items():
        wanted = asked(site, known)
        mine = [f for f in leaks if f["resource"] in wanted and where in frames(f)]
        if wanted and not mine:
            missing.append((where, wanted, [told(f) for f in report["findings"] if where in frames(f)]))
        elif wanted and not 0 < min(f["lost"]["units"] for f in mine) <= site["births"]:
            missing.append((where, resource, site["births"], [told(f) for f in mine]))
    for finding in leaks:
        if not any(where in frames(finding) and finding["resource"] in {resource} | also(site) for (where, resource), site in planted.items()):
            wrong.append(told(finding))
    for (where, resource), site in sites.items():
        if not site["leak"]:
            words += [(site["verdicts"], told(f)) for f in report["findings"]
                      if f["resource"] == resource and where in frames(f) and f["verdict"] not in site["verdicts"].split("|")]
    some = sum(bool(asked(site, known)) for site in planted.values())
    t.check(not missing, f"{name}: {some - len(missing)} of {some} planted places found", "\n     ".join(map(str, missing[:20])))
    t.check(not wrong, f"{name}: nothing else called a leak ({len(wrong)})", "\n     ".join(map(str, wrong[:20])))
    t.check(not words, f"{name}: look-alikes by their names", "\n     ".join(map(str, words[:20])))


def remove_ipc(said):
    """System V objects outlive their process; the programs that make them name them on standard error in ipcrm's words."""
    for line in said.decode(errors="replace").splitlines():
        made = re.fullmatch(r"(shm|sem|msg) (\d+)", line)
        if made:
            subprocess.run(["ipcrm", {"shm": "-m", "sem": "-s", "msg": "-q"}[made[1]], made[2]], check=False, stderr=subprocess.DEVNULL)
