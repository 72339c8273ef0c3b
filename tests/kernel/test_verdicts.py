"""Real sockets under the loaded programs: verdicts, errors and counters, over loopback in IPv4 and IPv6."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from kpf_ebpf.kernel.active import read_active, write_active
from kpf_ebpf.kernel.counters import read_defaults
from tests.kernel.conftest import DENY_ALL, Kernel

CONNECT = """
import errno, socket
try:
    with socket.create_connection(({host!r}, {port}), timeout=3) as made:
        made.sendall(b"ask"); print(made.recv(10).decode())
except OSError as problem:
    print(errno.errorcode.get(problem.errno, "timeout"))
"""
DATAGRAM = """
import errno, socket
made = socket.socket(socket.AF_INET6 if ":" in {host!r} else socket.AF_INET, socket.SOCK_DGRAM)
made.settimeout(3)
try:
    {connect}
    made.sendto(b"ask", ({host!r}, {port})) if not {connected} else made.send(b"ask")
    print(made.recv(10).decode())
except OSError as problem:
    print(errno.errorcode.get(problem.errno, "timeout"))
"""


@pytest.fixture(params=["127.0.0.1", "::1"])
def echo(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """A TCP and UDP server outside the cgroup that answers "answer", at one port of the address."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    listener = socket.socket(family)
    listener.bind((request.param, 0))
    listener.listen()
    port = listener.getsockname()[1]
    datagrams = socket.socket(family, socket.SOCK_DGRAM)
    datagrams.bind((request.param, port))
    ended = threading.Event()
    for one in (listener, datagrams):
        one.settimeout(0.2)

    def accept() -> None:
        while not ended.is_set():
            try:
                made, _ = listener.accept()
            except TimeoutError:
                continue
            with made:
                made.recv(10)
                made.sendall(b"answer")

    def receive() -> None:
        while not ended.is_set():
            try:
                _, peer = datagrams.recvfrom(10)
            except TimeoutError:
                continue
            datagrams.sendto(b"answer", peer)

    threads = [threading.Thread(target=accept), threading.Thread(target=receive)]
    for thread in threads:
        thread.start()
    yield request.param, port
    ended.set()
    for thread in threads:
        thread.join()
    listener.close()
    datagrams.close()


def _policy(kernel: Kernel) -> str:
    return f"""{DENY_ALL}
[[application]]
path = "{kernel.program("permitted")}"
trusted-out = "permit"
"""


def test_a_permitted_program_connects_and_is_answered(kernel: Kernel, echo: tuple[str, int]) -> None:
    """An application rule's trusted-out cell permits, replies are state, and the flow is counted once."""
    kernel.apply(_policy(kernel))
    rule = f"application/{kernel.program('permitted')}/trusted-out"
    before = kernel.judged()
    assert kernel.run("permitted", CONNECT.format(host=echo[0], port=echo[1])) == "answer"
    assert kernel.judged() - before == {rule: 1}, read_defaults(kernel.programs.pins)


def test_any_other_program_gets_eperm_from_connect(kernel: Kernel, echo: tuple[str, int]) -> None:
    """Under a default of deny connect() itself fails with EPERM, credited to the default's cell."""
    kernel.apply(_policy(kernel))
    before = kernel.hits("default/trusted-out")
    assert kernel.run("other", CONNECT.format(host=echo[0], port=echo[1])) == "EPERM"
    assert kernel.hits("default/trusted-out") == before + 1


@pytest.mark.parametrize("connected", [False, True])
def test_datagrams_follow_the_same_cells(kernel: Kernel, echo: tuple[str, int], connected: bool) -> None:
    """UDP, connected or not: permitted ones are answered, denied ones get EPERM from the send."""
    kernel.apply(_policy(kernel))
    connect = f"made.connect(({echo[0]!r}, {echo[1]}))" if connected else "pass"
    code = DATAGRAM.format(host=echo[0], port=echo[1], connect=connect, connected=connected)
    assert kernel.run("permitted", code) == "answer"
    assert kernel.run("other", code) == "EPERM"


def test_a_packet_filter_rule_beats_an_application_rule(kernel: Kernel, echo: tuple[str, int]) -> None:
    """Step 6 comes before step 8: the packet filter's deny decides for a program that its own rule permits."""
    kernel.apply(
        _policy(kernel)
        + f"""
[[packet-filter]]
description = "closed"
direction = "out"
protocol = "tcp"
remote = {{ port = {echo[1]} }}
action = "deny"
"""
    )
    before = kernel.hits("packet-filter/closed")
    assert kernel.run("permitted", CONNECT.format(host=echo[0], port=echo[1])) == "EPERM"
    assert kernel.hits("packet-filter/closed") == before + 1


LISTEN = """
import socket
family = socket.AF_INET6 if ":" in {host!r} else socket.AF_INET
with socket.socket(family) as listener:
    listener.bind(({host!r}, 0)); listener.listen(); listener.settimeout(4)
    print(listener.getsockname()[1], flush=True)
    try:
        made, _ = listener.accept()
        with made:
            made.recv(10); made.sendall(b"answer")
    except TimeoutError:
        pass
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("name", ["permitted", "other"])
def test_a_listener_is_reached_only_where_its_in_cell_permits(kernel: Kernel, host: str, name: str) -> None:
    """A flow is "in" at its listener's end: the owner's trusted-in cell decides, once per flow."""
    kernel.apply(f'{DENY_ALL}\n[[application]]\npath = "{kernel.program("permitted")}"\ntrusted-in = "permit"\n')
    rule = f"application/{kernel.program('permitted')}/trusted-in" if name == "permitted" else "default/trusted-in"
    before = kernel.hits(rule)
    with kernel.start(name, LISTEN.format(host=host)) as listener:
        assert listener.stdout is not None
        port = int(listener.stdout.readline())
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as client:
            client.settimeout(2)
            try:
                client.connect((host, port))
                client.sendall(b"ask")
                answer = client.recv(10)
            except TimeoutError:
                answer = b"timed out"
    assert answer == (b"answer" if name == "permitted" else b"timed out")
    assert kernel.hits(rule) == before + 1


def test_stop_all_outranks_every_rule(kernel: Kernel, echo: tuple[str, int]) -> None:
    """Step 1 comes before all rules: a permitted program is denied, and permitted again once the switch is off."""
    kernel.apply(_policy(kernel))
    code = CONNECT.format(host=echo[0], port=echo[1])
    before = read_active(kernel.programs.pins)
    write_active(kernel.programs.pins, replace(before, generation=before.generation + 1, stop_all=True))
    try:
        hits = kernel.hits("stop-all")
        assert kernel.run("permitted", code) == "EPERM"
        assert kernel.hits("stop-all") == hits + 1
    finally:
        write_active(kernel.programs.pins, replace(before, generation=before.generation + 2))
    assert kernel.run("permitted", code) == "answer"


def test_without_an_active_image_everything_passes(kernel: Kernel, echo: tuple[str, int]) -> None:
    """KPF_DEFAULT_NO_IMAGE: programs that outlive their firewall by mistake deny nobody anything."""
    kernel.apply(_policy(kernel))
    code = CONNECT.format(host=echo[0], port=echo[1])
    before = read_active(kernel.programs.pins)
    write_active(kernel.programs.pins, replace(before, generation=before.generation + 1, slot=None))
    try:
        assert kernel.run("other", code) == "answer"
    finally:
        write_active(kernel.programs.pins, replace(before, generation=before.generation + 2))
    assert kernel.run("other", code) == "EPERM"


def test_an_unsolicited_datagram_is_not_a_reply(kernel: Kernel, echo: tuple[str, int]) -> None:
    """UDP state is per (socket, remote point): an answer from another port than the one asked matches nothing."""
    kernel.apply(_policy(kernel))
    before = kernel.hits("default/trusted-in")
    code = f"""
import socket
family = socket.AF_INET6 if ":" in {echo[0]!r} else socket.AF_INET
made = socket.socket(family, socket.SOCK_DGRAM)
made.bind(({echo[0]!r}, 0)); made.settimeout(2)
print(made.getsockname()[1], flush=True)
made.sendto(b"ask", ({echo[0]!r}, {echo[1]}))
try:
    print(made.recv(10).decode(), flush=True)
    print(made.recv(10).decode(), flush=True)
except TimeoutError:
    print("timed out")
"""
    with kernel.start("permitted", code) as asker:
        assert asker.stdout is not None
        port = int(asker.stdout.readline())
        assert asker.stdout.readline() == "answer\n"
        with socket.socket(socket.AF_INET6 if ":" in echo[0] else socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"unsolicited", (echo[0], port))
        assert asker.stdout.readline() == "timed out\n"
    assert kernel.hits("default/trusted-in") == before + 1
