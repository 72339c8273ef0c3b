"""What connect() has settled counts for that connection, for all of its packets, and for nothing else."""

from __future__ import annotations

import pytest

from .bench import CLIENT, CLIENT6, DENY_ALL, SERVER, SERVER6, Bench
from .launch import run, serve

REMOTES = pytest.mark.parametrize("remote", [SERVER, SERVER6])
ADDRESSES = pytest.mark.parametrize("local", [CLIENT, CLIENT6])


def rule(description: str, direction: str, point: str = "") -> str:
    """Return a packet filter that permits TCP in a direction."""
    head = f'[[packet-filter]]\ndescription = "{description}"\ndirection = "{direction}"\nprotocol = "tcp"\n'
    return f'{head}action = "permit"\n{point}'


@REMOTES
def test_each_connection_is_one_flow(bench: Bench, remote: str) -> None:
    """A program connects to the same point by one socket after the other: one hit each, however it was judged."""
    bench.up(policy=rule("Out", "out") + DENY_ALL)
    bench.peer("tcp-echo", remote, 7000)
    found = run(bench, bench.program("any"), "connect-often", remote, 7000, "--count", 5, "--text", "x")
    assert found.data == {"echoes": ["x"] * 5}
    bench.expect_hits("packet-filter/Out", 5)
    assert bench.hits("packet-filter/Out") == 5


@REMOTES
def test_a_socket_that_connects_again_is_judged_again(bench: Bench, remote: str) -> None:
    """To a point that was settled before, to one that is denied, and back: one verdict says nothing of the other."""
    bench.up(policy=rule("Out", "out", "remote = { port = 7000 }\n") + DENY_ALL)
    bench.peer("tcp-echo", remote, 7000)
    bench.peer("tcp-echo", remote, 7001)
    found = run(bench, bench.program("any"), "connect-again", remote, 7000, "--text", "x")
    assert found.data == {"said": ["x", "x", "EPERM", "x"]}
    bench.expect_hits("packet-filter/Out", 3)
    assert bench.hits("packet-filter/Out") == 3


@ADDRESSES
@pytest.mark.parametrize("permitted", [True, False], ids=["permitted", "denied"])
def test_a_socket_that_failed_to_connect_can_listen(bench: Bench, local: str, permitted: bool) -> None:
    """What no packet was sent for is no flow; and what comes to the socket then is judged as coming in."""
    bench.up(policy=rule("Out", "out") + permitted * rule("In", "in", "local = { port = 7000 }\n") + DENY_ALL)
    serve(bench, bench.program("any"), "listen-instead", local, 7000)
    found = bench.outsider("tcp-connect", local, 7000, "--text", "hello", "--deadline", 1)
    assert found.ok == permitted, found
    assert not permitted or found.data["echo"] == "hello"
    judged = "packet-filter/In" if permitted else "default/internet-in"
    bench.expect_hits(judged)
    assert bench.hits(judged) == 1
    assert bench.hits("packet-filter/Out") == 0
