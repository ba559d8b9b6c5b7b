# SPDX-License-Identifier: Apache-2.0
"""The heap walkers against a heap with a known truth: every live block listed with its size, no freed one. For this
machine's glibc from the running process, the kernel's and gdb's core files, with several tunables, statically linked,
and under jemalloc; for other versions of glibc with Debian's libc6 packages, taken by name from the machine's own mirror
into a private directory. A version that cannot be had is skipped with a message. Start: main."""
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile

FIXTURES = pathlib.Path(os.environ["FIXTURES"])
CHECK = FIXTURES / "fixture_heap_check"
SUITES = {"bullseye": "2.31", "trixie": "2.41", "sid": "newest"}
SHAPES = [[], ["sbrk"], ["nobrk"], ["sbrk", "nobrk"], ["fork"], ["threads=20", "ops=20000"]]
TUNABLES = ["glibc.malloc.tcache_count=0", "glibc.malloc.tcache_max=8000:glibc.malloc.tcache_count=100",
            "glibc.malloc.perturb=77", "glibc.malloc.hugetlb=2", "glibc.malloc.mmap_threshold=4096",
            "glibc.malloc.mxfast=160", "glibc.malloc.arena_max=1"]
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
LIMIT = 120
failed = passed = skipped = 0


def verdict(name, status, text):
    global failed, passed, skipped
    if status == 77:
        skipped += 1
        print(f"skip: {name}: ptrace is not allowed here")
    elif status == 0:
        passed += 1
        print(f"ok: {name}: {text.strip().splitlines()[-1] if text.strip() else ''}")
    else:
        failed += 1
        print(f"FAILED: {name}: status {status}\n{text}")


def check(name, table, what):
    r = subprocess.run([CHECK, table, str(what)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       timeout=LIMIT, env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"})
    lines = [l for l in r.stdout.splitlines() if not l.startswith("image ")]
    verdict(name, r.returncode, "\n".join(lines))


class Truth:
    """A heap_truth that has written its table and waits."""

    def __init__(self, command, arguments, directory, **extra):
        self.table = directory / "table"
        env = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_CONF")}
        self.process = subprocess.Popen([str(c) for c in command] + [str(self.table)] + arguments, env=dict(env, **extra),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, cwd=directory)
        line = self.process.stdout.readline().split()
        if line[:1] != [b"ready"]:
            raise RuntimeError(f"{command} {arguments} did not get ready")
        self.pid = int(line[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def live(name, command, shapes, directory, **extra):
    for shape in shapes:
        try:
            with Truth(command, shape, directory, **extra) as t:
                check(" ".join([name] + shape), t.table, t.pid)
        except RuntimeError as e:
            verdict(name, 1, str(e))


def cores(name, command, directory, **extra):
    global skipped
    if shutil.which("gcore"):
        with Truth(command, [], directory, **extra) as t:
            subprocess.run(["gcore", "-o", directory / "g", str(t.pid)], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, timeout=LIMIT)
            core = directory / f"g.{t.pid}"
            if core.exists():
                check(f"{name}, core by gcore", t.table, core)
                core.unlink()
    pattern = pathlib.Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith("|") or "/" in pattern:
        skipped += 1
        print(f"skip: {name}, core by the kernel: core_pattern is {pattern}")
        return
    env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    subprocess.run([str(c) for c in command] + [directory / "table", "abort"], cwd=directory, env=dict(env, **extra),
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=LIMIT,
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2))
    for core in directory.glob("core*"):
        check(f"{name}, core by the kernel", directory / "table", core)
        core.unlink()


def mirror():
    """The address from which this machine's own apt gets Debian, None if it does not."""
    out = subprocess.run(["apt-get", "indextargets", "--format", "$(SITE)"], stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, text=True).stdout.split()
    return next((site for site in out if site.rstrip("/").endswith("/debian")), None)


def download(suite, directory):
    """The directory of that suite's libc, or None."""
    site = mirror() if shutil.which("apt-get") else None
    if not site or not shutil.which("dpkg-deb"):
        return None
    home = directory / suite
    for sub in ("lists/partial", "cache/archives/partial", "parts"):
        (home / sub).mkdir(parents=True)
    signed = f" [signed-by={KEYRING}]" if os.path.exists(KEYRING) else ""
    (home / "sources.list").write_text(f"deb{signed} {site} {suite} main\n")
    (home / "status").write_text("")
    apt = ["apt-get", "-qq", "-o", f"Dir::Etc::sourcelist={home}/sources.list", "-o", f"Dir::Etc::sourceparts={home}/parts",
           "-o", f"Dir::State::lists={home}/lists", "-o", f"Dir::Cache={home}/cache", "-o", f"Dir::State::status={home}/status",
           "-o", "Acquire::Languages=none", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20"]
    try:
        for step in (["update"], ["download", "libc6"]):
            subprocess.run(apt + step, cwd=home, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=LIMIT)
        for deb in home.glob("libc6_*.deb"):
            subprocess.run(["dpkg-deb", "-x", deb, home / "x"], check=True, timeout=LIMIT)
    except (subprocess.SubprocessError, OSError):
        return None
    found = [p.parent for p in (home / "x").rglob("libc.so.6") if (p.parent / "ld-linux-x86-64.so.2").exists()]
    return found[0] if found else None


def link(source, libc, out):
    """heap_truth bound to that libc's versions of symbols, so that an older one runs it too."""
    cc = os.environ.get("CC", "cc").split()
    crt = [subprocess.run(cc + [f"-print-file-name={n}"], stdout=subprocess.PIPE, text=True).stdout.strip()
           for n in ("Scrt1.o", "crti.o", "crtn.o")]
    threads = [p for p in (libc / "libpthread.so.0",) if p.exists() and not (libc / "libpthread.a").exists()]
    unit = out.with_suffix(".o")
    steps = [cc + ["-O2", "-D_GNU_SOURCE", "-fPIE", "-fno-stack-protector", "-U_FORTIFY_SOURCE", "-c", str(source), "-o", str(unit)],
             cc + ["-pie", "-nostdlib", "-o", str(out), crt[0], crt[1], str(unit), str(libc / "libc.so.6")] +
             [str(t) for t in threads] + ["-lgcc", crt[2], f"-Wl,--dynamic-linker={libc}/ld-linux-x86-64.so.2",
                                          f"-Wl,-rpath,{libc}", "-Wl,--allow-shlib-undefined"]]
    return all(subprocess.run(s, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0 for s in steps)


def other_versions(directory, suites):
    global skipped
    for suite, version in suites.items():
        libc = download(suite, directory)
        program = directory / f"truth-{suite}"
        if not libc or not link(pathlib.Path(__file__).parent.parent / "fixtures" / "heap_truth.c", libc, program):
            skipped += 1
            print(f"skip: glibc {version} of {suite}: its libc6 package could not be downloaded or linked against")
            continue
        live(f"glibc of {suite}", [program], SHAPES, directory)
        for tunable in TUNABLES[1:5]:
            live(f"glibc of {suite} {tunable}", [program], [["nobrk"]], directory, GLIBC_TUNABLES=tunable)


def jemalloc(directory):
    global skipped
    names = ["/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"]
    library = next((n for n in names if os.path.exists(n)), None)
    if not library:
        skipped += 1
        print("skip: jemalloc: package libjemalloc2 is not installed")
        return
    truth = [FIXTURES / "fixture_heap_truth"]
    live("jemalloc", truth, [[], ["threads=0"], ["threads=20", "ops=20000"]], directory, LD_PRELOAD=library)
    cores("jemalloc", truth, directory, LD_PRELOAD=library)


def main(what):
    with tempfile.TemporaryDirectory(prefix="tt-heap-") as name:
        directory = pathlib.Path(name)
        if what == "own":
            truth = [FIXTURES / "fixture_heap_truth"]
            live("glibc", truth, SHAPES, directory)
            for tunable in TUNABLES:
                live(tunable, truth, [[]], directory, GLIBC_TUNABLES=tunable)
            cores("glibc", truth, directory)
            static = FIXTURES / "fixture_heap_truth_static"
            if static.exists():
                live("static", [static], [[], ["sbrk"]], directory)
        elif what == "jemalloc":
            jemalloc(directory)
        else:
            other_versions(directory, SUITES)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0 if passed else 77


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
