"""What was judged once is judged alike only as long as it is the same flow of the same socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.kernel.conftest import DENY_ALL, Kernel

REUSED = """
import ctypes, errno, socket
libc = ctypes.CDLL(None, use_errno=True)
made = socket.socket(socket.{family}, socket.{kind})
made.settimeout(3)
said = []
for port in {ports}:
    try:
        made.connect(({host!r}, port))
        for _ in range(3):
            made.send(b"x")
        said.append("sent")
    except OSError as problem:
        said.append(errno.errorcode.get(problem.errno, "timeout"))
    nobody = (ctypes.c_char * 16)()  # AF_UNSPEC: connected to nobody
    libc.connect(made.fileno(), nobody, 16)
print(*said)
"""


@pytest.fixture(params=["127.0.0.1", "::1"])
def listeners(request: pytest.FixtureRequest) -> Iterator[tuple[str, int, int]]:
    """An address with two ports that take connections and datagrams."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    opened, ports = [], []
    for _ in range(2):
        stream, datagram = socket.socket(family), socket.socket(family, socket.SOCK_DGRAM)
        stream.bind((request.param, 0))
        stream.listen()
        datagram.bind(stream.getsockname()[:2])
        opened += [stream, datagram]
        ports.append(stream.getsockname()[1])
    yield request.param, ports[0], ports[1]
    for one in opened:
        one.close()


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
def test_a_socket_that_connects_elsewhere_is_judged_anew(
    kernel: Kernel, listeners: tuple[str, int, int], kind: str
) -> None:
    """To a permitted port, to a denied one, and so on: the cache of the one says nothing of the other."""
    host, permitted, denied = listeners
    rule = (
        '[[packet-filter]]\ndescription = "one port"\naction = "permit"\ndirection = "out"\nprotocol = ["tcp", "udp"]\n'
    )
    kernel.apply(f"{DENY_ALL}{rule}remote = {{ port = {permitted} }}\n")
    family = "AF_INET6" if ":" in host else "AF_INET"
    code = REUSED.format(family=family, kind=kind, host=host, ports=[permitted, denied, permitted, denied])
    before = kernel.hits("packet-filter/one port")
    assert kernel.run("reuser", code) == "sent EPERM sent EPERM"
    flows = {"SOCK_STREAM": 2, "SOCK_DGRAM": 1}  # datagrams to where some went a moment ago are the same flow
    assert kernel.hits("packet-filter/one port") - before == flows[kind]
