"""The internal rules of the Engine, towards others: right component, right condition, and nothing else."""

from __future__ import annotations

import pytest

from .bench import CLIENT, SERVER, SERVER6, Bench
from .components import firewall, password

INPUTS = pytest.mark.parametrize("resolved", [False, True], ids=["fixed", "resolved"])
"""Servers by address, and by a name whose answer changes."""
BOTH = pytest.mark.parametrize("remote", [SERVER, SERVER6])


@BOTH
@pytest.mark.parametrize("component", ["engine", "gui"])
def test_engine_and_gui_ask_name_servers(bench: Bench, component: str, remote: str) -> None:
    """dns/engine, dns/gui: UDP to remote 53, any address, and the answer by state."""
    parts = firewall(bench, proxy="none")
    bench.peer("udp-echo", remote, 53)
    answer = bench.run(parts[component], "udp-send", remote, 53, "--text", "name?", "--expect")
    assert answer.ok and answer.data["echo"] == "name?", answer
    bench.expect_hits(f"internal/dns/{component}")
    denied = bench.run(parts[component], "udp-send", remote, 5354)
    assert denied.errno == "EPERM", denied
    bench.expect_hits("default/internet-out")


@pytest.mark.parametrize("component", ["assist", "other"])
def test_nobody_else_asks_name_servers(bench: Bench, component: str) -> None:
    """dns: Assist and any other application have no such row."""
    parts = firewall(bench)
    assert bench.run(parts[component], "udp-send", SERVER, 53).errno == "EPERM"
    bench.expect_hits("default/internet-out")
    assert bench.hits("internal/dns/engine") == bench.hits("internal/dns/gui") == 0


def test_the_gui_does_not_ask_by_tcp(bench: Bench) -> None:
    """dns/gui: UDP only."""
    parts = firewall(bench)
    bench.peer("tcp-echo", SERVER, 53)
    assert bench.run(parts["gui"], "tcp-connect", SERVER, 53).errno == "EPERM"
    bench.expect_hits("default/internet-out")


@pytest.mark.parametrize("component", ["engine", "gui"])
def test_an_unsolicited_datagram_from_port_53_is_denied(bench: Bench, component: str) -> None:
    """dns "both": out and the answers; a datagram that merely comes from port 53 matches nothing (CVE-2003-1491)."""
    parts = firewall(bench)
    listener = bench.serve(parts[component], "udp-echo", CLIENT, 4000)
    bench.outsider("udp-send", CLIENT, 4000, "--local-port", 53)
    bench.expect_hits("default/internet-in")
    assert listener.quiet(0.3)
    assert bench.hits(f"internal/dns/{component}") == 0


def test_local_port_53_is_no_excuse(bench: Bench) -> None:
    """dns: the port is the remote one, not the component's local port 53."""
    parts = firewall(bench)
    denied = bench.run(parts["gui"], "udp-send", SERVER, 4000, "--local-port", 53)
    assert denied.errno == "EPERM", denied
    bench.expect_hits("default/internet-out")


@pytest.mark.parametrize("verb", ["tcp", "udp"])
def test_the_engine_asks_the_configured_resolvers_at_their_ports(bench: Bench, verb: str) -> None:
    """dns/engine: UDP and TCP to exactly the configured resolvers, with the credit of the narrow row."""
    parts = firewall(bench, resolvers=[f"{SERVER}:5353"])
    bench.peer(f"{verb}-echo", SERVER, 5353)
    asked = {"tcp": ["tcp-connect"], "udp": ["udp-send", "--expect"]}[verb]
    assert bench.run(parts["engine"], asked[0], SERVER, 5353, "--text", "name?", *asked[1:]).ok
    bench.expect_hits("internal/dns/engine")
    assert bench.run(parts["gui"], asked[0], SERVER, 5353).errno == "EPERM"


@INPUTS
def test_the_engine_sends_to_the_syslog_server(bench: Bench, resolved: bool) -> None:
    """syslog on: Engine, UDP to exactly the configured address and port."""
    parts = firewall(bench, resolved=resolved, syslog=(SERVER, 5514))
    listener = bench.peer("udp-echo", SERVER, 5514)
    assert bench.run(parts["engine"], "udp-send", SERVER, 5514, "--text", "line", "--expect").ok
    listener.event("received")
    bench.expect_hits("internal/syslog")
    assert bench.run(parts["engine"], "udp-send", SERVER, 5515).errno == "EPERM"
    assert bench.run(parts["gui"], "udp-send", SERVER, 5514).errno == "EPERM"
    assert bench.run(parts["engine"], "udp-send", SERVER6, 5514).errno == "EPERM"
    bench.expect_hits("default/internet-out", 3)


def test_without_syslog_the_engine_does_not_send_to_it(bench: Bench) -> None:
    """syslog off: the row is not there."""
    parts = firewall(bench, syslog=None)
    assert bench.run(parts["engine"], "udp-send", SERVER, 514).errno == "EPERM"
    bench.expect_hits("default/internet-out")


@INPUTS
@BOTH
def test_assist_sends_crash_dumps(bench: Bench, remote: str, resolved: bool) -> None:
    """crash-dumps, sending allowed: Assist, TCP, any port of the crash server; nobody else, and no UDP."""
    parts = firewall(bench, resolved=resolved, crash_server=remote)
    bench.peer("tcp-echo", "::", 4443, "--dual")
    assert bench.run(parts["assist"], "tcp-connect", remote, 4443, "--text", "dump").ok
    bench.expect_hits("internal/crash-dumps")
    for component in ("gui", "other"):
        assert bench.run(parts[component], "tcp-connect", remote, 4443).errno == "EPERM"
    assert bench.run(parts["assist"], "udp-send", remote, 4443).errno == "EPERM"
    elsewhere = SERVER6 if remote == SERVER else SERVER
    assert bench.run(parts["assist"], "tcp-connect", elsewhere, 4443).errno == "EPERM"
    bench.expect_hits("default/internet-out", 4)


def test_assist_sends_nothing_when_sending_is_not_allowed(bench: Bench) -> None:
    """crash-dumps, sending not allowed: the row is not there."""
    parts = firewall(bench, crash_server=SERVER, send_crash_dumps=False)
    bench.peer("tcp-echo", SERVER, 4443)
    assert bench.run(parts["assist"], "tcp-connect", SERVER, 4443).errno == "EPERM"
    bench.expect_hits("default/internet-out")


@INPUTS
def test_assist_sends_crash_dumps_while_the_engine_is_down(bench: Bench, resolved: bool) -> None:
    """crash-dumps lives in kernel state that outlives the Engine."""
    parts = firewall(bench, resolved=resolved, crash_server=SERVER)
    bench.peer("tcp-echo", SERVER, 4443)
    bench.kill_engine()
    assert bench.run(parts["assist"], "tcp-connect", SERVER, 4443, "--text", "dump").ok
    assert bench.run(parts["other"], "tcp-connect", SERVER, 4443).errno == "EPERM"


@INPUTS
def test_registration_goes_directly_without_a_proxy(bench: Bench, resolved: bool) -> None:
    """registration/direct, no proxy: Engine, TCP 443 of the registration server; the credit is the narrow row's."""
    parts = firewall(bench, resolved=resolved, registration_server=SERVER)
    bench.peer("tcp-echo", SERVER, 443)
    assert bench.run(parts["engine"], "tcp-connect", SERVER, 443, "--text", "key").ok
    bench.expect_hits("internal/registration/direct")
    assert bench.hits("internal/update-check/direct") == 0
    for component in ("gui", "assist", "other"):
        assert bench.run(parts[component], "tcp-connect", SERVER, 443).errno == "EPERM"
    bench.expect_hits("default/internet-out", 3)


@BOTH
def test_the_update_check_goes_anywhere_without_a_proxy(bench: Bench, remote: str) -> None:
    """update-check/direct, no proxy: Engine, TCP, any port and address."""
    parts = firewall(bench, registration_server="192.0.2.99")
    bench.peer("tcp-echo", remote, 8081)
    assert bench.run(parts["engine"], "tcp-connect", remote, 8081, "--text", "version").ok
    bench.expect_hits("internal/update-check/direct")
    assert bench.run(parts["engine"], "udp-send", remote, 8081).errno == "EPERM"
    assert bench.run(parts["gui"], "tcp-connect", remote, 8081).errno == "EPERM"
    bench.expect_hits("default/internet-out", 2)


@INPUTS
def test_with_a_proxy_the_engine_reaches_the_proxy_only(bench: Bench, resolved: bool) -> None:
    """registration/proxy, proxy in use: TCP to the proxy's address and port; the direct rows are gone."""
    parts = firewall(bench, resolved=resolved, proxy=f"http://{SERVER}:3128", registration_server=SERVER)
    for port in (3128, 443, 8081):
        bench.peer("tcp-echo", SERVER, port)
    assert bench.run(parts["engine"], "tcp-connect", SERVER, 3128, "--text", "key").ok
    bench.expect_hits("internal/registration/proxy")
    for port in (443, 8081):
        assert bench.run(parts["engine"], "tcp-connect", SERVER, port).errno == "EPERM"
    assert bench.run(parts["gui"], "tcp-connect", SERVER, 3128).errno == "EPERM"
    bench.expect_hits("default/internet-out", 3)
    assert bench.hits("internal/update-check/proxy") == 0


@pytest.mark.parametrize("secret", [True, False])
def test_remote_administration_lets_the_engine_send_anywhere(bench: Bench, secret: bool) -> None:
    """engine-to-gui/on: only when remote administration is switched on and a password is set."""
    if secret:
        password(bench)
    parts = firewall(bench, remote_administration=True, proxy=f"http://{SERVER}:3128")
    bench.peer("udp-echo", SERVER, 9999)
    sent = bench.run(parts["engine"], "udp-send", SERVER, 9999, "--text", "x", "--expect")
    if secret:
        assert sent.ok, sent
        bench.expect_hits("internal/engine-to-gui/on")
    else:
        assert sent.errno == "EPERM", sent
        bench.expect_hits("default/internet-out")
