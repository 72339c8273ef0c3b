"""What else a program under test may do: a script like sender.py, with the same lines, for rarer ways to the network.

Run as ``COPY -I more_verbs.py VERB ADDRESS PORT [options]`` by launch.py.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import mmap
import os
import selectors
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # -I leaves it out
from connect_verbs import connect_again, connect_often, listen_instead
from packet_verbs import (
    Options,
    extended,
    family,
    fragment,
    fresh,
    multicast_echo,
    multicast_send,
    point,
    raw_timestamp,
    with_options,
)
from sender import DEADLINE, attempt, exchange, tell

# -- short lives ------------------------------------------------------------------------------------------------


def spawn(options: Options) -> dict[str, int]:
    """Let --count shells connect, --heir by --heir, some at once: how often each came to which end.

    What they complain of goes to the file --text, each heir's name after it.
    """
    script = f"exec 3<>/dev/tcp/{options.address}/{options.port}"
    running: dict[int, str] = {}
    found: Counter[str] = Counter()

    def reap() -> None:
        pid, status = os.wait()
        found[f"{running.pop(pid)} {os.waitstatus_to_exitcode(status)}"] += 1

    for number in range(options.count):
        program = options.heir[number % len(options.heir)]
        name = Path(program).name
        complaints = (os.POSIX_SPAWN_OPEN, 2, f"{options.text}{name}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        running[os.posix_spawn(program, [name, "-c", script], {}, file_actions=[complaints])] = name
        if len(running) >= 8:
            reap()
    while running:
        reap()
    return dict(found)


def absorb(options: Options) -> None:
    """Accept and close without a word, until asked on standard input: how many there were."""
    waiting = selectors.DefaultSelector()
    listener = fresh(options, bind=True)
    listener.listen(4096)
    waiting.register(listener, selectors.EVENT_READ)
    waiting.register(sys.stdin, selectors.EVENT_READ)
    tell(True, {"event": "ready"})
    count = 0
    while True:
        events = [key.fileobj for key, _ in waiting.select()]
        if listener in events:
            listener.accept()[0].close()
            count += 1
        elif sys.stdin.readline():
            tell(True, {"count": count})
        else:
            return


def restart(options: Options) -> dict[str, int]:
    """Make the cgroup --text, connect in it at once, leave and remove it, --count times: how often each end came."""
    unit = Path(options.text)
    found: Counter[str] = Counter()
    for _ in range(options.count):
        unit.mkdir()
        (unit / "cgroup.procs").write_text(str(os.getpid()))
        with fresh(options) as connection:
            number = connection.connect_ex(point(options))
        found[errno.errorcode.get(number, "none")] += 1
        (unit.parent / "cgroup.procs").write_text(str(os.getpid()))
        unit.rmdir()
    return dict(found)


def flood(options: Options) -> None:
    """Send datagrams, --count at least, to one port after another until a line comes: how many, how many refused."""
    waiting = selectors.DefaultSelector()
    waiting.register(sys.stdin, selectors.EVENT_READ)
    sender = socket.socket(family(options.address), socket.SOCK_DGRAM)
    tell(True, {"event": "ready"})
    tried = refused = 0
    while tried < options.count or not waiting.select(0):
        for port in range(10000, 10500):
            tried += 1
            try:
                sender.sendto(b"x", (options.address, port + tried // 500 % 64 * 500))
            except PermissionError:
                refused += 1
    tell(True, {"tried": tried, "refused": refused})


# -- sockets that change hands ----------------------------------------------------------------------------------


def fork_heir(options: Options, verb: str, given: socket.socket) -> int:
    """Start the heir as a child that inherits one socket, and return its pid."""
    os.set_inheritable(given.fileno(), True)
    words = [options.heir[0], "-I", sys.argv[0], verb, *map(str, point(options)), "--text", options.text]
    words += ["--descriptor", str(given.fileno()), "--begun", options.begun]
    return os.posix_spawn(options.heir[0], words + ["--datagram"] * options.datagram, dict(os.environ))


def pass_socket(options: Options) -> None:
    """Make a socket and pass it (SCM_RIGHTS) to the heir, who tells how it went.

    --begun: ``created``; ``connected``; ``used``: unconnected, but this one has talked to the same point by it.
    """
    mine, theirs = socket.socketpair()
    heir = fork_heir(options, "take-socket", theirs)
    theirs.close()
    try:
        with fresh(options) as given:
            if options.begun == "connected":
                given.connect(point(options))
            if options.begun == "used":
                given.sendto(b"mine", point(options))
                given.recv(65535)
            socket.send_fds(mine, [b"x"], [given.fileno()])
            os.waitpid(heir, 0)
    except OSError as error:
        tell(False, {"event": "giver"}, error)


def take_socket(options: Options) -> Any:
    """Receive a socket and talk by it; the text comes back."""
    with socket.socket(fileno=options.descriptor) as mine:
        _, descriptors, _, _ = socket.recv_fds(mine, 1, 1)
    with socket.socket(fileno=descriptors[0]) as given:
        given.settimeout(options.deadline)
        if options.begun == "connected":
            return exchange(given, options.text)
        given.sendto(options.text.encode(), point(options))
        return {"echo": given.recv(65535).decode()}


def activate(options: Options) -> None:
    """Bind a socket and let the heir serve by it, as systemd does."""
    with fresh(options, bind=True) as listener:
        if not options.datagram:
            listener.listen()
        os.waitpid(fork_heir(options, "activated", listener), 0)


def activated(options: Options) -> Any:
    """Serve one peer by an inherited socket."""
    with socket.socket(fileno=options.descriptor) as listener:
        listener.settimeout(options.deadline)
        tell(True, {"event": "ready"})
        if options.datagram:
            text, peer = listener.recvfrom(65535)
            listener.sendto(text, peer)
        else:
            connection, peer = listener.accept()
            with connection:
                connection.settimeout(options.deadline)
                text = connection.recv(65535)
                connection.send(text)
        return {"event": "served", "peer": peer[:2], "text": text.decode()}


# -- other system calls -----------------------------------------------------------------------------------------


def send_file(connection: socket.socket, call: str, text: bytes) -> int:
    """Send the text by sendfile() or splice(), and return how much was sent."""
    if call == "sendfile":
        source = os.memfd_create("text")
        os.write(source, text)
        return os.sendfile(connection.fileno(), source, 0, len(text))
    source, write = os.pipe()
    os.write(write, text)
    return os.splice(source, connection.fileno(), len(text))


def from_file(options: Options) -> Any:
    """Connect, and send the text by sendfile() or splice() (--begun); it comes back."""
    with fresh(options) as connection:
        connection.connect(point(options))
        sent = send_file(connection, options.begun, options.text.encode())
        return {"sent": sent, "echo": connection.recv(65535).decode()}


def file_session(options: Options) -> None:
    """Connect, and send each line of standard input by sendfile() or splice(); it comes back."""
    with fresh(options) as connection:
        connection.connect(point(options))
        tell(True, {"event": "ready"})
        for line in sys.stdin:
            text = line.strip().encode()
            attempt(
                lambda text=text: {  # type: ignore[misc]
                    "sent": send_file(connection, options.begun, text),
                    "echo": connection.recv(65535).decode(),
                }
            )


LIBC = ctypes.CDLL(None, use_errno=True)
URING_SENDMSG, URING_CONNECT, URING_SEND = 9, 16, 26
URING_SETUP, URING_ENTER = 425, 426
URING_ASYNC = 16  # IOSQE_ASYNC: by one of the kernel's worker threads


def uring(operation: int, descriptor: int, flags: int, memory: Any, length: int, offset: int = 0) -> None:
    """Do one operation by an io_uring of its own (its layout: struct io_uring_params, struct io_uring_sqe)."""
    parameters = ctypes.create_string_buffer(120)
    ring = LIBC.syscall(URING_SETUP, 1, parameters)
    if ring < 0:
        raise OSError(ctypes.get_errno(), "io_uring_setup")
    tail, array, answers = (struct.unpack_from("=I", parameters, at)[0] for at in (44, 64, 100))
    entry = struct.pack(
        "=BBHiQQIIQ24x", operation, flags, 0, descriptor, offset, ctypes.addressof(memory), length, 0, 0
    )
    with mmap.mmap(ring, 4096) as rings, mmap.mmap(ring, 4096, offset=0x10000000) as entries:
        entries[:64] = entry
        struct.pack_into("=I", rings, array, 0)
        struct.pack_into("=I", rings, tail, 1)
        done = LIBC.syscall(URING_ENTER, ring, 1, 1, 1, None, 0)
        result = struct.unpack_from("=i", rings, answers + 8)[0]
    os.close(ring)
    if done != 1 or result < 0:
        raise OSError(-result or ctypes.get_errno(), "io_uring")


def by_uring(options: Options) -> Any:
    """Connect and send, or with --begun created send unconnected, all by io_uring; the text comes back."""
    target = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", options.port, socket.inet_aton(options.address))
    name = ctypes.create_string_buffer(target, len(target))
    text = ctypes.create_string_buffer(options.text.encode(), len(options.text))
    flags = URING_ASYNC if options.worker else 0
    with fresh(options) as connection:
        connection.settimeout(None)
        if options.begun == "created":
            vector = ctypes.create_string_buffer(struct.pack("@PN", ctypes.addressof(text), len(text)))
            header = struct.pack("@PIPNPNi", ctypes.addressof(name), 16, ctypes.addressof(vector), 1, 0, 0, 0)
            message = ctypes.create_string_buffer(header)
            uring(URING_SENDMSG, connection.fileno(), flags, message, 1)
        else:
            uring(URING_CONNECT, connection.fileno(), flags, name, 0, offset=len(target))
            uring(URING_SEND, connection.fileno(), flags, text, len(text))
        connection.settimeout(options.deadline)
        return {"echo": connection.recv(65535).decode()}


# -- ends of connections ----------------------------------------------------------------------------------------


def end(options: Options, connection: socket.socket) -> None:
    """Close a connection: fin; half (then wait for the peer's end); reset; unread (with a part of it: resets, too)."""
    if options.begun == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if options.begun == "half":
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65535):
            pass
    connection.close()


def connect_and_end(options: Options) -> Any:
    """Connect, talk, and end it."""
    with fresh(options) as connection:
        connection.connect(point(options))
        connection.send(options.text.encode())
        text = connection.recv(1 if options.begun == "unread" else 65535)
        end(options, connection)
        return {"echo": text.decode()}


def accept_and_end(options: Options) -> None:
    """Accept one after the other, answer once, and end it."""
    with fresh(options, bind=True) as listener:
        listener.listen()
        listener.settimeout(None)
        tell(True, {"event": "ready"})
        while True:
            connection, _ = listener.accept()
            connection.settimeout(options.deadline)
            connection.send(connection.recv(1 if options.begun == "unread" else 65535))
            attempt(lambda connection=connection: end(options, connection))  # type: ignore[misc]


def send_and_die(options: Options) -> None:
    """Send --count bytes, more than the peer reads at once, and exit while the kernel still sends them."""
    with fresh(options) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * options.count)
        connection.connect(point(options))
        connection.sendall(bytes(options.count))


def swallow(options: Options) -> Any:
    """Accept one connection and read slowly what it sends, to its end: how many bytes."""
    with fresh(options, bind=True) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.listen()
        listener.settimeout(None)
        tell(True, {"event": "ready"})
        connection, _ = listener.accept()
        sys.stdin.readline()
        total = 0
        connection.settimeout(options.deadline)
        while text := connection.recv(65535):
            total += len(text)
        return {"event": "end", "bytes": total}


def self_connect(options: Options) -> Any:
    """Connect a socket to its own point: both ends open at once; the text comes back from the same socket."""
    options.local_address, options.local_port = point(options)
    with fresh(options) as connection:
        connection.connect(point(options))
        return exchange(connection, options.text)


ONCE: dict[str, Callable[[Options], Any]] = {
    "spawn": spawn,
    "restart": restart,
    "take-socket": take_socket,
    "activated": activated,
    "from-file": from_file,
    "by-uring": by_uring,
    "with-options": with_options,
    "extended": extended,
    "fragment": fragment,
    "raw-timestamp": raw_timestamp,
    "multicast-send": multicast_send,
    "connect-and-end": connect_and_end,
    "send-and-die": send_and_die,
    "swallow": swallow,
    "self-connect": self_connect,
    "connect-often": connect_often,
    "connect-again": connect_again,
}
LASTING: dict[str, Callable[[Options], None]] = {
    "absorb": absorb,
    "flood": flood,
    "pass-socket": pass_socket,
    "activate": activate,
    "file-session": file_session,
    "multicast-echo": multicast_echo,
    "accept-and-end": accept_and_end,
    "listen-instead": listen_instead,
}


def main() -> None:
    """Do the one verb."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=[*ONCE, *LASTING])
    parser.add_argument("address")
    parser.add_argument("port", type=int, nargs="?", default=0)
    parser.add_argument("--heir", action="append")
    for name, kind, default in (
        ("--text", str, ""), ("--local-address", str, ""), ("--local-port", int, 0), ("--count", int, 1),
        ("--deadline", float, DEADLINE), ("--begun", str, "connected"), ("--descriptor", int, -1),
    ):  # fmt: skip
        parser.add_argument(name, type=kind, default=default)
    parser.add_argument("--datagram", action="store_true")
    parser.add_argument("--worker", action="store_true")
    options = parser.parse_args()
    if options.verb in ONCE:
        attempt(lambda: ONCE[options.verb](options))
    else:
        LASTING[options.verb](options)


if __name__ == "__main__":
    main()
