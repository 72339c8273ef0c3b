"""What a program under test does on the network: one verb, then one JSON line for each thing that happened.

Run as ``COPY -I sender.py VERB ADDRESS PORT [options]`` by bench.Bench. A line is
``{"ok": bool, "errno": name or null, "data": ...}``; waiting too long is a result, ETIMEDOUT.
Servers first print ``"data": {"event": "ready", ...}``. Sessions take commands on standard input.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import selectors
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

DEADLINE = 2.0


def tell(ok: bool, data: Any = None, error: OSError | None = None) -> None:
    """Print the line of one result."""
    name = None
    if error is not None:
        name = errno.errorcode.get(error.errno, str(error.errno)) if error.errno else "ETIMEDOUT"
    print(json.dumps({"ok": ok, "errno": name, "data": data}), flush=True)


def attempt(action: Callable[[], Any]) -> bool:
    """Do it and print how it went."""
    try:
        tell(True, action())
    except OSError as error:
        tell(False, None, error)
        return False
    return True


def new_socket(options: argparse.Namespace, kind: int, protocol: int = 0) -> socket.socket:
    """Return a socket of the address's family, bound as the options say."""
    family = socket.AF_INET6 if ":" in options.address else socket.AF_INET
    made = socket.socket(family, kind, protocol)
    made.settimeout(options.deadline)
    if kind == socket.SOCK_STREAM:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if options.local_address or options.local_port:
        made.bind((options.local_address or ("::" if family == socket.AF_INET6 else "0.0.0.0"), options.local_port))
    return made


def bound(options: argparse.Namespace, kind: int) -> socket.socket:
    """Return a socket bound to the address and port of the command line."""
    options.local_address, options.local_port = options.address, options.port
    family = socket.AF_INET6 if ":" in options.address else socket.AF_INET
    made = socket.socket(family, kind)
    made.settimeout(options.deadline)
    if kind == socket.SOCK_STREAM:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if options.reuse_port:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if options.dual:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.bind((options.address, options.port))
    return made


def exchange(connection: socket.socket, text: str) -> dict[str, Any]:
    """Send the text and return what came back."""
    connection.send(text.encode())
    return {"echo": connection.recv(65535).decode()}


def tcp_connect(options: argparse.Namespace) -> Any:
    """Connect; with --text also expect it back."""
    with closing(new_socket(options, socket.SOCK_STREAM)) as connection:
        connection.connect((options.address, options.port))
        found: dict[str, Any] = {"local": connection.getsockname()[:2], "remote": connection.getpeername()[:2]}
        if options.text:
            found |= exchange(connection, options.text)
        return found


def forked_connect(options: argparse.Namespace) -> Any:
    """Let a child that executes nothing connect."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        number = errno.EIO
        try:
            tcp_connect(options)
            number = 0
        except OSError as error:
            number = error.errno or errno.ETIMEDOUT
        finally:
            os.write(write, str(number).encode())
            os._exit(0)
    os.waitpid(child, 0)
    number = int(os.read(read, 16))
    if number:
        raise OSError(number, os.strerror(number))
    return {}


def tcp_connect_many(options: argparse.Namespace) -> dict[str, int]:
    """Connect so many times; how often each error came."""
    found: dict[str, int] = {}
    for _ in range(options.count):
        with closing(new_socket(options, socket.SOCK_STREAM)) as connection:
            number = connection.connect_ex((options.address, options.port))
        name = errno.errorcode.get(number, "none")
        found[name] = found.get(name, 0) + 1
    return found


def tcp_listen(options: argparse.Namespace) -> Any:
    """Accept one connection."""
    with closing(bound(options, socket.SOCK_STREAM)) as listener:
        listener.listen()
        tell(True, {"event": "ready"})
        connection, peer = listener.accept()
        connection.close()
        return {"event": "accepted", "peer": peer[:2]}


def tcp_echo(options: argparse.Namespace) -> None:
    """Serve until killed, telling of every connection and its end."""
    listener = bound(options, socket.SOCK_STREAM)
    listener.listen()
    tell(True, {"event": "ready"})
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is listener:
                connection, peer = listener.accept()
                connection.settimeout(options.deadline)
                waiting.register(connection, selectors.EVENT_READ)
                tell(True, {"event": "accepted", "peer": peer[:2]})
                continue
            talking = key.fileobj
            assert isinstance(talking, socket.socket)
            try:
                text = talking.recv(65535)
                if text:
                    talking.send(text)
                    continue
                tell(True, {"event": "eof"})
            except OSError as error:
                tell(False, {"event": "broken"}, error)
            waiting.unregister(talking)
            talking.close()


def udp_send(options: argparse.Namespace) -> Any:
    """Send one datagram with sendto; with --expect also receive one."""
    with closing(new_socket(options, socket.SOCK_DGRAM)) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, int(options.broadcast))
        sender.sendto((options.text or "x").encode(), (options.address, options.port))
        if not options.expect:
            return {}
        text, peer = sender.recvfrom(65535)
        return {"echo": text.decode(), "peer": peer[:2]}


def udp_connected(options: argparse.Namespace) -> Any:
    """Connect a UDP socket; with --text also send; with --expect also receive."""
    with closing(new_socket(options, socket.SOCK_DGRAM)) as sender:
        sender.connect((options.address, options.port))
        found: dict[str, Any] = {"remote": sender.getpeername()[:2]}
        if options.text:
            sender.send(options.text.encode())
        if options.expect:
            found["echo"] = sender.recv(65535).decode()
        return found


def udp_listen(options: argparse.Namespace) -> Any:
    """Receive one datagram."""
    with closing(bound(options, socket.SOCK_DGRAM)) as listener:
        tell(True, {"event": "ready"})
        text, peer = listener.recvfrom(65535)
        return {"event": "received", "text": text.decode(), "peer": peer[:2]}


def udp_echo(options: argparse.Namespace) -> None:
    """Answer datagrams until killed."""
    listener = bound(options, socket.SOCK_DGRAM)
    listener.settimeout(None)
    tell(True, {"event": "ready"})
    while True:
        text, peer = listener.recvfrom(65535)
        tell(True, {"event": "received", "text": text.decode(errors="replace")[:80], "peer": peer[:2]})
        try:
            listener.sendto(text, peer)
        except OSError as error:
            tell(False, {"event": "answer"}, error)


def ping(options: argparse.Namespace, kind: int) -> Any:
    """Send one echo request and wait for its answer, by a raw or a ping socket."""
    six = ":" in options.address
    request, answer = (128, 129) if six else (8, 0)
    protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
    packet = bytearray(struct.pack("!BBHHH", request, 0, 0, os.getpid() & 0xFFFF, 1) + b"kpf-test")
    total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    total = (total & 0xFFFF) + (total >> 16)
    packet[2:4] = struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)
    with closing(new_socket(options, kind, protocol)) as sender:
        sender.sendto(packet, (options.address, 0))
        while True:
            got = sender.recv(65535)
            if kind == socket.SOCK_RAW and not six:
                got = got[(got[0] & 15) * 4 :]
            if got[0] == answer and got[8:] == b"kpf-test":
                return {"answered": True}


def session(options: argparse.Namespace, kind: int) -> None:
    """Connect, then obey lines of standard input: ``echo TEXT``, ``eof`` (expect the peer's end), ``close``."""
    connection = new_socket(options, kind)

    def connected() -> Any:
        connection.connect((options.address, options.port))
        return {"event": "connected", "local": connection.getsockname()[:2]}

    if not attempt(connected):
        return
    for line in sys.stdin:
        word, _, text = line.strip().partition(" ")
        if word == "echo":
            attempt(lambda text=text: exchange(connection, text))  # type: ignore[misc]
        elif word == "close":
            connection.close()
            tell(True, {"event": "closed"})


def tcp_waiting(options: argparse.Namespace) -> None:
    """Connect, and wait for the end of the connection, however long it takes."""
    with closing(new_socket(options, socket.SOCK_STREAM)) as connection:
        if attempt(lambda: connection.connect((options.address, options.port))):
            connection.settimeout(None)
            tell(not connection.recv(1), {"event": "eof"})


def udp_session(options: argparse.Namespace) -> None:
    """Keep one unconnected UDP socket and obey: ``echo TEXT`` to the peer and wait, ``receive`` (wait only)."""
    sender = new_socket(options, socket.SOCK_DGRAM)
    if not sender.getsockname()[1]:
        sender.bind(("::" if ":" in options.address else "0.0.0.0", 0))
    tell(True, {"event": "ready", "local": sender.getsockname()[:2]})

    def received() -> Any:
        text, peer = sender.recvfrom(65535)
        return {"text": text.decode(), "peer": peer[:2]}

    def echoed(text: str) -> Any:
        sender.sendto(text.encode(), (options.address, options.port))
        return received()

    for line in sys.stdin:
        word, _, text = line.strip().partition(" ")
        attempt(received if word == "receive" else lambda text=text: echoed(text))  # type: ignore[misc]


sys.path.insert(0, str(Path(__file__).parent))  # -I leaves it out
import verbs  # noqa: E402

ONCE: dict[str, Callable[[argparse.Namespace], Any]] = {
    "tcp-connect": tcp_connect,
    "forked-connect": forked_connect,
    "tcp-connect-many": tcp_connect_many,
    "tcp-listen": tcp_listen,
    "udp-send": udp_send,
    "udp-connected": udp_connected,
    "udp-listen": udp_listen,
    "raw-icmp": lambda options: ping(options, socket.SOCK_RAW),
    "ping": lambda options: ping(options, socket.SOCK_DGRAM),
    "raw-udp": verbs.raw_udp,
    "raw-ip": verbs.raw_ip,
    "fast-open": verbs.fast_open,
    "send-many": verbs.send_many,
    "mptcp": verbs.mptcp,
    "frame": verbs.frame,
    "bypass": verbs.bypass,
    "big-option": verbs.big_option,
    "hand-over": verbs.hand_over,
    "finish": verbs.finish,
}
LASTING: dict[str, Callable[[argparse.Namespace], None]] = {
    "tcp-echo": tcp_echo,
    "udp-echo": udp_echo,
    "tcp-session": lambda options: session(options, socket.SOCK_STREAM),
    "udp-connected-session": lambda options: session(options, socket.SOCK_DGRAM),
    "udp-session": udp_session,
    "tcp-waiting": tcp_waiting,
}


def arguments() -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield what the command line takes."""
    yield ("verb",), {"choices": [*ONCE, *LASTING]}
    yield ("address",), {}
    yield ("port",), {"type": int, "nargs": "?", "default": 0}
    yield ("--text",), {"default": ""}
    yield ("--local-address",), {"default": ""}
    yield ("--count",), {"type": int, "default": 1}
    yield ("--local-port",), {"type": int, "default": 0}
    yield ("--deadline",), {"type": float, "default": DEADLINE}
    yield ("--heir",), {"default": ""}
    yield ("--begun",), {"choices": ["created", "connected"], "default": "created"}
    yield ("--descriptor",), {"type": int, "default": -1}
    for name in ("--expect", "--dual", "--reuse-port", "--broadcast"):
        yield (name,), {"action": "store_true"}


def main() -> None:
    """Do the one verb."""
    parser = argparse.ArgumentParser()
    for names, keywords in arguments():
        parser.add_argument(*names, **keywords)
    options = parser.parse_args()
    if options.verb in ONCE:
        attempt(lambda: ONCE[options.verb](options))
    else:
        LASTING[options.verb](options)


if __name__ == "__main__":
    main()
