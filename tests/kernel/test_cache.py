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

SENDING = """
import errno, os, socket, sys
made, heir = socket.socket(fileno=int(sys.argv[1])), sys.argv[2:]
for _ in range(4):
    try:
        made.sendto(b"x", ({host!r}, {port}))
        said = "sent"
    except OSError as problem:
        said = errno.errorcode[problem.errno]
print(said, flush=True)
child = os.fork() if {child} and heir else 0
if child:
    os.waitpid(child, 0)
elif heir:
    os.execv(heir[0], [heir[0], "-I", "-c", {again!r}, sys.argv[1], *heir[1:]])
"""
"""Sends datagrams by an inherited socket, then becomes the next of the programs that it is given."""


MANY = """
import collections, socket
made = socket.socket(socket.{family}, socket.SOCK_DGRAM)
said = collections.Counter()
for _ in range({times}):
    for number in range({count}):
        try:
            made.sendto(b"x", ({point}, {port}))
            said["sent", number % 2] += 1
        except OSError as problem:
            said["denied" if problem.errno == 1 else problem.errno, number % 2] += 1
print(*(f"{{what}} {{odd}} {{many}}" for (what, odd), many in sorted(said.items())), sep=", ")
"""
"""Sends to many addresses in turn, by one socket."""


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


@pytest.mark.parametrize("child", [False, True], ids=["the same process", "a child of its"])
def test_a_process_that_becomes_another_program_sends_as_that(
    kernel: Kernel, listeners: tuple[str, int, int], child: bool
) -> None:
    """By the same unconnected socket, to the same place, under the same number: what was just permitted is denied."""
    host, port, _ = listeners
    good, bad = kernel.program("sender"), kernel.program("heir")
    kernel.apply(f'{DENY_ALL}[[application]]\npath = "{good}"\ninternet-out = "permit"\ntrusted-out = "permit"\n')
    code = SENDING.format(host=host, port=port, child=child, again="exec(__import__('os').environ['CODE'])")
    start = f"""
import os, socket
made = socket.socket(socket.{"AF_INET6" if ":" in host else "AF_INET"}, socket.SOCK_DGRAM)
made.set_inheritable(True)
os.environ["CODE"] = {code!r}
words = [{str(good)!r}, {str(bad)!r}, {str(good)!r}]
os.execv(words[0], [words[0], "-I", "-c", "exec(__import__('os').environ['CODE'])", str(made.fileno()), *words[1:]])
"""
    assert kernel.run("sender", start).split() == ["sent", "EPERM", "sent"]


def test_flows_that_take_each_others_place_in_memory_are_judged_as_they_are(kernel: Kernel) -> None:
    """Of thousands, many have the same places; every other one is denied. Each is a flow by itself, and counts once."""
    count, times = 12000, 3
    rule = '[[packet-filter]]\ndescription = "even"\naction = "permit"\nprotocol = "udp"\n'
    kernel.apply(f'{DENY_ALL}{rule}remote = {{ address = "127.2.0.0/16" }}\n')
    point = 'f"127.{2 + number % 2}.{number >> 8}.{number & 255}"'
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taker:
        taker.bind(("", 0))
        code = MANY.format(family="AF_INET", point=point, port=taker.getsockname()[1], count=count, times=times)
        before = kernel.hits("packet-filter/even")
        assert kernel.run("spreader", code) == f"denied 1 {count // 2 * times}, sent 0 {count // 2 * times}"
    assert kernel.hits("packet-filter/even") - before == count // 2
