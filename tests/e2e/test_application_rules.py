"""Each application has its own rule: what one may do, another one in the same cgroup may not."""

from __future__ import annotations

import pytest

from .bench import CLIENT, CLIENT6, DENY_ALL, SERVER, SERVER6, Bench

MAPPED = f"::ffff:{SERVER}"
REMOTES = pytest.mark.parametrize("remote", [SERVER, SERVER6, MAPPED])
LOCALS = pytest.mark.parametrize(("local", "listen"), [(CLIENT, CLIENT), (CLIENT6, CLIENT6), (CLIENT, "::")])


def policy(bench: Bench) -> str:
    """Return a policy with two applications, one that may do all towards the Internet and one that may nothing."""
    rules = "".join(
        f'[[application]]\npath = "{bench.program(name)}"\ninternet-in = "{action}"\ninternet-out = "{action}"\n'
        f'trusted-in = "{action}"\ntrusted-out = "{action}"\nlog = true\n'
        for name, action in (("good", "permit"), ("bad", "deny"))
    )
    return DENY_ALL + rules


def rule(bench: Bench, name: str, cell: str) -> str:
    """Return the id of an application's cell."""
    return f"application/{bench.program(name)}/{cell}"


@REMOTES
def test_the_permitted_application_connects_by_tcp_and_the_denied_one_gets_eperm(bench: Bench, remote: str) -> None:
    """Application rules: cell Internet/out decides for IPv4, IPv6 and v4-mapped addresses alike."""
    bench.up(policy=policy(bench))
    bench.peer("tcp-echo", "::", 7000, "--dual")
    good = bench.run(bench.program("good"), "tcp-connect", remote, 7000, "--text", "hello")
    assert good.ok and good.data["echo"] == "hello", good
    bad = bench.run(bench.program("bad"), "tcp-connect", remote, 7000)
    assert bad.errno == "EPERM", bad
    bench.expect_hits(rule(bench, "good", "internet-out"))
    bench.expect_hits(rule(bench, "bad", "internet-out"))
    point = f"{SERVER}:7000" if remote == MAPPED else f"[{remote}]:7000" if ":" in remote else f"{remote}:7000"
    bench.expect_log(
        id=rule(bench, "bad", "internet-out"),
        application=bench.program("bad"),
        direction="out",
        remote=point,
        protocol="tcp",
        action="deny",
    )


@REMOTES
def test_the_permitted_application_sends_by_udp_and_the_denied_one_gets_eperm(bench: Bench, remote: str) -> None:
    """Application rules: an unconnected datagram is judged by who sends it."""
    bench.up(policy=policy(bench))
    bench.peer("udp-echo", "::", 7000, "--dual")
    good = bench.run(bench.program("good"), "udp-send", remote, 7000, "--text", "hello", "--expect")
    assert good.ok and good.data["echo"] == "hello", good
    bad = bench.run(bench.program("bad"), "udp-send", remote, 7000)
    assert bad.errno == "EPERM", bad
    bench.expect_hits(rule(bench, "good", "internet-out"))
    bench.expect_hits(rule(bench, "bad", "internet-out"))


@REMOTES
def test_a_connected_udp_socket_is_judged_when_it_sends(bench: Bench, remote: str) -> None:
    """Owner of a flow: UDP connect() alone never fails; sending on it does."""
    bench.up(policy=policy(bench))
    bench.peer("udp-echo", "::", 7000, "--dual")
    good = bench.run(bench.program("good"), "udp-connected", remote, 7000, "--text", "hello", "--expect")
    assert good.ok and good.data["echo"] == "hello", good
    bad = bench.run(bench.program("bad"), "udp-connected", remote, 7000, "--text", "hello")
    assert bad.errno == "EPERM", bad
    bench.expect_hits(rule(bench, "bad", "internet-out"))


@LOCALS
def test_the_permitted_application_is_reached_by_tcp_and_the_denied_one_is_not(
    bench: Bench, local: str, listen: str
) -> None:
    """Application rules: cell Internet/in decides, by the process that bound the listener."""
    bench.up(policy=policy(bench))
    dual = ("--dual",) if listen == "::" else ()
    bench.serve(bench.program("good"), "tcp-echo", listen, 7001, *dual)
    denied = bench.serve(bench.program("bad"), "tcp-echo", listen, 7002, *dual)
    good = bench.outsider("tcp-connect", local, 7001, "--text", "hello")
    assert good.ok and good.data["echo"] == "hello", good
    assert not bench.outsider("tcp-connect", local, 7002).ok
    assert denied.quiet(0.2)
    bench.expect_hits(rule(bench, "good", "internet-in"))
    bench.expect_hits(rule(bench, "bad", "internet-in"))
    bench.expect_log(id=rule(bench, "bad", "internet-in"), direction="in", action="deny", protocol="tcp")


@LOCALS
def test_the_permitted_application_is_reached_by_udp_and_the_denied_one_is_not(
    bench: Bench, local: str, listen: str
) -> None:
    """Application rules: an unsolicited datagram is incoming, and its answer is state."""
    bench.up(policy=policy(bench))
    dual = ("--dual",) if listen == "::" else ()
    bench.serve(bench.program("good"), "udp-echo", listen, 7001, *dual)
    denied = bench.serve(bench.program("bad"), "udp-echo", listen, 7002, *dual)
    good = bench.outsider("udp-send", local, 7001, "--text", "hello", "--expect")
    assert good.ok and good.data["echo"] == "hello", good
    assert not bench.outsider("udp-send", local, 7002, "--expect").ok
    assert denied.quiet(0.2)
    bench.expect_hits(rule(bench, "good", "internet-in"))
    bench.expect_hits(rule(bench, "bad", "internet-in"))


def test_another_program_is_any_other_application(bench: Bench) -> None:
    """Step 9: a program without a rule gets the default cell, and the verdict carries that cell's name."""
    bench.up(policy=policy(bench))
    bench.peer("tcp-echo", SERVER, 7000)
    other = bench.run(bench.program("other"), "tcp-connect", SERVER, 7000)
    assert other.errno == "EPERM", other
    bench.expect_hits("default/internet-out")
    bench.expect_log(id="default/internet-out", origin="default", application=bench.program("other"), action="deny")


def test_a_cell_left_out_is_the_defaults_and_carries_its_id(bench: Bench) -> None:
    """User rules, application rule: a missing cell is the default's, with the default's id."""
    path = bench.program("half")
    bench.up(policy=f'{DENY_ALL}[[application]]\npath = "{path}"\ninternet-out = "permit"\n')
    bench.serve(path, "tcp-echo", CLIENT, 7001)
    assert not bench.outsider("tcp-connect", CLIENT, 7001).ok
    bench.expect_hits("default/internet-in")


def test_loopback_is_trusted_and_yet_filtered(bench: Bench) -> None:
    """Trusted area: lo is Trusted and cannot be removed; a trusted cell that denies cuts it."""
    good, bad = bench.program("good"), bench.program("bad")
    bench.up(policy=policy(bench))
    bench.serve(good, "tcp-echo", "127.0.0.1", 7001)
    assert bench.run(good, "tcp-connect", "127.0.0.1", 7001, "--text", "hello").ok
    assert bench.run(bad, "tcp-connect", "127.0.0.1", 7001).errno == "EPERM"
    bench.expect_hits(rule(bench, "good", "trusted-out"))
    bench.expect_hits(rule(bench, "good", "trusted-in"))
    bench.expect_hits(rule(bench, "bad", "trusted-out"))


def test_a_trusted_network_uses_the_trusted_cells(bench: Bench) -> None:
    """Zone of a flow: that of its remote address on its adapter."""
    trusted = '[[trusted]]\ndescription = "LAN"\nadapter = "v0"\naddress = "192.0.2.0/24"\n'
    path = bench.program("local")
    bench.up(policy=f'{DENY_ALL}{trusted}[[application]]\npath = "{path}"\ntrusted-out = "permit"\n')
    bench.peer("tcp-echo", "::", 7000, "--dual")
    assert bench.run(path, "tcp-connect", SERVER, 7000, "--text", "hello").ok
    assert bench.run(path, "tcp-connect", SERVER6, 7000).errno == "EPERM"
    bench.expect_hits(f"application/{path}/trusted-out")
    bench.expect_hits("default/internet-out")
