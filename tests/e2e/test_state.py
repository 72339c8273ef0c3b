"""State: what belongs to a permitted flow passes, what does not is judged; every default cell denies here."""

from __future__ import annotations

import pytest

from .bench import CLIENT, CLIENT6, DENY_ALL, SERVER, SERVER6, Bench

REMOTES = pytest.mark.parametrize("remote", [SERVER, SERVER6])
BACK = {SERVER: CLIENT, SERVER6: CLIENT6}


def only_out(bench: Bench, extra: str = "") -> str:
    """Return a policy where one program may initiate towards the Internet, and nothing else may happen."""
    return f'{DENY_ALL}[[application]]\npath = "{bench.program("good")}"\ninternet-out = "permit"\nlog = true\n{extra}'


@REMOTES
def test_a_connection_opens_talks_and_closes_cleanly(bench: Bench, remote: str) -> None:
    """State, TCP: until the socket is gone; the server sees the end."""
    bench.up(policy=only_out(bench))
    server = bench.peer("tcp-echo", remote, 7000)
    live = bench.start(bench.program("good"), "tcp-session", remote, 7000)
    assert live.line().ok
    for text in ("one", "two", "three"):
        assert live.say(f"echo {text}").data == {"echo": text}
    server.event("accepted")
    assert live.say("close").ok
    server.event("eof")
    path = bench.program("good")
    bench.expect_hits(f"application/{path}/internet-out")
    assert bench.hits(f"application/{path}/internet-out") == 1
    assert bench.hits("default/internet-in") == 0


@REMOTES
def test_an_incoming_connection_is_served_and_closed_cleanly(bench: Bench, remote: str) -> None:
    """State, TCP: a flow permitted inwards may answer although nothing may initiate outwards; one hit for the flow."""
    path = bench.program("server")
    bench.up(policy=f'{DENY_ALL}[[application]]\npath = "{path}"\ninternet-in = "permit"\n')
    local = BACK[remote]
    server = bench.serve(path, "tcp-echo", local, 7001)
    assert bench.outsider("tcp-connect", local, 7001, "--text", "hello").ok
    server.event("accepted")
    server.event("eof")
    assert bench.run(path, "tcp-connect", remote, 7000).errno == "EPERM"
    bench.expect_hits(f"application/{path}/internet-in")
    assert bench.hits(f"application/{path}/internet-in") == 1
    bench.expect_hits("default/internet-out")


@REMOTES
def test_a_reply_passes_and_an_unsolicited_datagram_does_not(bench: Bench, remote: str) -> None:
    """State, UDP: per socket and remote point; another port of the same host is no reply."""
    bench.up(policy=only_out(bench))
    bench.peer("udp-echo", remote, 7000)
    live = bench.start(bench.program("good"), "udp-session", remote, 7000)
    port = live.line().data["local"][1]
    assert live.say("echo one").data["text"] == "one"
    bench.outsider("udp-send", BACK[remote], port, "--text", "stranger", "--local-port", 7002)
    assert live.say("receive").errno == "ETIMEDOUT"
    bench.expect_hits("default/internet-in")
    bench.outsider("udp-send", BACK[remote], port, "--text", "friend")
    assert live.say("echo two").data["text"] == "two"


def test_a_late_second_answer_within_state_passes(bench: Bench) -> None:
    """State, UDP: for 30 s, so more than one datagram of the same remote point passes."""
    bench.up(policy=only_out(bench))
    bench.peer("udp-echo", SERVER, 7000)
    live = bench.start(bench.program("good"), "udp-session", SERVER, 7000)
    assert live.line().ok
    for text in ("one", "two"):
        assert live.say(f"echo {text}").data["text"] == text
    path = bench.program("good")
    bench.expect_hits(f"application/{path}/internet-out")
    assert bench.hits(f"application/{path}/internet-out") == 1


@REMOTES
@pytest.mark.parametrize("verb", ["raw-icmp", "ping"])
def test_a_ping_is_answered(bench: Bench, verb: str, remote: str) -> None:
    """State, ICMP echo: (socket, remote, id); here the application's cell permits the request."""
    bench.up(policy=only_out(bench))
    answered = bench.run(bench.program("good"), verb, remote)
    assert answered.ok, answered
    denied = bench.run(bench.program("bad"), verb, remote)
    assert not denied.ok, denied
    bench.expect_hits("default/internet-out")


def test_predefined_ping_out_permits_a_ping(bench: Bench) -> None:
    """Predefined ping-out: permitted towards the Internet by default, answer by state, for every application."""
    bench.up(policy=DENY_ALL.replace("enabled = false", "enabled = true"))
    assert bench.run(bench.program("any"), "ping", SERVER).ok
    bench.expect_hits("predefined/ping-out/internet")


def test_a_reload_that_denies_cuts_a_live_connection(bench: Bench) -> None:
    """State: after a policy change a flow is judged again in its original direction, at its next packet."""
    bench.up(policy=only_out(bench))
    bench.peer("tcp-echo", SERVER, 7000)
    live = bench.start(bench.program("good"), "tcp-session", SERVER, 7000)
    assert live.line().ok and live.say("echo one").ok
    generation = bench.status()["generation"]
    bench.reload(DENY_ALL)
    assert bench.status()["generation"] != generation
    assert not live.say("echo two").ok
    bench.expect_hits("default/internet-out")


def test_a_reload_that_still_permits_keeps_a_live_connection(bench: Bench) -> None:
    """State: judged again and permitted again, in both directions, without a gap."""
    bench.up(policy=only_out(bench))
    bench.peer("tcp-echo", SERVER, 7000)
    live = bench.start(bench.program("good"), "tcp-session", SERVER, 7000)
    assert live.line().ok and live.say("echo one").ok
    other = f'[[application]]\npath = "{bench.program("new")}"\ninternet-out = "permit"\n'
    bench.reload(only_out(bench, other))
    assert live.say("echo two").data == {"echo": "two"}
    assert bench.run(bench.program("new"), "tcp-connect", SERVER, 7000, "--text", "three").ok
    assert bench.hits("default/internet-in") == 0


def test_a_reload_keeps_an_incoming_connection_incoming(bench: Bench) -> None:
    """State: the original direction is kept; only inwards is permitted, and the server still answers."""
    path = bench.program("server")
    rule = f'[[application]]\npath = "{path}"\ninternet-in = "permit"\n'
    bench.up(policy=DENY_ALL + rule)
    bench.serve(path, "tcp-echo", CLIENT, 7001)
    live = bench.start(bench.program("free"), "tcp-session", CLIENT, 7001, netns="server", cgroup=False)
    assert live.line().ok and live.say("echo one").ok
    bench.reload(DENY_ALL + rule + f'[[application]]\npath = "{bench.program("new")}"\ninternet-out = "permit"\n')
    assert live.say("echo two").data == {"echo": "two"}
    bench.reload(DENY_ALL)
    assert not live.say("echo three").ok
    bench.expect_hits("default/internet-in")


def test_the_sockets_owner_stays_the_one_that_connected(bench: Bench) -> None:
    """Owner of a flow: with a rule for one user, another user's program of the same file is not matched."""
    rule = (
        f'[[packet-filter]]\ndescription = "User"\napplication = "{bench.program("good")}"\nuser = 65534\n'
        'direction = "out"\naction = "permit"\nlog = true\n'
    )
    bench.up(policy=DENY_ALL + rule)
    bench.peer("tcp-echo", SERVER, 7000)
    assert bench.run(bench.program("good"), "tcp-connect", SERVER, 7000, "--text", "x", user=65534).ok
    assert bench.run(bench.program("good"), "tcp-connect", SERVER, 7000).errno == "EPERM"
    bench.expect_hits("packet-filter/User")
    bench.expect_log(id="packet-filter/User", action="permit", application=bench.program("good"))


@REMOTES
def test_a_connection_from_before_up_is_adopted(bench: Bench, remote: str) -> None:
    """Adopted at up: TCP without a listener on its local port counts as outgoing, of its owner."""
    bench.peer("tcp-echo", remote, 7000)
    good = bench.start(bench.program("good"), "tcp-session", remote, 7000)
    bad = bench.start(bench.program("bad"), "tcp-session", remote, 7000)
    assert good.line().ok and bad.line().ok
    bench.up(policy=only_out(bench))
    assert good.say("echo one").data == {"echo": "one"}
    assert not bad.say("echo one").ok
    bench.expect_hits(f"application/{bench.program('good')}/internet-out")
    bench.expect_log(application=bench.program("bad"), direction="out", action="deny", hook="egress")


@REMOTES
def test_a_server_from_before_up_goes_on_serving(bench: Bench, remote: str) -> None:
    """Adopted at up: a listener, and what it accepted, count as incoming; denied ones are cut."""
    local = BACK[remote]
    for name, port in (("good", 7001), ("bad", 7002)):
        bench.serve(bench.program(name), "tcp-echo", local, port)
    free = bench.program("free")
    served = bench.start(free, "tcp-session", local, 7001, netns="server", cgroup=False)
    cut = bench.start(free, "tcp-session", local, 7002, netns="server", cgroup=False)
    assert served.line().ok and cut.line().ok
    path = bench.program("good")
    bench.up(policy=f'{DENY_ALL}[[application]]\npath = "{path}"\ninternet-in = "permit"\n')
    assert served.say("echo one").data == {"echo": "one"}
    assert bench.outsider("tcp-connect", local, 7001, "--text", "new").ok
    assert not cut.say("echo one").ok
    bench.expect_hits(f"application/{path}/internet-in", 2)
    bench.expect_log(application=bench.program("bad"), direction="in", action="deny")


def test_a_connected_datagram_socket_from_before_up_is_its_owners(bench: Bench) -> None:
    """Adopted at up: a connected UDP socket went out; its owner is the process that has it."""
    bench.peer("udp-echo", SERVER, 7000)
    good = bench.start(bench.program("good"), "udp-connected-session", SERVER, 7000)
    bad = bench.start(bench.program("bad"), "udp-connected-session", SERVER, 7000)
    assert good.line().ok and bad.line().ok
    bench.up(policy=only_out(bench))
    assert good.say("echo one").data == {"echo": "one"}
    assert bad.say("echo one").errno == "EPERM"


@REMOTES
def test_denied_live_connections_end_and_permitted_ones_do_not(bench: Bench, remote: str) -> None:
    """A fresh up, and a reload: a denied connection ends at once at this end; a permitted one never notices."""
    bench.peer("tcp-echo", remote, 7000)
    good = bench.start(bench.program("good"), "tcp-session", remote, 7000)
    bad = bench.start(bench.program("bad"), "tcp-waiting", remote, 7000)
    other = bench.start(bench.program("bad"), "tcp-waiting", remote, 7000, cgroup=False)
    assert good.line().ok and bad.line().ok and other.line().ok
    bench.up(policy=only_out(bench))
    bad.event("eof")
    assert good.say("echo one").data == {"echo": "one"}
    waiting = bench.start(bench.program("good"), "tcp-waiting", remote, 7000)
    assert waiting.line().ok
    bench.reload(only_out(bench, "# the same"))
    assert waiting.quiet(0.5)
    bench.reload(DENY_ALL)
    waiting.event("eof")
    assert other.quiet(0.2), "it runs outside the cgroup"
