# SPDX-License-Identifier: Apache-2.0
"""Which failures lose a port, in both builds, counted from outside: by how many associations a
process can still have, and by rpcssd's ledger - never by the client's own accounts.

usage: test_leak.py RPCSSD CLUSSVC CLUSCLIENT CLUSCLIENT-HOTFIX RPCLOAD
"""

import json

from rpccase import *

COEFFICIENTS = {"F1": 1, "F2": 1, "F3": 0, "F4": 0, "F5": 1, "F6": 0}
CLOSED = "127.0.0.1[9]"  # discard: nobody serves it here


def rpcload(programs, client, *args, status=0):
    with tempfile.TemporaryDirectory() as directory:
        truth = os.path.join(directory, "truth.json")
        command = [programs[4], "--truth", truth, *map(str, args), "--", client]
        result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert result.returncode == status, (result.returncode, result.stderr)
        with open(truth, encoding="utf-8") as file:
            truth = json.load(file)
    assert truth["schema"] == "rpcload/1" and truth["exact"], (truth, result.stderr)
    return truth


QUICK = ("--time-scale", 0.01, "--recycle", 300)


def first_port(place):
    """A part of the port range for each test, below the ephemeral ports, so that tests running side
    by side do not meet."""
    return 20000 + os.getpid() % 40 * 200 + place


def test_coefficients(*programs):
    first = first_port(0)
    for number, (name, coefficient) in enumerate(COEFFICIENTS.items()):
        for client in programs[2:4]:
            failures = 2 if name == "F2" else 4
            truth = rpcload(programs, client, *QUICK, "--cycles", 3, "--probe", f"--{name.lower()}",
                            failures, "--ports", f"{first}-{first + 19}")
            expected = coefficient if client == programs[2] else 0
            assert truth["coefficients"][name] == expected
            assert truth["clients"][0]["failures"][name] == failures, truth
            assert truth["ports_lost_by_probe"] == truth["ports_lost"] == failures * expected, (
                name, number, truth)


def test_all_classes_and_several_clients(*programs):
    first = first_port(0)
    for client, lost in ((programs[2], 3 * (3 + 1 + 2)), (programs[3], 0)):
        truth = rpcload(programs, client, *QUICK, "--clients", 3, "--cycles", 9, "--probe", "--f1", 3,
                        "--f2", 1, "--f3", 2, "--f4", 2, "--f5", 2, "--f6", 2, "--ports",
                        f"{first}-{first + 99}")
        assert truth["ports_lost_by_probe"] == truth["ports_lost"] == lost, truth
        assert all(c["cycles"] == 9 and c["unexpected"] == 0 for c in truth["clients"])


def test_the_hang_comes_after_as_many_failures_as_there_are_ports(*programs):
    first = first_port(0)
    for pool in (10, 20):
        truth = rpcload(programs, programs[2], "--until-hang", "--hang-ms", 300, "--cycles", 0,
                        "--f1", 1, "--ports", f"{first}-{first + pool - 1}")
        assert truth["hung"] and truth["ports_lost"] == pool, truth
        assert truth["clients"][0]["granted"] == pool


def test_the_hotfix_waits_but_does_not_hang(*programs):
    first = first_port(0)
    truth = rpcload(programs, programs[3], "--until-hang", "--hang-ms", 60000, "--cycles", 0, "--f1", 1,
                    "--recycle", 300, "--ports", f"{first}-{first + 9}")
    assert truth["clients"][0]["hung"] is False and truth["ports_lost"] == 0, truth
    assert truth["clients"][0]["failures"]["F1"] == 10


def test_without_a_list_nothing_runs_out(*programs):
    truth = rpcload(programs, programs[2], *QUICK, "--ports", "any", "--f1", 150, "--cycles", 10)
    assert truth["ports_lost"] == 0 and truth["clients"][0]["failures"]["F1"] == 150, truth


def host(programs, ports, **kw):
    first = first_port(100)
    return Host(programs[0], programs[1], ports=f"{first}-{first + ports - 1}", **kw)


def test_lost_ports_return_with_the_end_of_the_process_only(*programs):
    with host(programs, 10, scale=0.01, RPC_PORT_RECYCLE_MS=50) as h:
        one, two = h.client(programs[2]), h.client(programs[2])
        assert one.do(f"cycle {CLOSED} 4")["errors"] == {1722: 4}
        assert one.do("cool")["ok"] == 1
        assert h.ledger() == {one.pid: 4}
        held = two.do("hold localhost 20")
        assert held["ok"] == 6 and held["refused"] == 1, held
        assert two.do("hold localhost 1")["refused"] == 1
        one.stop()
        again = two.do("hold localhost 20")
        assert again["ok"] == 4 and h.ledger() == {two.pid: 10}, again
        two.stop(signal.SIGKILL)
        h.processes.remove(two)
        three = h.client(programs[2])
        assert three.do("hold localhost 20")["ok"] == 10


def test_a_hung_program_goes_on_when_another_one_ends(*programs):
    with host(programs, 4) as h:
        one, two = h.client(programs[2]), h.client(programs[2])
        assert one.do(f"cycle {CLOSED} 4")["failed"] == 4
        two.start("cycle localhost")
        assert two.answer()["what"] == "exhausted"
        one.stop()
        assert two.answer()["ok"] == 1


def test_a_port_is_used_again_after_its_time_and_not_before(*programs):
    recycle = 1.2
    with host(programs, 1, RPC_PORT_RECYCLE_MS=int(recycle * 1000)) as h:
        for client in (h.client(programs[2]),):
            begin = time.monotonic()
            assert client.do("cycle localhost")["ok"] == 1
            client.start("cycle localhost")
            assert client.answer()["what"] == "exhausted"
            assert client.answer()["ok"] == 1
            assert time.monotonic() - begin >= recycle
            assert h.ledger() == {client.pid: 1}


def test_exhaustion_by_rate_recovers(*programs):
    """Ten ports and more than ten cycles within their cooling time, in the build as shipped."""
    with host(programs, 10, RPC_PORT_RECYCLE_MS=1500) as h:
        client = h.client(programs[2])
        client.start("cycle localhost 25")
        assert client.answer()["what"] == "exhausted"
        assert client.answer()["ok"] == 25
        client.do("cool")
        assert client.do("hold localhost 20")["ok"] == 10


def test_grants_stay_at_the_most_that_was_needed(*programs):
    with host(programs, 10, RPC_PORT_RECYCLE_MS=20) as h:
        client = h.client(programs[2])
        assert client.do("hold localhost 6")["ok"] == 6
        assert client.do("drop")["ok"] == 6
        for _ in range(10):
            client.do("cool")
            assert client.do("hold localhost 6")["ok"] == 6
            client.do("drop")
        assert h.ledger() == {client.pid: 6}


def test_design_limit(*programs):
    with host(programs, 10, RPC_PORT_RECYCLE_MS=1, RPC_DESIGN_LIMIT=1) as h:
        client = h.client(programs[3], "--on-exhaustion", "fail")
        result = client.do("cycle localhost 20 5")
        assert result["ok"] == 10 and result["refused"] == 1, result
        assert h.ledger() == {client.pid: 10}


def sockets(pid):
    return sum(os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")
               for fd in os.listdir(f"/proc/{pid}/fd"))


def bound(ports):
    with open("/proc/net/udp", encoding="ascii") as file:
        return {int(line.split()[1].split(":")[1], 16) for line in file.readlines()[1:]} & set(ports)


def test_nothing_shows_in_the_client(*programs):
    first = first_port(100)
    with host(programs, 30, scale=0.01) as h:
        client = h.client(programs[2])
        client.do("cycle localhost 3")
        before = sockets(client.pid)
        client.do(f"cycle {CLOSED} 20")
        assert sockets(client.pid) == before
        assert not bound(range(first, first + 30))
        assert h.ledger()[client.pid] >= 20


def test_a_server_that_dies_between_open_and_close(*programs):
    """The same path by another way: the association is lost when CloseCluster gets no answer."""
    for client, lost in ((programs[2], 1), (programs[3], 0)):
        with host(programs, 5, RPC_PORT_RECYCLE_MS=10) as h:
            c = h.client(client)
            assert c.do("hold localhost 1")["ok"] == 1
            h.server.stop(signal.SIGKILL)
            h.processes.remove(h.server)
            assert c.do("drop")["ok"] == 1, "CloseCluster says that all is well"
            h.serve()
            c.do("cool")
            assert c.do("hold localhost 9")["ok"] == 5 - lost


def test_load_driver_as_a_program(*programs):
    first = first_port(0)
    common = ["--cycles", "2", "--ports", f"{first}-{first + 9}"]

    def run_it(*args):
        return subprocess.run([programs[4], *args], capture_output=True, text=True, timeout=100,
                              check=False)
    r = run_it(*common, "--", "sh", "-c", '"$0"; exit 7', programs[2])
    assert r.returncode == 7, r
    r = run_it(*common, "--before", "echo clients $RPC_CLIENT_PIDS && kill -0 $RPCSSD_PID", "--after",
               "kill -0 $CLUSSVC_PID", "--", programs[2])
    assert r.returncode == 0 and re.search(r"clients \d+", r.stderr), r
    assert run_it(*common, "--before", "exit 4", "--", programs[2]).returncode == 3
    assert run_it(*common, "--", "/nonexistent").returncode == 127
    for bad in ([], ["--f7", "1", "--", "x"], ["--ports", "9-1", "--", "x"], ["--clients", "0", "--", "x"]):
        assert run_it(*bad).returncode == 2, bad
    process = subprocess.Popen([programs[4], "--cycles", "1000000", "--recycle", "1", "--before",
                                "echo begun", "--", programs[2]], stderr=subprocess.PIPE, text=True)
    while "begun" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130


run([f for name, f in list(globals().items()) if name.startswith("test_")])
