"""Where firewalls of this kind have been wrong before."""

from __future__ import annotations

import pytest

from .bench import CLIENT, CLIENT6, DENY_ALL, SERVER, SERVER6, Bench


def one(bench: Bench, *cells: str) -> str:
    """Return a policy where the program "good" has these cells permitted, and nothing else happens."""
    lines = "".join(f'{cell} = "permit"\n' for cell in cells)
    return f'{DENY_ALL}[[application]]\npath = "{bench.program("good")}"\n{lines}log = true\n'


@pytest.mark.parametrize("remote", [SERVER, SERVER6, f"::ffff:{SERVER}", "127.0.0.1", "::1"])
def test_udp_connect_alone_never_fails(bench: Bench, remote: str) -> None:
    """Owner of a flow: UDP connect() alone never fails (getaddrinfo sorts addresses with it), and judges nothing."""
    bench.up(policy=DENY_ALL)
    done = bench.run(bench.program("bad"), "udp-connected", remote, 9)
    assert done.ok, done
    assert bench.hits("default/internet-out") == bench.hits("default/trusted-out") == 0


@pytest.mark.parametrize(("wildcard", "listen"), [("0.0.0.0", "127.0.0.1"), ("::", "::1")])
@pytest.mark.parametrize("verb", ["tcp", "udp"])
def test_connecting_to_the_wildcard_address_is_localhost(bench: Bench, wildcard: str, listen: str, verb: str) -> None:
    """Localhost: connect() to 0.0.0.0 or :: is 127.0.0.1 or ::1 at both ends, in the Trusted zone."""
    bench.up(policy=one(bench, "trusted-out", "trusted-in"))
    good, bad = bench.program("good"), bench.program("bad")
    bench.serve(good, f"{verb}-echo", listen, 7000)
    asked = ["tcp-connect"] if verb == "tcp" else ["udp-send", "--expect"]
    reached = bench.run(good, asked[0], wildcard, 7000, "--text", "hello", *asked[1:])
    assert reached.ok and reached.data["echo"] == "hello", reached
    assert bench.run(bad, asked[0], wildcard, 7000).errno == "EPERM"
    bench.expect_hits(f"application/{good}/trusted-out")
    bench.expect_hits(f"application/{good}/trusted-in")
    bench.expect_hits("default/trusted-out")
    remote = f"[{listen}]:7000" if ":" in listen else f"{listen}:7000"
    bench.expect_log(id="default/trusted-out", application=bad, remote=remote, action="deny")


@pytest.mark.parametrize("verb", ["tcp", "udp"])
def test_a_dual_stack_listener_is_filtered_for_both_versions(bench: Bench, verb: str) -> None:
    """A v4-mapped address is IPv4: one IPv6 listener, a rule for an IPv4 address, IPv6 still denied."""
    rule = (
        '[[packet-filter]]\ndescription = "Friend"\ndirection = "in"\naction = "permit"\nlog = true\n'
        f'remote = {{ address = "{SERVER}" }}\n'
    )
    bench.up(policy=DENY_ALL + rule)
    bench.serve(bench.program("any"), f"{verb}-echo", "::", 7001, "--dual")
    asked = ["tcp-connect"] if verb == "tcp" else ["udp-send", "--expect"]
    assert bench.outsider(asked[0], CLIENT, 7001, "--text", "hello", *asked[1:]).ok
    assert not bench.outsider(asked[0], CLIENT6, 7001, "--text", "hello", *asked[1:]).ok
    bench.expect_hits("packet-filter/Friend")
    bench.expect_hits("default/internet-in")
    bench.expect_log(id="packet-filter/Friend", local=f"{CLIENT}:7001", action="permit")


def test_each_socket_of_a_shared_port_has_its_own_owner(bench: Bench) -> None:
    """Owner, in: the process that bound the listener, also where two programs share a port (SO_REUSEPORT)."""
    bench.up(policy=one(bench, "internet-in"))
    bench.serve(bench.program("good"), "udp-echo", CLIENT, 7001, "--reuse-port")
    denied = bench.serve(bench.program("bad"), "udp-echo", CLIENT, 7001, "--reuse-port")
    answers = [bench.outsider("udp-send", CLIENT, 7001, "--expect", "--deadline", 0.3).ok for _ in range(16)]
    assert denied.quiet(0.2)
    assert True in answers and False in answers, answers
    bench.expect_hits("default/internet-in")


@pytest.mark.parametrize("remote", [SERVER, SERVER6])
def test_a_fragmented_datagram_and_its_answer_pass(bench: Bench, remote: str) -> None:
    """State: a datagram larger than the link's MTU is one datagram to the rules of its application."""
    bench.up(policy=one(bench, "internet-out"))
    bench.peer("udp-echo", remote, 7000)
    text = "x" * 5000
    answer = bench.run(bench.program("good"), "udp-send", remote, 7000, "--text", text, "--expect")
    assert answer.ok and answer.data["echo"] == text, answer
    assert bench.run(bench.program("bad"), "udp-send", remote, 7000, "--text", text).errno == "EPERM"


def test_programs_outside_the_cgroup_are_not_touched(bench: Bench) -> None:
    """Enforcement is on the cgroup of up and what is below it, nothing else."""
    bench.up(policy=DENY_ALL)
    bench.peer("tcp-echo", SERVER, 7000)
    assert bench.run(bench.program("bad"), "tcp-connect", SERVER, 7000, "--text", "x", cgroup=False).ok
    assert bench.run(bench.program("bad"), "tcp-connect", SERVER, 7000).errno == "EPERM"


def test_a_copy_elsewhere_is_not_the_component(bench: Bench) -> None:
    """Components are files, not names: another file of the same name is not the component."""
    parts = f'[preferences]\nproxy = "none"\n[components]\ngui = "{bench.program("gui")}"\n'
    bench.up(policy=parts + DENY_ALL)
    impostor = bench.program("elsewhere/gui")
    assert bench.run(impostor, "udp-send", SERVER, 53).errno == "EPERM"
    bench.expect_log(id="default/internet-out", application=impostor, action="deny")
    assert bench.hits("internal/dns/gui") == 0


def test_neighbours_are_found_with_everything_denied(bench: Bench) -> None:
    """predefined/icmpv6-essentials: always permitted, so IPv6 works at all, also when switched off."""
    bench.up(policy=one(bench, "internet-out"))
    bench.peer("tcp-echo", SERVER6, 7000)
    assert bench.run(bench.program("good"), "tcp-connect", SERVER6, 7000, "--text", "x").ok
    assert "predefined/icmpv6-essentials" in [rule["id"] for rule in bench.status()["rules"]]


def test_a_closed_port_still_says_so(bench: Bench) -> None:
    """State: RST segments and ICMP errors about a permitted flow pass."""
    bench.up(policy=one(bench, "internet-out"))
    assert bench.run(bench.program("good"), "tcp-connect", SERVER, 7009).errno == "ECONNREFUSED"
    refused = bench.run(bench.program("good"), "udp-connected", SERVER, 7009, "--text", "x", "--expect")
    assert refused.errno == "ECONNREFUSED", refused
    assert bench.hits("default/internet-in") == 0
