#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Puts the figures of bench.py into docs/performance.md, between its two markers.
Usage: table.py RESULTS.json... docs/performance.md (rows of later files replace those of the same name; of rows that list
their values, as those about servers do, the values of all files are put together)."""
import json
import pathlib
import statistics
import sys

from measure import of_servers, spread

BEGIN, END = "<!-- figures: begin (written by bench/table.py) -->", "<!-- figures: end -->"


def cell(row):
    if row["value"] is None:
        return "not measured"
    value = row["value"]
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{text} {row['unit']}"


def together(old, new):
    """A row that stands in two files."""
    kind = next((k for k in ("values", "servers") if old and old.get(k) and new.get(k)), None)
    if not kind:
        return new
    values = old[kind] + new[kind]
    value, note = (statistics.median(values), spread(values)) if kind == "values" else of_servers(values)
    kept = None if new["bar"] is None else value >= new["bar"] if new["relation"] == ">=" else value <= new["bar"]
    return dict(new, value=value, note=note, **{kind: values, "pass": kept})


def tables(results):
    """Markdown of all groups."""
    groups, counts = {}, {}
    for result in results:
        for r in result["rows"]:
            rows = groups.setdefault(r["group"], {})
            rows[r["name"]] = together(rows.get(r["name"]), r)
            counts.setdefault(r["group"], {})[r["name"]] = result["rounds"]
    machine = results[-1]["machine"]
    versions = ", ".join(f"{tool} {version}" for tool, version in machine["versions"].items())
    out = [f"Measured {results[-1]['date']} on {machine['cores']} cores of {machine['cpu']}, Linux {machine['kernel']}, "
           f"{machine['libc']}; {versions}."]
    titles = {"pairs": "Added to a malloc and free pair", "attached": "The same after attaching to a process that runs",
              "start": "Start and end", "redis": "redis", "sqlite": "sqlite", "memory": "Memory",
              "session": "Size of the session"}
    for group, rows in groups.items():
        out += ["", f"### {titles.get(group, group)}", "", "| what | measured | bar | |", "| --- | ---: | ---: | --- |"]
        for r in rows.values():
            bar = "" if r["bar"] is None else f"{'≥' if r['relation'] == '>=' else '≤'} {r['bar']:.4g}"
            verdict = "" if r["pass"] is None else "held" if r["pass"] else "**missed**"
            note = f" ({r['note']})" if r["note"] else ""
            out.append(f"| {r['name']} | {cell(r)}{note} | {bar} | {verdict} |")
        used = sorted(set(counts[group].values()))
        rounds = " or ".join(map(str, used))
        out += ["", f"Medians of {rounds} rounds."] if group in ("pairs", "attached", "start", "sqlite") else []
    return "\n".join(out)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    page = pathlib.Path(sys.argv[-1])
    results = [json.loads(pathlib.Path(p).read_text(encoding="utf-8")) for p in sys.argv[1:-1]]
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        sys.exit(f"{page}: no markers\n{BEGIN}\n{END}")
    head, rest = text.split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    page.write_text(f"{head}{BEGIN}\n{tables(results)}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
