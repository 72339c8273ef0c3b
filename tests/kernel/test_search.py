"""A search through more chunks of rules than one run of a program looks at goes on in the next run, to its end."""

from __future__ import annotations

import socket
import struct

from kpf_ebpf.kernel import abi
from kpf_ebpf.kernel.adapters import set_reach
from kpf_ebpf.kernel.counters import read_defaults
from tests.fuzz.bed import IPV4, framed, run_packet
from tests.kernel.conftest import DENY_ALL, Kernel
from tests.kernel.test_verdicts import CONNECT, DATAGRAM, LISTEN

A_RUN = abi.RUN_CHUNKS * abi.CHUNK_WORDS * 64
"""Rules that a run looks at."""
GO_ON, DROP = -1, 2
STRANGER = "198.51.100.7"


def near_misses(near: str, port: int, host: str, runs: int = 1) -> str:
    """Rules for this host and another port, and for this port and another host, in turn; ``near``: which point's.

    A flow that matches all of them in each field, and none in all, is searched in more than so many runs.
    """
    return "".join(
        f'[[packet-filter]]\ndescription = "miss {number}"\naction = "permit"\nprotocol = ["tcp", "udp"]\n'
        f"{near} = {{ address = {address!r}, port = {other} }}\n"
        for number in range(runs * A_RUN + 300)
        for address, other in ((host, 1) if number % 2 else ("192.0.2.1", port),)
    )


def last(near: str, port: int, host: str) -> str:
    """The rule behind them that means both."""
    return (
        '[[packet-filter]]\ndescription = "last"\naction = "permit"\nprotocol = ["tcp", "udp"]\n'
        f"{near} = {{ address = {host!r}, port = {port} }}\n"
    )


def broken(kernel: Kernel) -> int:
    """How often an image was taken for broken, which an unfinished search would be."""
    return read_defaults(kernel.programs.pins)[abi.Default.BROKEN_IMAGE]


def test_what_goes_out_is_decided_by_the_last_rule(kernel: Kernel) -> None:
    """TCP and UDP are permitted by a rule behind thousands of near misses, and denied where it is not there."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        port = server.getsockname()[1]
        datagrams.bind(("127.0.0.1", port))
        before = broken(kernel)
        say = CONNECT.replace("print(made.recv(10).decode())", 'print("connected")').format(host="127.0.0.1", port=port)
        send = DATAGRAM.replace("print(made.recv(10).decode())", 'print("sent")')
        send = send.format(host="127.0.0.1", port=port, connect="pass", connected=False)
        misses = DENY_ALL + near_misses("remote", port, "127.0.0.1", runs=2)
        kernel.apply(misses + last("remote", port, "127.0.0.1"))
        hits = kernel.hits("packet-filter/last")
        assert kernel.run("seeker", say) == "connected"
        assert kernel.run("seeker", send) == "sent"
        assert kernel.hits("packet-filter/last") == hits + 2
        kernel.apply(misses)
        denied = kernel.hits("default/trusted-out")
        assert kernel.run("seeker", send) == "EPERM"
        assert kernel.hits("default/trusted-out") == denied + 1
        assert broken(kernel) == before


def test_what_comes_in_is_decided_by_the_last_rule(kernel: Kernel) -> None:
    """A listener is reached by a rule behind thousands of near misses."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    kernel.apply(DENY_ALL + near_misses("local", port, "127.0.0.1") + last("local", port, "127.0.0.1"))
    hits, before = kernel.hits("packet-filter/last"), broken(kernel)
    with kernel.start("found", LISTEN.replace("{host!r}, 0", f"{{host!r}}, {port}").format(host="127.0.0.1")) as one:
        assert one.stdout is not None
        assert int(one.stdout.readline()) == port
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
        one.wait(20)
    assert kernel.hits("packet-filter/last") == hits + 1
    assert broken(kernel) == before


def test_at_an_adapter_the_last_rule_decides(kernel: Kernel) -> None:
    """A datagram to a closed port of this host goes on by a rule behind near misses, and is dropped without it."""
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    points = socket.inet_aton(STRANGER) + socket.inet_aton("127.0.0.1")
    packet = struct.pack(">BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 17, 0) + points + struct.pack(">HHHH", 999, port, 8, 0)
    ingress = kernel.programs.descriptors["kpf_adapter_ingress"]
    misses, before = DENY_ALL + near_misses("local", port, "127.0.0.1"), broken(kernel)
    kernel.apply(misses + last("local", port, "127.0.0.1"))
    set_reach(kernel.programs.pins, kernel.home, kernel.cgroup, 1)
    hits = kernel.hits("packet-filter/last")
    assert run_packet(ingress, framed(packet, IPV4)) == GO_ON
    assert kernel.hits("packet-filter/last") == hits + 1
    kernel.apply(misses)
    assert run_packet(ingress, framed(packet, IPV4)) == DROP
    assert broken(kernel) == before
