"""The match fields beyond Kerio's: the user, and the cgroup, alone and together with an application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .bench import CLIENT, DENY_ALL, SENDER, SERVER, SERVER6, Bench
from .child import Child, Result
from .launch import peer, run, start
from .tools import eventually

REMOTES = pytest.mark.parametrize("remote", [SERVER, SERVER6])
NOBODY = 65534


class Unit:
    """A cgroup below the firewalled one, as systemd makes for a service."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench = bench
        self.path = bench.cgroup / name
        self.name = f"{bench.cgroup_name}/{name}"
        self.path.mkdir()

    def connect(self, program: str, remote: str = SERVER) -> Result:
        """Return how a connection of a program inside went."""
        return run(self.bench, program, "tcp-connect", remote, 7000, "--text", "x", script=SENDER, cgroup=self.path)

    def listen(self, program: str, port: int) -> Child:
        """Return a server inside that listens already."""
        child = start(self.bench, program, "tcp-echo", CLIENT, port, script=SENDER, cgroup=self.path)
        child.event("ready")
        return child

    def remove(self) -> None:
        """Remove the cgroup and what is below it, once the last processes have left."""
        for path in (*self.path.glob("*/"), self.path):
            assert eventually(lambda path=path: gone(path)), f"{path} is still busy"  # type: ignore[misc]


def gone(cgroup: Path) -> bool:
    """Remove a cgroup; false while its last processes are still leaving."""
    try:
        cgroup.rmdir()
    except OSError:
        return not cgroup.exists()
    return True


@pytest.fixture
def unit(bench: Bench) -> Iterator[Unit]:
    """Give a cgroup below the firewalled one, made before ``up``; the children end before it is removed."""
    made = Unit(bench, "unit")
    yield made
    for child in bench.children:
        child.stop()
    made.remove()


def rule(bench: Bench, *fields: str) -> str:
    """Return a policy where only flows with these fields pass."""
    lines = "".join(f"{field}\n" for field in fields)
    return f'{DENY_ALL}[[packet-filter]]\ndescription = "Field"\naction = "permit"\nlog = true\n{lines}'


@REMOTES
def test_a_rule_for_a_user_alone(bench: Bench, remote: str) -> None:
    """User: the real uid, whatever the program; both initiators, since no direction is named."""
    bench.up(policy=rule(bench, f"user = {NOBODY}"))
    bench.peer("tcp-echo", remote, 7000)
    bench.peer("udp-echo", remote, 7000)
    path = bench.program("any")
    for verb, more in (("tcp-connect", ()), ("udp-send", ("--expect",)), ("udp-connected", ("--expect",))):
        asked = (verb, remote, 7000, "--text", "x", *more)
        assert bench.run(path, *asked, user=NOBODY).ok, verb
        assert bench.run(path, *asked).errno == "EPERM", verb
        assert bench.run(path, *asked, user=1).errno == "EPERM", verb
    assert bench.hits("packet-filter/Field") == 3
    bench.expect_log(id="default/internet-out", application=path, user="root", action="deny")


def test_a_rule_for_a_user_holds_for_what_the_user_serves(bench: Bench) -> None:
    """User, in: that of the process that bound the listener, or the datagram socket."""
    bench.up(policy=rule(bench, 'user = "nobody"', 'direction = "in"'))
    path = bench.program("any")
    for port, user in ((7001, NOBODY), (7002, None)):
        for verb in ("tcp-echo", "udp-echo"):
            bench.serve(path, verb, CLIENT, port, user=user)
        for asked in (("tcp-connect", CLIENT, port), ("udp-send", CLIENT, port, "--expect")):
            assert bench.outsider(*asked, "--text", "x").ok is (user == NOBODY), (asked, user)
    assert bench.hits("packet-filter/Field") == 2
    bench.expect_hits("default/internet-in", 2)


def test_a_user_and_an_application_together(bench: Bench) -> None:
    """User: taken together with the application; a rule with both needs both."""
    good, other = bench.program("good"), bench.program("other")
    bench.up(policy=rule(bench, f"user = {NOBODY}", f'application = "{good}"'))
    bench.peer("tcp-echo", SERVER, 7000)
    asked = ("tcp-connect", SERVER, 7000, "--text", "x")
    assert bench.run(good, *asked, user=NOBODY).ok
    assert bench.run(good, *asked).errno == "EPERM"
    assert bench.run(other, *asked, user=NOBODY).errno == "EPERM"
    assert bench.run(other, *asked).errno == "EPERM"
    assert bench.hits("packet-filter/Field") == 1
    bench.expect_hits("default/internet-out", 3)


@REMOTES
def test_a_rule_for_a_cgroup_alone(bench: Bench, unit: Unit, remote: str) -> None:
    """Cgroup: the socket's, whatever the program; one beside it, and the one above it, are not matched."""
    beside = Unit(bench, "unit-beside")
    bench.up(policy=rule(bench, f'cgroup = "{unit.name}"'))
    bench.peer("tcp-echo", remote, 7000)
    path = bench.program("any")
    assert unit.connect(path, remote).ok
    assert beside.connect(path, remote).errno == "EPERM"
    assert bench.run(path, "tcp-connect", remote, 7000).errno == "EPERM"
    beside.remove()
    assert bench.hits("packet-filter/Field") == 1
    bench.expect_hits("default/internet-out", 2)


def test_a_rule_for_a_cgroup_includes_what_is_below(bench: Bench, unit: Unit) -> None:
    """Cgroup: descendants included."""
    below = Unit(bench, "unit/below")
    bench.up(policy=rule(bench, f'cgroup = "{unit.name}"'))
    bench.peer("tcp-echo", SERVER, 7000)
    assert below.connect(bench.program("any")).ok
    assert unit.connect(bench.program("any")).ok
    assert bench.hits("packet-filter/Field") == 2


def test_a_rule_for_a_cgroup_holds_for_what_it_serves(bench: Bench, unit: Unit) -> None:
    """Cgroup, in: the listener's socket was created in it."""
    bench.up(policy=rule(bench, f'cgroup = "{unit.name}"', 'direction = "in"'))
    unit.listen(bench.program("any"), 7001)
    bench.serve(bench.program("any"), "tcp-echo", CLIENT, 7002)
    assert bench.outsider("tcp-connect", CLIENT, 7001, "--text", "x").ok
    assert not bench.outsider("tcp-connect", CLIENT, 7002, "--text", "x").ok
    assert bench.hits("packet-filter/Field") == 1
    bench.expect_hits("default/internet-in")


def test_a_cgroup_and_an_application_together(bench: Bench, unit: Unit) -> None:
    """Cgroup: a rule with an application, too, needs both."""
    good = bench.program("good")
    bench.up(policy=rule(bench, f'cgroup = "{unit.name}"', f'application = "{good}"'))
    bench.peer("tcp-echo", SERVER, 7000)
    assert unit.connect(good).ok
    assert unit.connect(bench.program("other")).errno == "EPERM"
    assert bench.run(good, "tcp-connect", SERVER, 7000).errno == "EPERM"
    assert bench.hits("packet-filter/Field") == 1


def test_a_cgroup_made_below_after_up_is_included(bench: Bench, unit: Unit) -> None:
    """Cgroup: descendants included, also one that a service makes for itself later; from its first packet."""
    bench.up(policy=rule(bench, f'cgroup = "{unit.name}"'))
    bench.peer("tcp-echo", SERVER, 7000)
    late = Unit(bench, "unit/late")
    found = late.connect(bench.program("any"))
    assert found.ok, found
    assert bench.hits("packet-filter/Field") == 1


def test_a_restarted_unit_matches_from_its_first_packet(bench: Bench, unit: Unit) -> None:
    """Cgroup: named by path, so that a restarted unit, which is a new cgroup, matches from its first packet."""
    bench.up(policy=rule(bench, f'cgroup = "{unit.name}"'))
    bench.peer("tcp-echo", SERVER, 7000)
    assert unit.connect(bench.program("any")).ok
    unit.remove()
    unit.path.mkdir()
    found = unit.connect(bench.program("any"))
    assert found.ok, found
    assert bench.hits("packet-filter/Field") == 2


def test_a_unit_that_restarts_all_the_time_is_always_matched(bench: Bench, unit: Unit) -> None:
    """Cgroup, from its first packet: connecting at once in a cgroup just made passes, a hundred times out of a hundred.

    The same in a cgroup of another name, beside it, is denied as often.
    """
    bench.up(policy=rule(bench, f'cgroup = "{unit.name}"'))
    peer(bench, "absorb", SERVER, 7000)
    unit.remove()
    for path, expected in ((unit.path, "none"), (unit.path.with_name("other"), "EPERM")):
        found = run(bench, bench.program("any"), "restart", SERVER, 7000, "--count", 100, "--text", path)
        assert found.data == {expected: 100}, (path, found)
    assert bench.hits("packet-filter/Field") == 100
    bench.expect_hits("default/internet-out", 100)
