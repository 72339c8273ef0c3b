"""The machine changes under a live policy: adapters, addresses, the proxy, users' files; verdicts follow."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.records import changed_at
from kpf_ebpf.kernel.maps import INNER_MAPS

from .bench import CLIENT, DENY_ALL, SERVER, Bench
from .components import policy as components
from .tools import eventually, system
from .zone import more_addresses, name_server

HERE, THERE, THERE_TOO = "198.18.0.1", "198.18.0.2", "198.18.0.3"
TRUSTED = '[[trusted]]\ndescription = "Tunnel"\nadapter = "v9"\naddress = "198.18.0.0/24"\n'
NO_NAMES = f'[preferences]\nproxy = "none"\nsend-crash-dumps = false\nregistration-server = "{SERVER}"\n'
"""Nobody to ask a name server for, whose sockets come and go."""
OUT = DENY_ALL.replace('trusted-out = "deny"', 'trusted-out = "permit"').replace(
    'trusted-in = "deny"', 'trusted-in = "permit"'
)


def link(bench: Bench, *words: str, place: str = "client") -> None:
    """Run `ip` in a namespace."""
    system("ip", "-n", bench.namespaces[place], *words)


def second_adapter(bench: Bench) -> None:
    """Join the namespaces by another veth pair, v9."""
    link(bench, "link", "add", "v9", "type", "veth", "peer", "name", "v9", "netns", bench.namespaces["server"])
    for place, address in (("client", HERE), ("server", THERE)):
        link(bench, "address", "add", f"{address}/24", "dev", "v9", place=place)
        link(bench, "link", "set", "v9", "up", place=place)


def reaches(bench: Bench, remote: str, port: int = 7000, program: str = "any") -> bool:
    """Return whether a program reaches an address; where the adapter decides, a denial may be silence."""
    found = bench.run(bench.program(program), "tcp-connect", remote, port, "--text", "x", "--deadline", 1)
    assert found.ok or found.errno in ("EPERM", "ETIMEDOUT", "ENETUNREACH", "ECONNREFUSED"), found
    return found.ok


def test_an_adapter_that_comes_up_later_is_the_one_the_policy_means(bench: Bench) -> None:
    """A VPN's or namespace's device: its network is Trusted as soon as it is there; renamed away, it is not."""
    bench.up(policy=TRUSTED + OUT)
    bench.peer("tcp-echo", "0.0.0.0", 7000)
    assert not reaches(bench, SERVER)
    second_adapter(bench)
    assert eventually(lambda: reaches(bench, THERE))
    bench.expect_hits("default/trusted-out")
    link(bench, "link", "set", "v9", "down")
    link(bench, "link", "set", "v9", "name", "v8")
    link(bench, "link", "set", "v8", "up")
    assert eventually(lambda: not reaches(bench, THERE))
    link(bench, "link", "set", "v8", "down")
    link(bench, "link", "set", "v8", "name", "v9")
    link(bench, "link", "set", "v9", "up")
    assert eventually(lambda: reaches(bench, THERE))


def test_a_trusted_address_on_the_wrong_adapter_is_internet(bench: Bench) -> None:
    """The network is Trusted by its adapter only: the same address by another adapter is Internet, both ways."""
    second_adapter(bench)
    bench.up(policy=TRUSTED + OUT)
    bench.peer("tcp-echo", "0.0.0.0", 7000)
    bench.serve(bench.program("server"), "tcp-echo", "0.0.0.0", 7100)
    assert reaches(bench, THERE)
    assert bench.outsider("tcp-connect", HERE, 7100, "--text", "x").ok
    link(bench, "link", "del", "v9")
    more_addresses(bench, THERE)
    link(bench, "route", "add", f"{THERE}/32", "dev", "v0")
    link(bench, "address", "add", f"{HERE}/32", "dev", "v0")
    link(bench, "route", "add", f"{HERE}/32", "dev", "v0", place="server")
    assert eventually(lambda: not reaches(bench, THERE))
    before = bench.hits("default/internet-in")
    assert not bench.outsider("tcp-connect", HERE, 7100, "--local-address", THERE, "--deadline", 1).ok
    bench.expect_hits("default/internet-in", before + 1)


def test_an_own_address_that_is_added_is_this_host(bench: Bench) -> None:
    """What comes in for a new address is judged at the adapter; removed, nobody answers for it anyway."""
    bench.up("--adapter", "v0", policy=NO_NAMES + DENY_ALL.replace("enabled = false", "enabled = true"))
    record, generation = changed_at(Instance(bench.instance)), bench.status()["generation"]
    link(bench, "address", "add", "192.0.2.77/24", "dev", "v0")
    assert eventually(lambda: not bench.outsider("raw-icmp", "192.0.2.77").ok)
    bench.expect_hits("predefined/ping-in/internet")
    assert bench.status()["generation"] > generation
    assert changed_at(Instance(bench.instance)) == record, "the policy was not resolved again for that"


def test_many_events_leave_the_right_final_state(bench: Bench) -> None:
    """1,000 address and adapter events a second for ten seconds: right at the end, no leak, under 20 % of a core."""
    bench.up(policy=NO_NAMES + TRUSTED + OUT)
    bench.peer("tcp-echo", "0.0.0.0", 7000)
    engine = int(bench.status()["engine"])
    descriptors, before = descriptors_of(engine), spent(engine)
    link(bench, "link", "add", "storm", "type", "veth", "peer", "name", "storm2")
    began = time.monotonic()
    pace = threading.Event()  # never set: it gives the events their rate
    for number in range(1, 101):
        words = [
            f"{what} dev storm"
            for net in range(25)
            for what in (f"address add 10.9.{net}.1/24", f"address del 10.9.{net}.1/24")
        ]
        words += ["link set storm up", "link set storm down"] * 25
        batch(bench, words)
        pace.wait(max(0, began + 0.1 * number - time.monotonic()))
    share = (spent(engine) - before) / (time.monotonic() - began)
    print(f"Engine: {share:.1%} of a core")
    second_adapter(bench)
    assert eventually(lambda: reaches(bench, THERE))
    link(bench, "link", "del", "storm")
    kept = len(INNER_MAPS)  # of the image that it made itself the Engine keeps the maps open, to share them
    assert eventually(lambda: descriptors_of(engine) <= descriptors + kept + 2)
    assert bench.status()["engine"] == engine
    assert share < 0.2


def batch(bench: Bench, lines: list[str]) -> None:
    """Run many `ip` commands in the client namespace by one process."""
    command = ["ip", "-n", bench.namespaces["client"], "-batch", "-"]
    subprocess.run(command, input="\n".join(lines) + "\n", text=True, check=True, capture_output=True)


def descriptors_of(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def spent(pid: int) -> float:
    """Return the processor time of a process, in seconds."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """Give a file that stands where /etc/environment is, for the firewall."""
    path = tmp_path / "environment"
    path.touch()
    yield {"/etc/environment": path}


def test_a_proxy_that_is_configured_while_it_runs_is_picked_up(bench: Bench, environment: dict[str, Path]) -> None:
    """The direct rows go, the proxy's come, by name and address; taken out again, all is as before."""
    proxied: dict[str, Any] = {"proxy": "system", "registration_server": SERVER, "resolvers": [SERVER]}
    bench.peer("tcp-echo", "0.0.0.0", 3128)
    bench.peer("tcp-echo", "0.0.0.0", 443)
    with name_server(bench, {"proxy.example": (SERVER,)}):
        done = bench.try_up(components(bench, **proxied), binds=environment)
        assert done.returncode == 0, done.stderr
        assert reaches(bench, SERVER, 443, "engine")
        bench.expect_hits("internal/registration/direct")
        environment["/etc/environment"].write_text("https_proxy=http://user:secret@proxy.example:3128\n")
        assert eventually(lambda: not reaches(bench, SERVER, 443, "engine"))
        assert eventually(lambda: reaches(bench, SERVER, 3128, "engine"))
        bench.expect_hits("internal/registration/proxy")
        shown = bench.kpf("status").stdout + bench.kpf("doctor").stdout + bench.kpf("log").stdout
        assert "secret" not in shown
        environment["/etc/environment"].write_text("")
        assert eventually(lambda: reaches(bench, SERVER, 443, "engine"))


def test_an_edited_block_list_is_picked_up_and_a_bad_edit_is_not(bench: Bench) -> None:
    """A group file: what is added counts soon; a mistake in it is told with its line, and what was there stands."""
    listed = bench.folder / "blocked.txt"
    listed.write_text(f"{CLIENT}\n")
    rule = (
        '[groups]\nblocked = { file = "blocked.txt" }\n[[packet-filter]]\ndescription = "blocked"\n'
        'direction = "out"\naction = "deny"\nremote = { address = "@blocked" }\n'
    )
    bench.up(policy=rule + DENY_ALL.replace('internet-out = "deny"', 'internet-out = "permit"'))
    bench.peer("tcp-echo", "0.0.0.0", 7000)
    assert reaches(bench, SERVER)
    listed.write_text(f"{CLIENT}\n{SERVER}\n")
    assert eventually(lambda: not reaches(bench, SERVER))
    bench.expect_hits("packet-filter/blocked")
    listed.write_text(f"{CLIENT}\nnonsense/99\n")
    assert eventually(lambda: any("blocked.txt:2" in warning for warning in bench.status()["warnings"]))
    assert not reaches(bench, SERVER), "the bad list took the place of the good one"
    listed.write_text(f"{CLIENT}\n")
    assert eventually(lambda: reaches(bench, SERVER))
    assert not any("blocked.txt" in warning for warning in bench.status()["warnings"])


def test_an_edit_of_the_policy_itself_waits_for_reload(bench: Bench) -> None:
    """Only what the policy speaks of is followed; what it says is taken when somebody says so."""
    bench.up(policy=DENY_ALL)
    bench.peer("tcp-echo", "0.0.0.0", 7000)
    bench.write_policy(DENY_ALL.replace('internet-out = "deny"', 'internet-out = "permit"'))
    second_adapter(bench)
    assert not reaches(bench, SERVER)
    assert bench.kpf("reload").returncode == 0
    assert reaches(bench, SERVER)
