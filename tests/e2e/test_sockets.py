"""Every way to the network is the same way: raw sockets, fast open, inherited sockets, other network namespaces."""

from __future__ import annotations

import pytest

from .bench import CLIENT, CLIENT6, DENY_ALL, SERVER, SERVER6, Bench

REMOTES = pytest.mark.parametrize("remote", [SERVER, SERVER6])


def only_good(bench: Bench) -> str:
    """Return a policy where the program "good" may initiate, and nobody else may do anything."""
    cells = 'trusted-out = "permit"\ninternet-out = "permit"\nlog = true\n'
    return f'{DENY_ALL}[[application]]\npath = "{bench.program("good")}"\n{cells}'


def kernel_has(protocol: int) -> bool:
    """Return whether this kernel makes stream sockets of a protocol."""
    import socket

    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol).close()
    except OSError:
        return False
    return True


@REMOTES
def test_a_raw_socket_is_its_owners(bench: Bench, remote: str) -> None:
    """A UDP datagram from a raw socket: judged by who sends it; EPERM comes from the send."""
    bench.up(policy=only_good(bench))
    listener = bench.peer("udp-echo", remote, 7000)
    assert bench.run(bench.program("good"), "raw-udp", remote, 7000, "--text", "raw").ok
    assert listener.line().data["text"] == "raw"
    assert bench.run(bench.program("bad"), "raw-udp", remote, 7000).errno == "EPERM"
    bench.expect_log(application=bench.program("bad"), hook="egress", action="deny", protocol="udp")


def test_a_header_of_ones_own_making_is_read(bench: Bench) -> None:
    """IP_HDRINCL: addresses and ports are those in the packet, so a rule for a port decides."""
    rule = '[[packet-filter]]\ndescription = "Port"\ndirection = "out"\nprotocol = "udp"\nremote = { port = 7000 }\n'
    bench.up(policy=f'{rule}action = "permit"\n{DENY_ALL}')
    listener = bench.peer("udp-echo", SERVER, 7000)
    path = bench.program("any")
    assert bench.run(path, "raw-ip", SERVER, 7000, "--text", "raw", "--local-address", CLIENT).ok
    assert listener.line().data["text"] == "raw"
    assert bench.run(path, "raw-ip", SERVER, 7001, "--local-address", CLIENT).errno == "EPERM"
    bench.expect_hits("packet-filter/Port")


@REMOTES
def test_fast_open_is_no_way_around_connect(bench: Bench, remote: str) -> None:
    """sendto(MSG_FASTOPEN) connects without connect(): permitted for the one, nothing leaves for the other."""
    bench.up(policy=only_good(bench))
    listener = bench.peer("tcp-echo", remote, 7000)
    assert bench.run(bench.program("good"), "fast-open", remote, 7000, "--text", "hello").data == {"echo": "hello"}
    listener.event("accepted")
    listener.event("eof")
    denied = bench.run(bench.program("bad"), "fast-open", remote, 7000, "--text", "hello")
    assert not denied.ok, denied
    assert listener.quiet(0.3)
    bench.expect_hits("default/internet-out")


def test_many_datagrams_at_once_are_judged_each(bench: Bench) -> None:
    """sendmmsg(): two datagrams leave, or none does."""
    bench.up(policy=only_good(bench))
    bench.peer("udp-echo", SERVER, 7000)
    assert bench.run(bench.program("good"), "send-many", SERVER, 7000, "--text", "x").data == {"sent": 2}
    assert bench.run(bench.program("bad"), "send-many", SERVER, 7000, "--text", "x").errno == "EPERM"


def test_multipath_tcp_is_tcp(bench: Bench) -> None:
    """MPTCP sockets are judged as TCP, by their owner, where the kernel has them."""
    bench.up(policy=only_good(bench))
    bench.peer("tcp-echo", SERVER, 7000)
    good = bench.run(bench.program("good"), "mptcp", SERVER, 7000, "--text", "hello")
    if not kernel_has(262):
        assert good.errno in ("EPROTONOSUPPORT", "ENOPROTOOPT"), good
        return
    assert good.ok, good
    assert not bench.run(bench.program("bad"), "mptcp", SERVER, 7000, "--text", "hello").ok
    bench.expect_hits("default/internet-out")


@pytest.mark.parametrize(
    ("first", "second", "begun", "passes"),
    [("good", "bad", "connected", True), ("good", "bad", "created", False), ("bad", "good", "created", True)],
)
def test_a_socket_belongs_to_whoever_connects_it(
    bench: Bench, first: str, second: str, begun: str, passes: bool
) -> None:
    """Owner of a flow, out: the process that calls connect, also on an inherited socket; and it stays that one's."""
    bench.up(policy=only_good(bench))
    bench.peer("tcp-echo", SERVER, 7000)
    heir = ("--heir", bench.program(second), "--begun", begun, "--text", "hello")
    found = bench.run(bench.program(first), "hand-over", SERVER, 7000, *heir)
    assert found.ok is passes, found
    if not passes:
        assert found.errno == "EPERM"
        bench.expect_log(application=bench.program(second), action="deny")


@pytest.mark.parametrize("remote", [CLIENT, CLIENT6])
def test_another_network_namespace_is_filtered_alike(bench: Bench, remote: str) -> None:
    """Sockets of the cgroup are filtered in every network namespace, by the same applications."""
    bench.up(policy=only_good(bench))
    bench.serve(bench.program("free"), "tcp-echo", remote, 7000, cgroup=False)
    assert bench.run(bench.program("good"), "tcp-connect", remote, 7000, "--text", "x", netns="server").ok
    assert bench.run(bench.program("bad"), "tcp-connect", remote, 7000, netns="server").errno == "EPERM"
    loop = "::1" if ":" in remote else "127.0.0.1"
    bench.serve(bench.program("good"), "udp-echo", loop, 7000, netns="server", cgroup=False)
    assert bench.run(bench.program("good"), "udp-send", loop, 7000, "--expect", netns="server").ok
    bench.expect_hits(f"application/{bench.program('good')}/trusted-out")


def test_an_adapter_of_another_namespace_is_another_adapter(bench: Bench) -> None:
    """Trusted items with an adapter match in the namespace of up only; those without match by address anywhere."""
    items = '[[trusted]]\ndescription = "Bound"\nadapter = "v0"\naddress = "192.0.2.0/24"\n'
    items += '[[trusted]]\ndescription = "Free"\naddress = "2001:db8::/64"\n'
    path = bench.program("local")
    bench.up(policy=f'{items}{DENY_ALL}[[application]]\npath = "{path}"\ntrusted-out = "permit"\n')
    bench.peer("tcp-echo", "::", 7000, "--dual")
    bench.serve(bench.program("free"), "tcp-echo", "::", 7000, "--dual", cgroup=False)
    assert bench.run(path, "tcp-connect", SERVER, 7000, "--text", "x").ok
    assert not bench.run(path, "tcp-connect", CLIENT, 7000, netns="server").ok
    bench.expect_hits("default/internet-out")
    assert bench.run(path, "tcp-connect", CLIENT6, 7000, "--text", "x", netns="server").ok


def test_a_broadcast_leaves_by_the_predefined_rule(bench: Bench) -> None:
    """Predefined broadcasts: 255.255.255.255 and the adapter's own broadcast, out; another address is not one."""
    bench.up(policy=DENY_ALL.replace("enabled = false", "enabled = true"))
    path = bench.program("any")
    for address in ("255.255.255.255", "192.0.2.255"):
        assert bench.run(path, "udp-send", address, 7000, "--broadcast", "--local-address", CLIENT).ok, address
    assert bench.run(path, "udp-send", SERVER, 7000).errno == "EPERM"
    bench.expect_hits("predefined/broadcasts/internet", 2)


def test_a_denied_answer_to_a_broadcast_is_incoming(bench: Bench) -> None:
    """Unicast answers to a broadcast are not state: they come from another point than the one that was asked."""
    bench.up(policy=DENY_ALL.replace("enabled = false", "enabled = true"))
    bench.peer("udp-echo", "0.0.0.0", 7000)
    path = bench.program("any")
    asked = bench.run(path, "udp-send", "192.0.2.255", 7000, "--broadcast", "--local-address", CLIENT, "--expect")
    assert asked.errno == "ETIMEDOUT", asked
    bench.expect_hits("default/internet-in")
