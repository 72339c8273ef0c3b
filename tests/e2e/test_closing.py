"""Connections end cleanly where every default denies: FIN, RST, TIME_WAIT, and what a dead process left to be sent."""

from __future__ import annotations

import pytest

from .bench import CLIENT, CLIENT6, DENY_ALL, SERVER, SERVER6, Bench
from .launch import peer, run, serve, start
from .tools import eventually

POINTS = pytest.mark.parametrize(("here", "there"), [(CLIENT, SERVER), (CLIENT6, SERVER6)])
HOW = ("fin", "half", "reset", "unread")


def one(bench: Bench, cell: str) -> str:
    """Return a policy where the program "good" has one cell permitted, and nothing else happens."""
    return f'{DENY_ALL}[[application]]\npath = "{bench.program("good")}"\n{cell} = "permit"\n'


def only(bench: Bench, cell: str, hits: int) -> None:
    """Fail unless that cell judged so many flows, and no other rule any."""
    expected = {f"application/{bench.program('good')}/{cell}": hits}
    found = {rule["id"]: rule["hits"] for rule in bench.status()["rules"] if rule["hits"]}
    assert found == expected, (found, bench.log())


def reconnect(bench: Bench) -> None:
    """Connect inwards three times from one and the same point; this end closes first, so TIME_WAIT is here."""
    bench.up(policy=one(bench, "internet-in") + "log = true\n")
    server = serve(bench, bench.program("good"), "accept-and-end", CLIENT, 7001, "--begun", "fin")
    for number in range(3):
        done = bench.outsider("tcp-connect", CLIENT, 7001, "--local-port", 5555, "--text", "hello")
        assert done.ok, (number, done)
        assert server.line().ok


@POINTS
def test_closing_an_outgoing_connection_denies_nothing(bench: Bench, here: str, there: str) -> None:
    """State, TCP: until the socket is gone; whichever way this end closes, or the other, the other end sees it."""
    bench.up(policy=one(bench, "internet-out"))
    server = bench.peer("tcp-echo", there, 7000)
    for how in HOW:
        done = run(bench, bench.program("good"), "connect-and-end", there, 7000, "--begun", how, "--text", "hello")
        assert done.ok, (how, done)
        assert server.event("accepted").ok, how
        end = server.line()
        assert end.errno == ("ECONNRESET" if how in ("reset", "unread") else None), (how, end)
    for number, how in enumerate(HOW):
        peer(bench, "accept-and-end", there, 7010 + number, "--begun", how)
        done = bench.run(bench.program("good"), "tcp-connect", there, 7010 + number, "--text", "hello")
        assert done.ok, (how, done)
    only(bench, "internet-out", 2 * len(HOW))


@POINTS
def test_closing_an_incoming_connection_denies_nothing(bench: Bench, here: str, there: str) -> None:
    """State, TCP: the same for what was accepted, closed by either end; nothing may be initiated outwards."""
    bench.up(policy=one(bench, "internet-in"))
    for number, how in enumerate(HOW):
        server = serve(bench, bench.program("good"), "accept-and-end", here, 7010 + number, "--begun", how)
        done = bench.outsider("tcp-connect", here, 7010 + number, "--text", "hello")
        assert done.ok, (how, done)
        assert server.line().ok, how
    only(bench, "internet-in", len(HOW))


def test_a_new_connection_may_replace_one_in_time_wait(bench: Bench) -> None:
    """State, TCP: a SYN at points that are in TIME_WAIT here begins a new connection, and nothing is denied."""
    reconnect(bench)
    only(bench, "internet-in", bench.hits(f"application/{bench.program('good')}/internet-in"))


@POINTS
def test_what_a_dead_process_left_to_send_arrives(bench: Bench, here: str, there: str) -> None:
    """State, TCP: until the socket is gone, which is after its process; its last bytes and its FIN leave."""
    bench.up(policy=one(bench, "internet-out"))
    server = peer(bench, "swallow", there, 7000)
    child = start(bench, bench.program("good"), "send-and-die", there, 7000, "--count", 100_000)
    assert child.line().ok
    assert eventually(lambda: child.process.poll() is not None)
    assert server.say("read").data == {"event": "end", "bytes": 100_000}
    only(bench, "internet-out", 1)


def test_each_connection_from_one_point_is_counted_and_logged(bench: Bench) -> None:
    """Seeing: counters are the lossless record; a connection from the points of a closed one is a flow of its own."""
    reconnect(bench)
    path = bench.program("good")
    only(bench, "internet-in", 3)
    bench.expect_log(id=f"application/{path}/internet-in", application=path, remote=f"{SERVER}:5555", count=3)
