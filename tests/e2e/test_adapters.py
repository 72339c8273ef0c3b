"""What no socket owns, judged at the adapter: pings the kernel answers, closed ports, frames of packet sockets."""

from __future__ import annotations

import json

import pytest

from .bench import CLIENT, CLIENT6, DENY_ALL, SERVER, SERVER6, Bench

PREDEFINED = DENY_ALL.replace("enabled = false", "enabled = true\nlog = true")
LOCALS = pytest.mark.parametrize("local", [CLIENT, CLIENT6])


def answered(bench: Bench, local: str) -> bool:
    """Return whether this host answers a ping from the other side."""
    return bench.outsider("raw-icmp", local).ok


@LOCALS
def test_an_incoming_ping_is_judged_by_ping_in(bench: Bench, local: str) -> None:
    """Predefined ping-in, Internet: denied as shipped, permitted where the policy says so; the answer is state."""
    bench.up("--adapter", "v0", policy=PREDEFINED)
    assert not answered(bench, local)
    bench.expect_hits("predefined/ping-in/internet")
    protocol = "icmpv6 128" if ":" in local else "icmp 8"
    bench.expect_log(
        id="predefined/ping-in/internet", application="kernel", direction="in", action="deny", protocol=protocol
    )
    bench.reload('[predefined]\nping-in = { trusted = "permit", internet = "permit" }\n' + DENY_ALL.split("\n", 3)[3])
    assert answered(bench, local)
    bench.expect_hits("predefined/ping-in/internet", 2)


def test_an_incoming_ping_from_the_trusted_area_is_answered(bench: Bench) -> None:
    """Predefined ping-in, Trusted: permitted as shipped, by the remote address's zone on its adapter."""
    trusted = '[[trusted]]\ndescription = "LAN"\nadapter = "v0"\naddress = "192.0.2.0/24"\n'
    bench.up("--adapter", "v0", policy=trusted + PREDEFINED)
    assert answered(bench, CLIENT)
    assert not answered(bench, CLIENT6)
    bench.expect_hits("predefined/ping-in/trusted")
    bench.expect_hits("predefined/ping-in/internet")


@LOCALS
def test_a_closed_port_is_silent_where_nothing_may_come_in(bench: Bench, local: str) -> None:
    """Packets to closed ports: no RST and no "unreachable" under deny; an open, permitted port still answers."""
    path = bench.program("server")
    bench.up("--adapter", "v0", policy=f'{DENY_ALL}[[application]]\npath = "{path}"\ninternet-in = "permit"\n')
    bench.serve(path, "tcp-echo", local, 7001)
    bench.serve(path, "udp-echo", local, 7001)
    assert bench.outsider("tcp-connect", local, 7001, "--text", "x").ok
    assert bench.outsider("udp-send", local, 7001, "--expect").ok
    assert bench.outsider("tcp-connect", local, 7002).errno == "ETIMEDOUT"
    assert bench.outsider("udp-connected", local, 7002, "--text", "x", "--expect").errno == "ETIMEDOUT"
    bench.expect_hits("default/internet-in", 2)
    bench.expect_log(application="kernel", direction="in", hook="adapter-ingress", action="deny")


@LOCALS
def test_a_closed_port_says_so_where_it_may(bench: Bench, local: str) -> None:
    """Under permit the kernel refuses as ever."""
    bench.up("--adapter", "v0", policy=DENY_ALL.replace('internet-in = "deny"', 'internet-in = "permit"'))
    assert bench.outsider("tcp-connect", local, 7002).errno == "ECONNREFUSED"


@pytest.mark.parametrize("remote", [SERVER, SERVER6])
def test_flows_of_sockets_are_not_judged_twice(bench: Bench, remote: str) -> None:
    """TCP, UDP and pings of sockets stay with the socket hooks: one hit each, and nothing of theirs is dropped here."""
    path = bench.program("good")
    bench.up("--adapter", "v0", policy=f'{DENY_ALL}[[application]]\npath = "{path}"\ninternet-out = "permit"\n')
    bench.peer("tcp-echo", remote, 7000)
    bench.peer("udp-echo", remote, 7000)
    assert bench.run(path, "tcp-connect", remote, 7000, "--text", "x").ok
    assert bench.run(path, "udp-send", remote, 7000, "--expect").ok
    assert bench.run(path, "ping", remote).ok
    assert bench.hits(f"application/{path}/internet-out") == 3
    assert bench.run(path, "tcp-connect", remote, 7009).errno == "ECONNREFUSED"


@pytest.mark.parametrize("name", ["good", "bad"])
def test_a_frame_of_a_packet_socket_is_its_senders(bench: Bench, name: str) -> None:
    """AF_PACKET slips past every cgroup hook: at the adapter its sender's own rule decides."""
    good = bench.program("good")
    bench.up("--adapter", "v0", policy=f'{DENY_ALL}[[application]]\npath = "{good}"\ninternet-out = "permit"\n')
    listener = bench.peer("udp-echo", SERVER, 7000)
    bench.run(bench.program(name), "frame", SERVER, 7000, "--text", "frame", "--local-address", CLIENT)
    if name == "good":
        assert listener.line().data["text"] == "frame"
        bench.expect_hits(f"application/{good}/internet-out")
    else:
        bench.expect_hits("default/internet-out")
        assert listener.quiet(0.5)
        bench.expect_log(application=bench.program("bad"), hook="adapter-egress", action="deny")


def test_down_leaves_no_filter(bench: Bench) -> None:
    """status lists both filters as attached; after down neither they nor clsact are there; a wrong name is refused."""
    bench.up("--adapter", "v0", policy=DENY_ALL)
    hooks = {hook["name"]: hook["attached"] for hook in bench.status()["hooks"]}
    assert hooks["adapter-ingress v0"] and hooks["adapter-egress v0"]
    shown = ("tc", "-json", "qdisc", "show", "dev", "v0")
    assert "clsact" in [one["kind"] for one in json.loads(bench.real(*shown, cgroup=False).stdout)]
    bench.up(policy=DENY_ALL)
    assert "adapter-ingress v0" not in [hook["name"] for hook in bench.status()["hooks"]]
    bench.up("--adapter", "v0", policy=DENY_ALL)
    assert bench.kpf("down").returncode == 0
    assert "clsact" not in bench.real(*shown, cgroup=False).stdout
    done = bench.kpf("up", "--policy", str(bench.policy), "--cgroup", bench.cgroup_name, "--adapter", "nowhere0")
    assert done.returncode == 1 and "nowhere0" in done.stderr


def test_without_adapter_a_cgroup_filters_none(bench: Bench) -> None:
    """--cgroup without --adapter: what no socket owns is not this firewall's; docs/limits says so."""
    bench.up(policy=PREDEFINED)
    assert answered(bench, CLIENT)


def test_the_way_around_the_adapter_is_refused_to_the_denied(bench: Bench) -> None:
    """PACKET_QDISC_BYPASS: for whom everything out is permitted, and nobody else, not under stop-all either."""
    good, half = bench.program("good"), bench.program("half")
    rules = "".join(
        f'[[application]]\npath = "{path}"\ninternet-out = "permit"\ntrusted-out = "{trusted}"\n'
        for path, trusted in ((good, "permit"), (half, "deny"))
    )
    bench.up("--adapter", "v0", policy=DENY_ALL + rules)
    assert bench.run(good, "bypass", SERVER).ok
    assert bench.run(half, "bypass", SERVER).errno == "EPERM"
    assert bench.run(bench.program("bad"), "bypass", SERVER).errno == "EPERM"
    bench.expect_hits("default/internet-out")
    assert bench.kpf("stop-all", "on").returncode == 0
    assert bench.run(good, "bypass", SERVER).errno == "EPERM"


def test_options_are_looked_at_only_where_adapters_are_filtered(bench: Bench) -> None:
    """Every setsockopt() of every program would pay for it: the hook comes and goes with the adapters' filters."""

    def hooks() -> list[str]:
        return [hook["name"] for hook in bench.status()["hooks"]]

    bench.up(policy=DENY_ALL)
    assert "setsockopt" not in hooks()
    bench.up("--adapter", "v0", policy=DENY_ALL)
    assert "setsockopt" in hooks()
    bench.up(policy=DENY_ALL)
    assert "setsockopt" not in hooks()
    assert bench.run(bench.program("bad"), "bypass", SERVER).ok, "nobody is in its way: there is nothing to get around"


def test_other_options_are_left_alone(bench: Bench) -> None:
    """An option of more than a page gets the kernel's own answer, not the firewall's."""
    path = bench.program("any")
    before = bench.run(path, "big-option", SERVER).errno
    bench.up("--adapter", "v0", policy=DENY_ALL)
    assert bench.run(path, "big-option", SERVER).errno == before == "EINVAL"
