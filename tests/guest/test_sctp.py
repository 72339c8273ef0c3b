"""SCTP: a protocol of its own, judged packet by packet like a datagram's flow, with the owner of its socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.bench import CLIENT, CLIENT6, DENY_ALL, INTERPRETER, SERVER, SERVER6, Bench
from tests.e2e.child import Child
from tests.e2e.launch import start
from tests.guest.series import series

SCTP = Path(__file__).with_name("sctp.py")
PORT = 7400
HANDED_ON = (7, 0)
"""The series that hands a listener's owner on to the sockets it accepts (or one somewhat before it)."""


def sender(bench: Bench, program: str, *words: object, outside: bool = False) -> Child:
    """Start one; ``outside``: in the unfiltered world."""
    if outside:
        return start(bench, program, *words, script=SCTP, netns="server", cgroup=bench.cgroup.parent)
    return start(bench, program, *words, script=SCTP)


@pytest.mark.parametrize("remote", [SERVER, SERVER6])
def test_an_association_is_its_programs(bench: Bench, remote: str) -> None:
    """Outwards the socket's owner is known: permitted for the one, nothing leaves for the other."""
    good, bad = bench.program("good"), bench.program("bad")
    bench.up(policy=f'{DENY_ALL}[[application]]\npath = "{good}"\ninternet-out = "permit"\nlog = true\n')
    listener = sender(bench, str(INTERPRETER), "listen", remote, PORT, outside=True)
    listener.event("ready")
    assert not sender(bench, bad, "connect", remote, PORT).line(15).ok
    bench.expect_log(application=bad, action="deny", id="default/internet-out")
    found = sender(bench, good, "connect", remote, PORT).line(15)
    assert (found.ok, found.data) == (True, "hello"), found
    bench.expect_hits(f"application/{good}/internet-out")
    bench.expect_log(application=good, action="permit", direction="out")


def test_a_rule_may_name_the_protocol_and_its_ports(bench: Bench) -> None:
    """protocol = 132 with a remote port: SCTP packets have ports, and rules see them."""
    rule = (
        '[[packet-filter]]\ndescription = "sctp"\naction = "permit"\ndirection = "out"\nprotocol = 132\n'
        f"remote = {{ port = {PORT} }}\n"
    )
    bench.up(policy=rule + DENY_ALL)
    for port, ok in ((PORT, True), (PORT + 1, False)):
        listener = sender(bench, str(INTERPRETER), "listen", SERVER, port, outside=True)
        listener.event("ready")
        assert sender(bench, bench.program("any"), "connect", SERVER, port).line(15).ok is ok
    bench.expect_hits("packet-filter/sctp")


@pytest.mark.parametrize("local", [CLIENT, CLIENT6])
def test_an_accepted_socket_is_its_listeners_or_nobodys(bench: Bench, local: str) -> None:
    """Where the kernel hands a listener's owner on, the listener's rule counts; else the default, and no free pass.

    6.12 does not hand it on to SCTP's accepted sockets, 7.3 does.
    """
    server = bench.program("server")
    permitted = f'[[application]]\npath = "{server}"\ninternet-in = "permit"\nlog = true\n'
    bench.up(policy=DENY_ALL + permitted)
    listener = sender(bench, server, "listen", local, PORT)
    listener.event("ready")
    found = sender(bench, str(INTERPRETER), "connect", local, PORT, outside=True).line(15)
    bench.expect_hits(f"application/{server}/internet-in")
    if series() >= HANDED_ON:
        assert found.ok, found
        bench.expect_log(application=server, action="permit", direction="in")
        assert not [one for one in bench.log() if one["application"] == "unknown"]
        return
    assert not found.ok, found
    bench.expect_log(application="unknown", action="deny")
    listener.stop()
    # which of its packets comes first, in or out, is a matter of time: both ways
    bench.reload(DENY_ALL.replace('internet-in = "deny"', 'internet-in = "permit"').replace(
        'internet-out = "deny"', 'internet-out = "permit"') + permitted)  # fmt: skip
    sender(bench, server, "listen", local, PORT + 1).event("ready")  # the other one's association lingers
    assert sender(bench, str(INTERPRETER), "connect", local, PORT + 1, outside=True).line(15).ok
