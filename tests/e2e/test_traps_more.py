"""More of where firewalls of this kind have been wrong: sockets that change hands, other system calls, odd packets."""

from __future__ import annotations

import shutil

import pytest

from .bench import CLIENT, CLIENT6, DENY_ALL, SERVER, SERVER6, Bench
from .launch import outsider, peer, run, serve, start

REMOTES = pytest.mark.parametrize("remote", [SERVER, SERVER6])
KINDS = pytest.mark.parametrize("kind", [(), ("--datagram",)], ids=["tcp", "udp"])
PORT_RULE = '[[packet-filter]]\ndescription = "Port"\ndirection = "out"\nprotocol = ["tcp", "udp"]\n'
PORT_RULE += 'remote = { port = 7000 }\naction = "permit"\n'


def one(bench: Bench, *cells: str) -> str:
    """Return a policy where the program "good" has these cells permitted, and nothing else happens."""
    lines = "".join(f'{cell} = "permit"\n' for cell in cells)
    return f'{DENY_ALL}[[application]]\npath = "{bench.program("good")}"\n{lines}log = true\n'


def cell(bench: Bench, name: str) -> str:
    """Return the id of a cell of the program "good"."""
    return f"application/{bench.program('good')}/{name}"


def echo(kind: tuple[str, ...]) -> str:
    """Return the verb of sender.py that echoes."""
    return "udp-echo" if kind else "tcp-echo"


@pytest.mark.parametrize(
    ("giver", "taker", "begun", "kind", "passes"),
    [
        ("good", "bad", "connected", (), True),
        ("good", "bad", "connected", ("--datagram",), True),
        ("bad", "good", "connected", ("--datagram",), False),
        ("bad", "good", "created", ("--datagram",), True),
        ("good", "bad", "created", ("--datagram",), False),
        ("good", "bad", "used", ("--datagram",), False),
    ],
)
def test_a_passed_socket(bench: Bench, giver: str, taker: str, begun: str, kind: tuple[str, ...], passes: bool) -> None:
    """Owner of a flow, SCM_RIGHTS: a connected socket keeps the connector, an unconnected datagram is its sender's.

    Also where the giver has a permitted flow to the same point by the same socket ("used").
    """
    bench.up(policy=one(bench, "internet-out"))
    bench.peer(echo(kind), SERVER, 7000)
    heir = ("--heir", bench.program(taker), "--begun", begun, "--text", "hello", *kind)
    found = run(bench, bench.program(giver), "pass-socket", SERVER, 7000, *heir)
    if passes:
        assert found.ok and found.data == {"echo": "hello"}, found
        bench.expect_hits(cell(bench, "internet-out"))
        assert bench.hits("default/internet-out") == 0
    else:
        assert found.errno == "EPERM", found
        bench.expect_log(id="default/internet-out", application=bench.program("bad"), action="deny")


@KINDS
@pytest.mark.parametrize(("activator", "served"), [("good", True), ("bad", False)])
def test_an_activated_socket_is_the_activators(
    bench: Bench, activator: str, served: bool, kind: tuple[str, ...]
) -> None:
    """Owner of a flow, in: the process that bound the listener; under socket activation the activator."""
    bench.up(policy=one(bench, "internet-in"))
    heir = bench.program("bad" if activator == "good" else "good")
    service = serve(bench, bench.program(activator), "activate", CLIENT, 7001, "--heir", heir, *kind)
    asked = ("udp-send", CLIENT, 7001, "--expect") if kind else ("tcp-connect", CLIENT, 7001)
    done = bench.outsider(*asked, "--text", "hello")
    assert done.ok is served, done
    if served:
        assert service.event("served").data["text"] == done.data["echo"] == "hello"
        bench.expect_hits(cell(bench, "internet-in"))
        assert bench.hits("default/internet-in") == 0
    else:
        bench.expect_log(id="default/internet-in", application=bench.program("bad"), action="deny")
        assert bench.hits(cell(bench, "internet-in")) == 0


@KINDS
def test_what_comes_from_a_file_or_a_pipe_is_judged_too(bench: Bench, kind: tuple[str, ...]) -> None:
    """sendfile() and splice(): what a permitted socket sends arrives whole, of a denied one nothing does."""
    bench.up(policy=one(bench, "internet-out"))
    server = bench.peer(echo(kind), SERVER, 7000)
    for call in ("sendfile", "splice"):
        asked = ("from-file", SERVER, 7000, "--begun", call, "--text", "x" * 900, *kind)
        good = run(bench, bench.program("good"), *asked)
        assert good.ok and good.data == {"sent": 900, "echo": "x" * 900}, (call, good)
        server.event("received" if kind else "accepted")
        if not kind:
            server.event("eof")
        assert run(bench, bench.program("bad"), *asked).errno == "EPERM", call
        assert server.quiet(0.2), call
    bench.expect_hits("default/internet-out")


@pytest.mark.parametrize("call", ["sendfile", "splice"])
def test_a_file_to_a_connection_that_is_denied_meanwhile_stays_here(bench: Bench, call: str) -> None:
    """sendfile() and splice() into a live connection: the policy that denies it ends it; not one more byte arrives."""
    bench.up(policy=one(bench, "internet-out"))
    server = bench.peer("tcp-echo", SERVER, 7000)
    live = start(bench, bench.program("good"), "file-session", SERVER, 7000, "--begun", call)
    live.event("ready")
    server.event("accepted")
    assert live.say("one").data == {"sent": 3, "echo": "one"}
    bench.reload(DENY_ALL)
    assert live.say("two").errno == "EPIPE"
    assert server.quiet(0.2)
    bench.expect_hits("default/internet-out")


@pytest.mark.parametrize("way", [(), ("--datagram",), ("--datagram", "--begun", "created")])
def test_io_uring_is_no_way_around(bench: Bench, way: tuple[str, ...]) -> None:
    """io_uring: connect, send and sendmsg are their process's, also if a worker thread of the kernel does them."""
    bench.up(policy=one(bench, "internet-out"))
    server = bench.peer(echo(way), SERVER, 7000)
    for worker in ((), ("--worker",)):
        asked = ("by-uring", SERVER, 7000, "--text", "hello", *way, *worker)
        good = run(bench, bench.program("good"), *asked)
        assert good.ok and good.data == {"echo": "hello"}, (worker, good)
        server.event("received" if way else "accepted")
        if not way:
            server.event("eof")
        bad = run(bench, bench.program("bad"), *asked)
        assert bad.errno == "EPERM", (worker, bad)
        assert server.quiet(0.2), worker
    bench.expect_hits(cell(bench, "internet-out"), 2)
    bench.expect_log(id="default/internet-out", application=bench.program("bad"), action="deny")


def test_a_rule_for_an_icmp_type_holds_for_ping_and_raw_sockets(bench: Bench) -> None:
    """icmp-type is that of the initiating packet: echo requests leave by either kind of socket, others by none."""
    rule = '[[packet-filter]]\ndescription = "Echo"\ndirection = "out"\nprotocol = ["icmp", "icmpv6"]\n'
    bench.up(policy=f'{rule}icmp-type = "echo-request"\naction = "permit"\n{DENY_ALL}')
    path = bench.program("any")
    for remote in (SERVER, SERVER6):
        for verb in ("ping", "raw-icmp"):
            answered = bench.run(path, verb, remote)
            assert answered.ok, (verb, remote, answered)
    assert run(bench, path, "raw-timestamp", SERVER).errno == "EPERM"
    bench.expect_hits("packet-filter/Echo", 4)
    bench.expect_log(id="default/internet-out", application=path, action="deny", protocol="icmp 13")


@KINDS
@REMOTES
def test_options_in_the_header_hide_no_port(bench: Bench, remote: str, kind: tuple[str, ...]) -> None:
    """IP options, IPv6 extension headers: the port behind them is read, the answers find their flow."""
    bench.up(policy=PORT_RULE + DENY_ALL)
    for port in (7000, 7001):
        bench.peer(echo(kind), remote, port)
    path = bench.program("any")
    done = run(bench, path, "with-options", remote, 7000, "--text", "hello", *kind)
    assert done.ok and done.data == {"echo": "hello"}, done
    assert run(bench, path, "with-options", remote, 7001, "--text", "hello", *kind).errno == "EPERM"
    bench.expect_hits("packet-filter/Port")
    assert bench.hits("packet-filter/Port") == 1
    assert bench.hits("default/internet-in") == 0


def test_too_many_extension_headers_hide_nothing(bench: Bench) -> None:
    """Ports are found behind the headers that are followed; a packet with more of them is dropped, whatever permits."""
    bench.up(policy=DENY_ALL.replace('internet-out = "deny"', 'internet-out = "permit"'))
    for count, error in ((7, None), (8, "EPERM"), (12, "EPERM")):
        asked = ("extended", SERVER6, 7000, "--count", count, "--local-address", CLIENT6)
        assert run(bench, bench.program("any"), *asked).errno == error, count


def test_a_port_behind_extension_headers_is_read(bench: Bench) -> None:
    """A rule for a port holds for it, however many headers there are."""
    bench.up(policy=PORT_RULE + DENY_ALL)
    path = bench.program("any")
    for count, port, error in ((0, 7000, None), (4, 7000, None), (4, 7001, "EPERM"), (12, 7000, "EPERM")):
        asked = ("extended", SERVER6, port, "--count", count, "--local-address", CLIENT6)
        done = run(bench, path, *asked)
        assert done.errno == error, (count, port, done)
    bench.expect_hits("packet-filter/Port")
    bench.expect_hits("default/internet-out")


def test_a_later_fragment_matches_no_rule_that_names_ports(bench: Bench) -> None:
    """Fragments made by hand: the first has its port, a later one has none and goes on down the list."""
    bench.up(policy=PORT_RULE + DENY_ALL)
    path = bench.program("any")
    asked = ("--local-address", CLIENT, "--count")
    assert run(bench, path, "fragment", SERVER, 7000, *asked, 0).ok
    assert run(bench, path, "fragment", SERVER, 7001, *asked, 0).errno == "EPERM"
    assert run(bench, path, "fragment", SERVER, 7000, *asked, 8).errno == "EPERM"
    bench.expect_hits("packet-filter/Port")


def test_both_ends_may_open_at_once(bench: Bench) -> None:
    """Simultaneous open: the socket began it, so what comes in is state, although nothing may be initiated inwards."""
    bench.up(policy=one(bench, "trusted-out"))
    for point in (CLIENT, CLIENT6, "127.0.0.1", "::1"):
        asked = ("self-connect", point, 7003, "--text", "hello")
        done = run(bench, bench.program("good"), *asked)
        assert done.ok and done.data == {"echo": "hello"}, (point, done)
        assert run(bench, bench.program("bad"), *asked).errno == "EPERM", point
    bench.expect_hits("default/trusted-out", 4)
    assert bench.hits(cell(bench, "trusted-out")) == 4
    assert bench.hits("default/trusted-in") == bench.hits(cell(bench, "trusted-in")) == 0


GROUPS = pytest.mark.parametrize(
    ("group", "here", "there"), [("239.255.255.250", CLIENT, SERVER), ("ff02::fb", CLIENT6, SERVER6)]
)


@GROUPS
def test_answers_to_a_multicast_need_a_rule(bench: Bench, group: str, here: str, there: str) -> None:
    """mDNS, SSDP: the question is the application's, its unicast answers are no state: write a rule."""
    rule = '[[packet-filter]]\ndescription = "Answers"\ndirection = "in"\nprotocol = "udp"\naction = "permit"\n'
    rule += f'remote = {{ address = "{there}", port = 1900 }}\n'
    bench.up(policy=one(bench, "internet-out"))
    server = peer(bench, "multicast-echo", group, 1900)
    asked = ("multicast-send", group, 1900, "--datagram", "--local-address", here, "--text", "who")
    assert run(bench, bench.program("good"), *asked).errno == "ETIMEDOUT"
    assert server.event("received").data["text"] == "who"
    assert run(bench, bench.program("bad"), *asked).errno == "EPERM"
    bench.expect_hits("default/internet-in")
    bench.reload(one(bench, "internet-out") + rule)
    answered = run(bench, bench.program("good"), *asked)
    assert answered.ok and answered.data["echo"] == "who", answered
    bench.expect_hits("packet-filter/Answers")
    bench.expect_hits(cell(bench, "internet-out"), 2)


@GROUPS
def test_a_multicast_leaves_towards_its_adapters_own_zone(bench: Bench, group: str, here: str, there: str) -> None:
    """Zone of a flow, multicast: out, by the sending adapter's own address; in, by the source."""
    trusted = f'[[trusted]]\ndescription = "Ours"\naddress = "{here}"\n'
    bench.up(policy=trusted + one(bench, "trusted-out", "internet-in"))
    server = peer(bench, "multicast-echo", group, 1900)
    asked = ("multicast-send", group, 1900, "--datagram", "--local-address", here, "--text", "who")
    assert run(bench, bench.program("good"), *asked).ok
    assert server.event("received").ok
    bench.expect_hits(cell(bench, "trusted-out"))
    bench.expect_hits(cell(bench, "internet-in"))


@GROUPS
def test_a_multicast_that_comes_in_is_each_listeners_own(bench: Bench, group: str, here: str, there: str) -> None:
    """Owner of a flow, in: of two listeners in a group one hears it, and its unicast answer is a flow of its own."""
    bench.up(policy=one(bench, "internet-in"))
    good = serve(bench, bench.program("good"), "multicast-echo", group, 1900)
    bad = serve(bench, bench.program("bad"), "multicast-echo", group, 1900)
    asked = ("multicast-send", group, 1900, "--datagram", "--local-address", there, "--text", "who")
    assert outsider(bench, *asked).errno == "ETIMEDOUT"
    assert good.event("received").data["text"] == "who"
    assert good.line().errno == "EPERM"
    assert bad.quiet(0.2)
    bench.expect_hits(cell(bench, "internet-in"))
    bench.expect_hits("default/internet-out")
    bench.expect_log(id="default/internet-in", application=bench.program("bad"), action="deny")


def test_a_dhcp_answer_from_another_address_passes(bench: Bench) -> None:
    """Predefined dhcp, both ways without state: the question is a broadcast, the answer comes from the server."""
    bench.up(policy=DENY_ALL.replace("enabled = false", "enabled = true"))
    bench.peer("udp-echo", "0.0.0.0", 67)
    path = bench.program("any")
    asked = ("255.255.255.255", 67, "--broadcast", "--local-address", CLIENT, "--expect")
    assert bench.run(path, "udp-send", *asked, "--local-port", 68).ok
    assert bench.run(path, "udp-send", *asked, "--local-port", 69).errno == "ETIMEDOUT"
    bench.expect_hits("predefined/dhcp/internet", 2)
    bench.expect_hits("default/internet-in")


def test_a_program_that_lived_two_milliseconds_is_named(bench: Bench) -> None:
    """Owner of a flow: a shell that connects and ends is in the log by its path, when it is long gone."""
    good, bad = bench.programs / "good", bench.programs / "bad"
    for path in (good, bad):
        shutil.copyfile("/bin/bash", path)
        path.chmod(0o755)
    bench.up(policy=one(bench, "internet-out"))
    bench.peer("tcp-echo", SERVER, 7000)
    script = f"exec 3<>/dev/tcp/{SERVER}/7000"
    assert bench.real(str(good), "-c", script).returncode == 0
    denied = bench.real(str(bad), "-c", script)
    assert denied.returncode == 1 and "Operation not permitted" in denied.stderr, denied
    bench.expect_log(id=cell(bench, "internet-out"), application=str(good), action="permit")
    bench.expect_log(id="default/internet-out", application=str(bad), action="deny")


def test_a_policy_change_under_a_live_datagram_flow(bench: Bench) -> None:
    """State: after a policy change a flow is judged again from step 1 in its original direction, at its next packet."""
    bench.up(policy=one(bench, "internet-out"))
    server = bench.peer("udp-echo", SERVER, 7000)
    live = bench.start(bench.program("good"), "udp-session", SERVER, 7000)
    port = live.line().data["local"][1]
    late = ("udp-send", CLIENT, port, "--local-port", 7000, "--text", "late")
    assert live.say("echo one").data["text"] == "one"
    other = f'[[application]]\npath = "{bench.program("new")}"\ninternet-in = "permit"\n'
    bench.reload(one(bench, "internet-out") + other)
    server.stop()
    assert bench.outsider(*late).ok
    assert live.say("receive").data["text"] == "late"
    bench.reload(one(bench, "internet-in"))
    assert bench.outsider(*late).ok
    assert live.say("receive").errno == "ETIMEDOUT"
    bench.expect_hits("default/internet-out")
    assert bench.hits(cell(bench, "internet-in")) == 0
    assert live.say("echo two").errno == "EPERM"
    bench.peer("udp-echo", SERVER, 7000)
    bench.reload(one(bench, "internet-out"))
    assert live.say("echo three").data["text"] == "three"


def test_a_policy_change_under_a_live_incoming_datagram_flow(bench: Bench) -> None:
    """State: the same for a flow that came in; its answers leave although nothing may be initiated outwards."""
    bench.up(policy=one(bench, "internet-in"))
    bench.serve(bench.program("good"), "udp-echo", CLIENT, 7001)
    live = bench.start(bench.program("free"), "udp-session", CLIENT, 7001, netns="server", cgroup=False)
    assert live.line().ok and live.say("echo one").data["text"] == "one"
    other = f'[[application]]\npath = "{bench.program("new")}"\ninternet-in = "permit"\n'
    bench.reload(one(bench, "internet-in") + other)
    assert live.say("echo two").data["text"] == "two"
    assert bench.hits("default/internet-out") == 0
    bench.reload(one(bench, "internet-out"))
    assert live.say("echo three").errno == "ETIMEDOUT"
    bench.expect_hits("default/internet-in")
    assert bench.hits(cell(bench, "internet-out")) == 0


def test_a_flood_of_denied_attempts_does_not_touch_a_permitted_flow(bench: Bench) -> None:
    """10,000 denied attempts per second: each is refused, what is permitted talks on and connects anew."""
    bench.up(policy=one(bench, "internet-out"))
    bench.peer("tcp-echo", SERVER, 7000)
    bench.peer("udp-echo", SERVER, 7000)
    good = bench.program("good")
    live = [bench.start(good, verb, SERVER, 7000) for verb in ("tcp-session", "udp-session")]
    assert all(child.line().ok and child.say("echo before").ok for child in live)
    flood = start(bench, bench.program("bad"), "flood", SERVER, "--count", 20_000)
    flood.event("ready")
    for number in range(20):
        assert all(child.say(f"echo {number}").ok for child in live), number
    for number in range(3):
        assert bench.run(good, "tcp-connect", SERVER, 7000, "--text", "new").ok, number
    ended = flood.say("enough")
    assert ended.data["refused"] == ended.data["tried"] >= 20_000, ended
    assert all(child.say("echo after").ok for child in live)
    assert bench.hits(cell(bench, "internet-out")) == 5
    bench.expect_hits("default/internet-out", 20_000)
