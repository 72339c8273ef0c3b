"""A real name server (dnsmasq) in the server namespace, whose answers a test changes as it likes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from .bench import SERVER, SERVER6, Bench
from .tools import eventually, system


class Zone:
    """A running name server: ``answer`` says what names mean from now on."""

    def __init__(self, bench: Bench, ttl: int) -> None:
        self._bench, self._ttl = bench, ttl
        self._hosts = bench.folder / "zone"
        self._hosts.touch()
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to answer."""
        command = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]
        command += [f"--addn-hosts={self._hosts}", f"--local-ttl={self._ttl}", "--user=root", "--pid-file"]
        command += [
            "--listen-address",
            f"{SERVER},{SERVER6}",
            "--bind-interfaces",
            "--local=/example/",
            "--local=/com/",
        ]
        inside = ("nsenter", f"--net=/run/netns/{self._bench.namespaces['server']}")
        quiet = subprocess.DEVNULL
        self._server = subprocess.Popen([*inside, *command], stdin=quiet, stdout=quiet, stderr=quiet)
        assert eventually(lambda: self._asked("nothing.example") is not None), "the name server does not answer"

    def stop(self) -> None:
        """End the name server: nobody answers."""
        if self._server is not None:
            self._server.kill()
            self._server.wait(10)
            self._server = None

    def answer(self, names: Mapping[str, tuple[str, ...]]) -> None:
        """Let names mean these addresses, and others nothing; returns when the server says so."""
        lines = [f"{address} {name}\n" for name, addresses in names.items() for address in addresses]
        self._hosts.write_text("".join(lines))
        if self._server is not None:
            os.kill(self._server.pid, signal.SIGHUP)
            for name, addresses in names.items():
                wanted = {address for address in addresses if ":" not in address}
                assert eventually(lambda name=name, wanted=wanted: self._asked(name) == wanted)  # type: ignore[misc]

    def _asked(self, name: str) -> set[str] | None:
        command = ("dig", "+short", "+tries=1", "+time=1", f"@{SERVER}", name)
        done = self._bench.real(*command, netns="server", cgroup=False)
        return set(done.stdout.split()) if done.returncode == 0 else None


@contextmanager
def name_server(bench: Bench, names: Mapping[str, tuple[str, ...]], ttl: int = 1) -> Iterator[Zone]:
    """Run a name server that answers with this time to live (seconds)."""
    zone = Zone(bench, ttl)
    zone.answer(names)
    zone.start()
    try:
        yield zone
    finally:
        zone.stop()


def more_addresses(bench: Bench, *addresses: str) -> None:
    """Give the server namespace further addresses."""
    for address in addresses:
        bits = "128" if ":" in address else "32"
        nodad = ("nodad",) if ":" in address else ()
        system("ip", "-n", bench.namespaces["server"], "address", "add", f"{address}/{bits}", "dev", "v0", *nodad)
