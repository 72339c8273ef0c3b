"""The internal rules between the firewall's own parts on this host, both ends of each connection."""

from __future__ import annotations

import pytest

from .bench import CLIENT, CLIENT6, SERVER, Bench
from .components import firewall, password

LOOPBACK = pytest.mark.parametrize("address", ["127.0.0.1", "::1", CLIENT, CLIENT6])


@LOOPBACK
def test_the_gui_reaches_the_engine(bench: Bench, address: str) -> None:
    """gui-to-engine at the GUI's end, remote-config/off at the Engine's; own addresses are localhost too."""
    parts = firewall(bench)
    bench.serve(parts["engine"], "tcp-echo", address, 44334)
    reached = bench.run(parts["gui"], "tcp-connect", address, 44334, "--text", "hello")
    assert reached.ok and reached.data["echo"] == "hello", reached
    bench.expect_hits("internal/gui-to-engine")
    bench.expect_hits("internal/remote-config/off")


def test_the_gui_reaches_the_engine_by_udp(bench: Bench) -> None:
    """gui-to-engine and remote-config: TCP and UDP."""
    parts = firewall(bench)
    bench.serve(parts["engine"], "udp-echo", "127.0.0.1", 44334)
    assert bench.run(parts["gui"], "udp-send", "127.0.0.1", 44334, "--text", "hello", "--expect").ok
    bench.expect_hits("internal/gui-to-engine")
    bench.expect_hits("internal/remote-config/off")


@pytest.mark.parametrize("component", ["assist", "other"])
def test_nobody_else_reaches_the_engine(bench: Bench, component: str) -> None:
    """gui-to-engine: the GUI only; any other program falls through to the user's rules at its own end."""
    parts = firewall(bench)
    listener = bench.serve(parts["engine"], "tcp-echo", "127.0.0.1", 44334)
    assert bench.run(parts[component], "tcp-connect", "127.0.0.1", 44334).errno == "EPERM"
    bench.expect_hits("default/trusted-out")
    assert listener.quiet(0.2)


def test_the_gui_of_another_host_is_an_ordinary_application(bench: Bench) -> None:
    """gui-to-engine: local connections only, whatever the address column says."""
    parts = firewall(bench)
    bench.peer("tcp-echo", SERVER, 44334)
    assert bench.run(parts["gui"], "tcp-connect", SERVER, 44334).errno == "EPERM"
    bench.expect_hits("default/internet-out")


@pytest.mark.parametrize("verb", ["tcp", "udp"])
def test_without_remote_administration_others_do_not_reach_the_engine(bench: Bench, verb: str) -> None:
    """remote-config/off: localhost only; the guard denies the rest."""
    parts = firewall(bench)
    listener = bench.serve(parts["engine"], f"{verb}-echo", CLIENT, 44334)
    asked = ["tcp-connect"] if verb == "tcp" else ["udp-send", "--expect"]
    assert not bench.outsider(asked[0], CLIENT, 44334, *asked[1:]).ok
    assert listener.quiet(0.2)
    bench.expect_hits("guard/44334")


@pytest.mark.parametrize("verb", ["tcp", "udp"])
@pytest.mark.parametrize("local", [CLIENT, CLIENT6])
def test_with_remote_administration_others_reach_the_engine(bench: Bench, verb: str, local: str) -> None:
    """remote-config/on: from any address, TCP and UDP, to the Engine's local port, from whatever port."""
    password(bench)
    parts = firewall(bench, remote_administration=True)
    bench.serve(parts["engine"], f"{verb}-echo", local, 44334)
    asked = ["tcp-connect"] if verb == "tcp" else ["udp-send", "--expect"]
    reached = bench.outsider(asked[0], local, 44334, "--text", "hello", *asked[1:])
    assert reached.ok and reached.data["echo"] == "hello", reached
    bench.expect_hits("internal/remote-config/on")


def test_remote_administration_without_a_password_is_off(bench: Bench) -> None:
    """Remote administration on = switched on AND a password is set."""
    parts = firewall(bench, remote_administration=True)
    bench.serve(parts["engine"], "tcp-echo", CLIENT, 44334)
    assert not bench.outsider("tcp-connect", CLIENT, 44334).ok
    bench.expect_hits("guard/44334")


def test_remote_administration_reaches_the_engine_only(bench: Bench) -> None:
    """remote-config/on: another program that listens on 44334 is guarded."""
    password(bench)
    parts = firewall(bench, remote_administration=True)
    bench.serve(parts["other"], "tcp-echo", CLIENT, 44334)
    assert not bench.outsider("tcp-connect", CLIENT, 44334).ok
    bench.expect_hits("guard/44334")


@pytest.mark.parametrize("component", ["other", "assist", "gui"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_any_application_reports_pop_ups_to_the_engine(bench: Bench, component: str, address: str) -> None:
    """popup-log: any application, TCP 44501 of localhost; the receiver's half carries the sender's rule id."""
    parts = firewall(bench)
    bench.serve(parts["engine"], "tcp-echo", address, 44501)
    assert bench.run(parts[component], "tcp-connect", address, 44501, "--text", "popup").ok
    bench.expect_hits("internal/popup-log", 2)


def test_pop_up_reports_reach_the_engine_only(bench: Bench) -> None:
    """Mirror halves: the receiver's half is permitted only if it is the Engine; else the port is guarded."""
    parts = firewall(bench)
    bench.serve(parts["assist"], "tcp-echo", "127.0.0.1", 44501)
    assert not bench.run(parts["other"], "tcp-connect", "127.0.0.1", 44501).ok
    bench.expect_hits("internal/popup-log")
    bench.expect_hits("guard/44501")


def test_pop_up_reports_go_to_localhost_only(bench: Bench) -> None:
    """popup-log: not to another host, not by UDP, and not from another host."""
    parts = firewall(bench)
    bench.peer("tcp-echo", SERVER, 44501)
    assert bench.run(parts["other"], "tcp-connect", SERVER, 44501).errno == "EPERM"
    bench.expect_hits("default/internet-out")
    assert bench.run(parts["other"], "udp-send", "127.0.0.1", 44501).errno == "EPERM"
    bench.expect_hits("default/trusted-out")
    bench.serve(parts["engine"], "tcp-echo", CLIENT, 44501)
    assert not bench.outsider("tcp-connect", CLIENT, 44501).ok
    bench.expect_hits("guard/44501")
    assert bench.hits("internal/popup-log") == 0


@pytest.mark.parametrize("verb", ["tcp", "udp"])
def test_the_engine_reaches_the_gui_on_this_host(bench: Bench, verb: str) -> None:
    """engine-to-gui/off: localhost, any port; the GUI's half is mirrored with the sender's rule id."""
    parts = firewall(bench)
    bench.serve(parts["gui"], f"{verb}-echo", "127.0.0.1", 5001)
    asked = ["tcp-connect"] if verb == "tcp" else ["udp-send", "--expect"]
    assert bench.run(parts["engine"], asked[0], "127.0.0.1", 5001, "--text", "alert", *asked[1:]).ok
    bench.expect_hits("internal/engine-to-gui/off", 2)


def test_what_the_engine_sends_to_another_program_is_judged_there(bench: Bench) -> None:
    """Mirror halves: only the GUI's half is mirrored; a permit at one end gives the other end nothing."""
    parts = firewall(bench)
    listener = bench.serve(parts["other"], "tcp-echo", "127.0.0.1", 5001)
    assert not bench.run(parts["engine"], "tcp-connect", "127.0.0.1", 5001).ok
    assert listener.quiet(0.2)
    bench.expect_hits("internal/engine-to-gui/off")
    bench.expect_hits("default/trusted-in")


def test_the_engine_does_not_reach_a_remote_gui(bench: Bench) -> None:
    """engine-to-gui/off: localhost only."""
    parts = firewall(bench, proxy=f"http://{SERVER}:3128")
    assert bench.run(parts["engine"], "udp-send", SERVER, 5001).errno == "EPERM"
    assert bench.run(parts["engine"], "tcp-connect", SERVER, 5001).errno == "EPERM"
    bench.expect_hits("default/internet-out", 2)


def test_internal_matches_stay_out_of_the_network_log(bench: Bench) -> None:
    """Internal matches are counted per rule but kept out of the network log."""
    parts = firewall(bench)
    bench.serve(parts["engine"], "tcp-echo", "127.0.0.1", 44334)
    assert bench.run(parts["gui"], "tcp-connect", "127.0.0.1", 44334).ok
    assert bench.run(parts["other"], "tcp-connect", "127.0.0.1", 44334).errno == "EPERM"
    bench.expect_hits("internal/gui-to-engine")
    bench.expect_log(id="default/trusted-out", application=parts["other"])
    assert not [record for record in bench.log() if record["id"].startswith("internal/")]
