"""Host names of a policy: asked for by DNS, kept by their time to live, and never a way to more than they are."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from .bench import DENY_ALL, INTERPRETER, SERVER, SERVER6, Bench
from .tools import PATIENCE, eventually
from .zone import Zone, more_addresses, name_server

NAME, SECOND, THIRD = "svc.example", "192.0.2.33", "192.0.2.34"
SECOND6 = "2001:db8::33"

HOSTILE = """
import random, socket, sys
chance = random.Random(7)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 53))
print("ready", flush=True)
while True:
    query, sender = sock.recvfrom(4096)
    kind = chance.randrange(5)
    header = query[:2] + bytes([0x81, 0x80]) + query[4:6]
    sock.sendto({
        0: bytes(chance.randrange(256) for _ in range(chance.randrange(200))),
        1: bytes([query[0] ^ 1]) + query[1:],
        2: header + bytes([0xff, 0xff, 0, 0, 0, 0]) + query[12:],
        3: header + bytes([0, 1, 0, 0, 0, 0]) + query[12:] + bytes([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0xff, 0xff]),
        4: header + bytes([0, 1, 0, 0, 0, 0]) + query[12:] + bytes([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 1, 0, 2, 0xc0, 12]),
    }[kind], sender)
"""


def policy(*names: str, grace: int = 3600, port: str = "") -> str:
    """Return a policy that permits what goes out to these names, and nothing else."""
    listed = ", ".join(f'"{name}"' for name in names)
    return (
        f'[preferences]\nproxy = "none"\nresolvers = ["{SERVER}"]\nname-grace = {grace}\n'
        f'[[packet-filter]]\ndescription = "svc"\ndirection = "out"\naction = "permit"\nlog = true\n'
        f"remote = {{ address = [{listed}]{port} }}\n{DENY_ALL}"
    )


def reaches(bench: Bench, remote: str) -> bool:
    """Return whether a program reaches an address; if not, it must be EPERM."""
    found = bench.run(bench.program("any"), "tcp-connect", remote, 7000, "--text", "x")
    assert found.ok or found.errno == "EPERM", found
    return found.ok


def state(bench: Bench, name: str = NAME) -> dict[str, Any]:
    """Return what status says of a name."""
    return next(dict(one) for one in bench.status()["names"] if one["name"] == name)


def test_a_changed_answer_is_taken_and_the_old_address_is_not_permitted_any_more(bench: Bench) -> None:
    """Within the time to live: the new address is permitted, the old one denied, the log has a line of it."""
    more_addresses(bench, SECOND, SECOND6)
    bench.peer("tcp-echo", "::", 7000, "--dual")
    with name_server(bench, {NAME: (SERVER, SERVER6)}) as zone:
        bench.up(policy=policy(NAME))
        assert eventually(lambda: reaches(bench, SERVER))
        assert reaches(bench, SERVER6) and not reaches(bench, SECOND)
        zone.answer({NAME: (SECOND, SECOND6)})
        assert eventually(lambda: reaches(bench, SECOND) and reaches(bench, SECOND6))
        assert not reaches(bench, SERVER) and not reaches(bench, SERVER6)
        found = state(bench)
        assert sorted(found["addresses"]) == sorted([SECOND, SECOND6])
        assert found["error"] is None and found["ttl"] in (0, 1) and found["grace"] == 3600
        record = bench.expect_log(id=f"names/{NAME}", hook="names", remote=SECOND)
        assert SERVER in record["rule"] and SECOND in record["rule"]


def test_a_connection_to_an_address_that_stays_never_notices(bench: Bench) -> None:
    """While the other addresses of its name come and go, every byte of it is answered."""
    more_addresses(bench, SECOND, THIRD)
    bench.peer("tcp-echo", "0.0.0.0", 7000)
    with name_server(bench, {NAME: (SERVER, SECOND)}) as zone:
        bench.up(policy=policy(NAME))
        assert eventually(lambda: reaches(bench, SERVER))
        live = bench.start(bench.program("any"), "tcp-session", SERVER, 7000)
        live.line()
        for other in (THIRD, SECOND, THIRD):
            zone.answer({NAME: (SERVER, other)})
            assert eventually(lambda other=other: (live.say("echo x").ok, reaches(bench, other)) == (True, True))  # type: ignore[misc]
            assert live.say("echo x").ok


def test_a_dead_name_server_stalls_nothing_and_heals(bench: Bench) -> None:
    """The last good set lives on for its grace, then the rule is quiet and says so; the server is back: healed."""
    bench.peer("tcp-echo", "0.0.0.0", 7000)
    with name_server(bench, {NAME: (SERVER,)}) as zone:
        bench.up(policy=policy(NAME, grace=20))
        assert eventually(lambda: reaches(bench, SERVER))
        zone.stop()
        assert eventually(lambda: state(bench)["error"])
        assert state(bench)["addresses"] == [SERVER] and 0 <= state(bench)["grace"] <= 20
        assert reaches(bench, SERVER), "within the grace"
        assert eventually(lambda: not state(bench)["addresses"], 60)
        assert not reaches(bench, SERVER)
        assert any(NAME in warning and "match nothing" in warning for warning in bench.status()["warnings"])
        zone.start()
        assert eventually(lambda: reaches(bench, SERVER), 60), "its last retry was long ago"
        assert eventually(lambda: state(bench)["error"] is None)


def test_up_waits_for_no_name_server(bench: Bench) -> None:
    """500 names and nobody who answers: it comes up, and fills in once somebody does."""
    names = [f"n{number}.example" for number in range(500)]
    bench.peer("tcp-echo", "0.0.0.0", 7000)
    bench.up(policy=policy(*names))
    assert {one["name"] for one in bench.status()["names"]} >= set(names)
    assert not reaches(bench, SERVER)
    with name_server(bench, {name: (SERVER,) for name in names[:3]} | {names[-1]: (SERVER,)}):
        assert eventually(lambda: len([one for one in bench.status()["names"] if one["addresses"]]) >= 4, 90)
        assert reaches(bench, SERVER)


def test_what_is_known_at_up_again_is_kept(bench: Bench) -> None:
    """The name server is dead when `up` comes again, and when `reload` does: the last good set stands."""
    bench.peer("tcp-echo", "0.0.0.0", 7000)
    with name_server(bench, {NAME: (SERVER,)}):
        bench.up(policy=policy(NAME))
        assert eventually(lambda: reaches(bench, SERVER))
    bench.up(policy=policy(NAME))
    assert reaches(bench, SERVER)
    bench.reload(policy(NAME, "other.example"))
    assert reaches(bench, SERVER)
    bench.kill_engine()
    assert reaches(bench, SERVER)


def test_hostile_answers_change_nothing_and_are_counted(bench: Bench) -> None:
    """Malformed, mismatched, cut short, looping: the set stands, status counts them, the Engine lives."""
    bench.peer("tcp-echo", "0.0.0.0", 7000)
    with name_server(bench, {NAME: (SERVER,)}):
        bench.up(policy=policy(NAME))
        assert eventually(lambda: reaches(bench, SERVER))
    command = [
        "nsenter",
        f"--net=/run/netns/{bench.namespaces['server']}",
        str(INTERPRETER),
        "-I",
        "-c",
        HOSTILE,
        SERVER,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as hostile:
        try:
            assert hostile.stdout is not None and hostile.stdout.readline() == b"ready\n"
            wanted = ("malformed", "mismatched", "looping")
            assert eventually(lambda: all(word in told(bench) for word in wanted), 60), told(bench)
            assert state(bench)["addresses"] == [SERVER] and reaches(bench, SERVER)
            assert bench.status()["engine"]
        finally:
            hostile.kill()


def told(bench: Bench) -> str:
    """Return what status says of answers that changed nothing."""
    return next((warning for warning in bench.status()["warnings"] if "answers of name servers" in warning), "")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "192.0.2.1", "fe80::1", "224.0.0.1"])
def test_a_name_is_no_way_to_this_host(bench: Bench, address: str) -> None:
    """Rebinding: an answer that means this host, its link or a multicast is dropped, its other addresses are not."""
    with name_server(bench, {NAME: (SERVER, address), "only.example": (address,)}):
        bench.up(policy=policy(NAME, "only.example"))
        assert eventually(lambda: state(bench)["addresses"])
        assert state(bench)["addresses"] == [SERVER]
        assert eventually(lambda: state(bench, "only.example")["error"] not in (None, "not looked up yet"))
        assert state(bench, "only.example")["addresses"] == []


def test_the_hosts_file_is_believed_before_dns(bench: Bench, tmp_path: Path) -> None:
    """/etc/hosts is the machine's own: its addresses count at once, also loopback ones; a change is picked up."""
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{SERVER} {NAME}\n")
    bench.peer("tcp-echo", "0.0.0.0", 7000)
    more_addresses(bench, SECOND)
    done = bench.try_up(policy(NAME), binds={"/etc/hosts": hosts})
    assert done.returncode == 0, done.stderr
    bench.status()
    assert reaches(bench, SERVER), "known at up"
    hosts.write_text(f"127.0.0.1 localhost\n{SECOND} {NAME}\n")
    assert eventually(lambda: reaches(bench, SECOND))
    assert not reaches(bench, SERVER)


def test_a_flapping_name_leaves_the_right_final_state(bench: Bench) -> None:
    """Answers that change all the time: the Engine keeps up, and the last one is what is enforced."""
    more_addresses(bench, SECOND)
    bench.peer("tcp-echo", "0.0.0.0", 7000)
    with name_server(bench, {NAME: (SERVER,)}, ttl=0) as zone:
        bench.up(policy=policy(NAME))
        until = time.monotonic() + 5 * PATIENCE
        turn(zone, until)
        zone.answer({NAME: (SECOND,)})
        assert eventually(lambda: reaches(bench, SECOND) and not reaches(bench, SERVER))


def turn(zone: Zone, until: float) -> None:
    """Change the answer to and fro."""
    while time.monotonic() < until:
        for address in (SECOND, SERVER):
            zone.answer({NAME: (address,)})
