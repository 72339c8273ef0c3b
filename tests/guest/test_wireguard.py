"""WireGuard: inner packets are the programs' own, outer ones are the kernel's and have no socket: judged at tc."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

from tests.e2e.bench import CLIENT, DENY_ALL, SERVER, Bench
from tests.e2e.tools import system

INNER = {"client": "198.18.0.1", "server": "198.18.0.2"}
OUTER = {"client": CLIENT, "server": SERVER}
PORT = 51820


def tunnel(bench: Bench) -> None:
    """Join the two namespaces by a tunnel over their veth pair."""
    keys = {place: base64.b64encode(os.urandom(32)).decode() for place in INNER}
    for place, key in keys.items():
        (bench.folder / place).write_text(key)
    public = {place: _public(bench.folder / place) for place in keys}
    for place, other in (("client", "server"), ("server", "client")):
        inside = ("nsenter", f"--net=/run/netns/{bench.namespaces[place]}")
        system(*inside, "ip", "link", "add", "wg0", "type", "wireguard")
        own = ("listen-port", str(PORT), "private-key", str(bench.folder / place))
        peer = ("peer", public[other], "endpoint", f"{OUTER[other]}:{PORT}", "allowed-ips", f"{INNER[other]}/32")
        system(*inside, "wg", "set", "wg0", *own, *peer)
        system(*inside, "ip", "address", "add", f"{INNER[place]}/24", "dev", "wg0")
        system(*inside, "ip", "link", "set", "wg0", "up")


def _public(key: Path) -> str:
    done = subprocess.run(["wg", "pubkey"], input=key.read_text(), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_program_in_a_tunnel_is_judged_by_its_inner_packets(bench: Bench) -> None:
    """The remote point is the one inside: permitted for one program, denied to another; the outer is the kernel's."""
    good, bad = bench.program("good"), bench.program("bad")
    tunnel(bench)
    outer = (
        '[[packet-filter]]\ndescription = "outer"\naction = "permit"\nprotocol = "udp"\nlog = true\n'
        f'local = {{ port = {PORT} }}\nremote = {{ address = "{SERVER}", port = {PORT} }}\n'
    )
    bench.up("--adapter", "v0", policy=f'{outer}{DENY_ALL}[[application]]\npath = "{good}"\ninternet-out = "permit"\n')
    bench.peer("tcp-echo", INNER["server"], 7000)
    assert bench.run(good, "tcp-connect", INNER["server"], 7000, "--text", "x").ok
    assert bench.run(bad, "tcp-connect", INNER["server"], 7000).errno == "EPERM"
    bench.expect_hits(f"application/{good}/internet-out")
    bench.expect_hits("packet-filter/outer")
    bench.expect_log(application="kernel", id="packet-filter/outer", hook="adapter-egress", action="permit")


def test_a_tunnel_that_nobody_permits_carries_nothing(bench: Bench) -> None:
    """The outer packets fall to the default: the inner ones are permitted and never arrive."""
    good = bench.program("good")
    tunnel(bench)
    bench.up("--adapter", "v0", policy=f'{DENY_ALL}[[application]]\npath = "{good}"\ninternet-out = "permit"\n')
    bench.peer("tcp-echo", INNER["server"], 7000)
    assert bench.run(good, "tcp-connect", INNER["server"], 7000).errno == "ETIMEDOUT"
    bench.expect_log(application="kernel", hook="adapter-egress", action="deny")
