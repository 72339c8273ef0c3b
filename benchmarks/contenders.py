"""The firewalls that are measured side by side, each in two namespaces of its own that veth joins, and none at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.kernel.conftest import DENY_ALL, Kernel, loaded_kernel

from . import opensnitch, policies
from .empty import doing_nothing

CLIENT, GATEWAY, SERVER, FORBIDDEN, PORT = "10.99.64.1", "10.99.64.2", "10.99.0.2", "10.98.0.2", 7100
"""Of the server: the neighbour behind which all its addresses are, the one that is measured, one that rules deny."""
MACS = {"v0": "02:00:00:00:00:01", "v1": "02:00:00:00:00:02"}
NONE, AGAIN, EMPTY = "no firewall", "no firewall, again", "empty programs"
SIZES = (10, 1000, 10_000)
Enter = Callable[[], None]


@dataclass(slots=True)
class Contender:
    """A firewall in place. ``inside``: what to put before a command to run it where the firewall is.

    ``forbidden`` is an attempt that it must deny. ``apart``: not to be measured among others, which it would disturb.
    ``daemon``: a process that packets wait for.
    """

    name: str
    inside: list[str]
    server: subprocess.Popen[bytes]
    program: Path
    enter: Enter = lambda: None
    forbidden: list[str] = field(default_factory=list)
    apart: bool = False
    daemon: int | None = None

    @property
    def denies(self) -> bool:
        """Whether what it is to deny does not get through; what it permits must."""
        permitted = self._attempt([str(self.program), "try", SERVER, str(PORT)])
        if not permitted:
            raise RuntimeError(f"{self.name}: denies what is measured")
        return not self._attempt(self.forbidden or [str(self.program), "try", FORBIDDEN, str(PORT)])

    def _attempt(self, words: list[str]) -> bool:
        return subprocess.run([*self.inside, *words], preexec_fn=self.enter, check=False).returncode == 0


def run(*words: str, text: str | None = None) -> None:
    """Run a command; its complaint is the failure."""
    done = subprocess.run(words, check=False, input=text, text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")


@contextlib.contextmanager
def joined(name: str, load: Path) -> Iterator[tuple[list[str], subprocess.Popen[bytes]]]:
    """Two namespaces joined by veth: what to put before a command to run it in the one; the server in the other.

    However many addresses the server has, there is one neighbour on each side, and it is known for ever: the kernel's
    table of neighbours, of which there is one for all namespaces, has no part in what is measured.
    """
    here, there = f"kpfb-{os.getpid()}-{name}-c", f"kpfb-{os.getpid()}-{name}-s"
    server = None
    try:
        for one in (here, there):
            run("ip", "netns", "add", one)
            run("ip", "-n", one, "link", "set", "lo", "up")
        run("ip", "-n", here, "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", there)
        for one, adapter, address in ((here, "v0", CLIENT), (there, "v1", GATEWAY)):
            run("ip", "-n", one, "link", "set", adapter, "address", MACS[adapter])
            run("ip", "-n", one, "address", "add", f"{address}/24", "dev", adapter)
            run("ip", "-n", one, "link", "set", adapter, "up")
        run("ip", "-n", here, "neigh", "add", GATEWAY, "lladdr", MACS["v1"], "dev", "v0", "nud", "permanent")
        run("ip", "-n", there, "neigh", "add", CLIENT, "lladdr", MACS["v0"], "dev", "v1", "nud", "permanent")
        run("ip", "-n", here, "route", "add", "default", "via", GATEWAY)
        for network in ("10.99.0.0/20", f"{FORBIDDEN}/32"):  # all of them are the server's own
            run("ip", "-n", there, "route", "add", "local", network, "dev", "lo")
        run("ip", "-n", there, "route", "replace", "10.99.64.0/24", "dev", "v1", "src", SERVER)
        inside = ["nsenter", f"--net=/run/netns/{there}", str(load), "serve", SERVER, str(PORT)]
        server = subprocess.Popen(inside, stdout=subprocess.PIPE)
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield ["nsenter", f"--net=/run/netns/{here}"], server
    finally:
        if server is not None:
            server.kill()
            server.wait()
        for one in (here, there):
            subprocess.run(["ip", "netns", "delete", one], capture_output=True, check=False)


def joins(cgroup: Path) -> Enter:
    """A child's way into a cgroup."""

    def enter() -> None:
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))

    return enter


def nft_linear(count: int) -> str:
    """Connection tracking, and so many rules one after the other; the last one permits."""
    rule = "    ip daddr 10.{}.{}.{} tcp dport 80 drop\n".format
    rules = "".join(rule(100 + (n >> 16), n >> 8 & 255, n & 255) for n in range(count - 1))
    return (
        "table ip filter {\n  chain out { type filter hook output priority 0; policy drop;\n"
        f"    ct state established accept\n{rules}    ip daddr 10.99.0.0/16 accept\n  }}\n"
        "  chain in { type filter hook input priority 0; policy drop;\n    ct state established accept\n  }\n}\n"
    )


def nft_map(count: int) -> str:
    """Connection tracking, and one look into a map of so many addresses, as an expert writes it."""
    some = ", ".join(f"10.{100 + (n >> 16)}.{n >> 8 & 255}.{n & 255} : drop" for n in range(count - 1))
    return (
        f"table ip filter {{\n  map m {{ type ipv4_addr : verdict; flags interval; elements = {{ {some}, "
        "10.99.0.0/16 : accept }\n  }\n  chain out { type filter hook output priority 0; policy drop;\n"
        "    ct state established accept\n    ip daddr vmap @m\n  }\n"
        "  chain in { type filter hook input priority 0; policy drop;\n    ct state established accept\n  }\n}\n"
    )


def iptables(count: int) -> str:
    """The same as ``nft_linear`` by iptables-restore."""
    rule = "-A OUTPUT -d 10.{}.{}.{}/32 -p tcp --dport 80 -j DROP\n".format
    rules = "".join(rule(100 + (n >> 16), n >> 8 & 255, n & 255) for n in range(count - 1))
    known = "-m conntrack --ctstate ESTABLISHED -j ACCEPT\n"
    return (
        f"*filter\n:INPUT DROP\n:FORWARD DROP\n:OUTPUT DROP\n-A INPUT {known}-A OUTPUT {known}{rules}"
        "-A OUTPUT -d 10.99.0.0/16 -j ACCEPT\nCOMMIT\n"
    )


PEERS = (
    ("nft rules", nft_linear, ("nft", "-f", "-")),
    ("nft map", nft_map, ("nft", "-f", "-")),
    ("iptables", iptables, ("iptables-legacy-restore",)),
)


def home_of(inside: Sequence[str]) -> int:
    """The cookie of a network namespace: `up` would have been run in the client's."""
    words = [*inside, sys.executable, "-P", "-c", "from kpf_ebpf.facts import system; print(system.home_cookie())"]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def enforce(kernel: Kernel, count: int, load: Path) -> None:
    """Our rules: so many that name every field and do not match, then the client's own four cells."""
    names, groups = policies.surroundings(kernel)
    cells = "".join(f'{cell} = "permit"\n' for cell in ("trusted-in", "trusted-out", "internet-in", "internet-out"))
    rules = policies.every_field(count, names, groups) if count > 1 else DENY_ALL
    kernel.apply(f'{rules}[[application]]\npath = "{load}"\n{cells}')


@contextlib.contextmanager
def contenders(load: Path, only: Sequence[str] = ()) -> Iterator[tuple[list[Contender], dict[str, str]]]:
    """Every contender, in place and denying what it is to deny, gone afterwards; and of who cannot be there, why."""
    made: list[Contender] = []
    missing: dict[str, str] = {}

    def wanted(name: str) -> bool:
        return not only or any(map(name.startswith, only))

    with contextlib.ExitStack() as stack:

        def network(name: str) -> tuple[list[str], subprocess.Popen[bytes]]:
            return stack.enter_context(joined(name, load))

        for name, short in ((NONE, "none"), (AGAIN, "again")):
            made.append(Contender(name, *network(short), load))
        empty = stack.enter_context(doing_nothing(f"kpfb-{os.getpid()}"))
        made.append(Contender(EMPTY, *network("empty"), load, joins(empty)))
        for count in filter(lambda count: wanted(f"kpf-ebpf {count}"), SIZES):
            kernel = stack.enter_context(loaded_kernel())
            mine, stranger = kernel.folder / "load", kernel.folder / "stranger"
            for copy in (mine, stranger):
                shutil.copy(load, copy)
            inside, server = network(f"k{count}")
            kernel.home = home_of(inside)
            enforce(kernel, count, mine)
            forbidden = [str(stranger), "try", SERVER, str(PORT)]
            made.append(Contender(f"kpf-ebpf {count}", inside, server, mine, joins(kernel.cgroup), forbidden))
        for kind, text, command in PEERS:
            for count in SIZES if kind != "nft map" else SIZES[-1:]:
                if wanted(f"{kind} {count}"):
                    inside, server = network(f"{kind.replace(' ', '')}{count}")
                    run(*inside, *command, text=text(count))
                    made.append(Contender(f"{kind} {count}", inside, server, load))
        if wanted(f"OpenSnitch {opensnitch.RULES}"):
            one = Contender(f"OpenSnitch {opensnitch.RULES}", *network("opensnitch"), load, apart=True)
            folder = load.parent / "opensnitch"
            try:
                daemon = opensnitch.opensnitch(folder, one.inside, FORBIDDEN, lambda: one.denies)
                one.daemon = stack.enter_context(daemon)
                made.append(one)
            except opensnitch.Unable as reason:
                missing["OpenSnitch"] = str(reason)
        for one in made:
            if one.denies != (one.name not in (NONE, AGAIN, EMPTY)):
                raise RuntimeError(f"{one.name}: {'permits' if not one.denies else 'denies'} what it is not to")
        print(f"{len(made)} contenders stand ready", file=sys.stderr, flush=True)
        yield made, missing
