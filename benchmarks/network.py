"""What a firewall costs a program that talks over veth: `make bench`. Each contender has namespaces of its own.

All contenders stand ready at the same time, and each is measured in each round; a ratio is that of medians of one round
to the medians without a firewall of the same round, and what is printed is the median over the rounds.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.conftest import DENY_ALL, Kernel, loaded_kernel

from . import policies
from .empty import doing_nothing

CLIENT, SERVER, PORT = "10.99.64.1", "10.99.0.2", 7100
METRICS = {"connect": 3000, "exchange": 15000, "datagrams": 15000, "one-way": 30000, "changing": 30000}
"""How many a measurement takes of each. Of the first two the median time counts, of the others the processor time."""
TIMED = ("connect", "exchange")
Enter = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Contender:
    """A firewall in place: how its client is started."""

    name: str
    client: list[str]
    enter: Enter


def _run(*words: str, text: str | None = None) -> None:
    subprocess.run(words, check=True, input=text, text=True, capture_output=True)


@contextlib.contextmanager
def joined(name: str, load: Path) -> Iterator[list[str]]:
    """Two namespaces joined by veth, a server in the one; what to put before a command to run it in the other."""
    here, there = f"kpfb-{os.getpid()}-{name}-c", f"kpfb-{os.getpid()}-{name}-s"
    server = None
    try:
        for one in (here, there):
            _run("ip", "netns", "add", one)
            _run("ip", "-n", one, "link", "set", "lo", "up")
        _run("ip", "-n", here, "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", there)
        for one, adapter, address in ((here, "v0", CLIENT), (there, "v1", SERVER)):
            _run("ip", "-n", one, "address", "add", f"{address}/16", "dev", adapter)
            _run("ip", "-n", one, "link", "set", adapter, "up")
        _run("ip", "-n", there, "route", "add", "local", "10.99.0.0/20", "dev", "lo")  # all of them are its own
        inside = ["nsenter", f"--net=/run/netns/{there}", str(load), "serve", SERVER, str(PORT)]
        server = subprocess.Popen(inside, stdout=subprocess.PIPE)
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield ["nsenter", f"--net=/run/netns/{here}"]
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
    """The same by iptables-restore."""
    rule = "-A OUTPUT -d 10.{}.{}.{}/32 -p tcp --dport 80 -j DROP\n".format
    rules = "".join(rule(100 + (n >> 16), n >> 8 & 255, n & 255) for n in range(count - 1))
    known = "-m conntrack --ctstate ESTABLISHED -j ACCEPT\n"
    return (
        f"*filter\n:INPUT DROP\n:FORWARD DROP\n:OUTPUT DROP\n-A INPUT {known}-A OUTPUT {known}{rules}"
        "-A OUTPUT -d 10.99.0.0/16 -j ACCEPT\nCOMMIT\n"
    )


def enforce(kernel: Kernel, count: int, load: Path) -> None:
    """Our rules: so many that name every field and do not match, then the client's own four cells."""
    names, groups = policies.surroundings(kernel)
    cells = "".join(f'{cell} = "permit"\n' for cell in ("trusted-in", "trusted-out", "internet-in", "internet-out"))
    rules = policies.every_field(count, names, groups) if count > 1 else DENY_ALL
    kernel.apply(f'{rules}[[application]]\npath = "{load}"\n{cells}')


@contextlib.contextmanager
def contenders(load: Path, sizes: tuple[int, ...]) -> Iterator[list[Contender]]:
    """Every contender, in place; gone afterwards."""
    with contextlib.ExitStack() as stack:
        made = []

        def network(name: str) -> list[str]:
            return stack.enter_context(joined(name, load))

        def without() -> None:
            pass

        made.append(Contender("no firewall", [*network("none"), str(load)], without))
        empty = stack.enter_context(doing_nothing(f"kpfb-{os.getpid()}"))
        made.append(Contender("empty programs", [*network("empty"), str(load)], joins(empty)))
        for count in sizes:
            kernel = stack.enter_context(loaded_kernel())
            mine = kernel.folder / "load"
            shutil.copy(load, mine)
            enforce(kernel, count, mine)
            made.append(Contender(f"kpf-ebpf {count}", [*network(f"k{count}"), str(mine)], joins(kernel.cgroup)))
        for kind, text, command in (
            ("nft rules", nft_linear, ["nft", "-f", "-"]),
            ("nft map", nft_map, ["nft", "-f", "-"]),
            ("iptables", iptables, ["iptables-legacy-restore"]),
        ):
            for count in sizes if kind != "nft map" else sizes[-1:]:
                inside = network(f"{kind.replace(' ', '')}{count}")
                _run(*inside, *command, text=text(count))
                made.append(Contender(f"{kind} {count}", [*inside, str(load)], without))
        yield made


def measure(one: Contender, metric: str, count: int) -> float:
    """Nanoseconds: the median of what one took, or processor time a packet."""
    words = [*one.client, metric, SERVER, str(PORT), str(count)]
    done = subprocess.run(words, preexec_fn=one.enter, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{one.name}, {metric}: {done.stderr.strip()}")
    median, spent = map(int, done.stdout.split())
    return float(median if metric in TIMED else spent)


def rounds(made: list[Contender], number: int, part: float) -> dict[str, dict[str, list[float]]]:
    """By contender and metric the ratios to no firewall, one a round."""
    found: dict[str, dict[str, list[float]]] = {one.name: {metric: [] for metric in METRICS} for one in made}
    for turn in range(number):
        print(f"round {turn + 1} of {number}", file=sys.stderr, flush=True)
        for metric, count in METRICS.items():
            costs = {one.name: measure(one, metric, max(200, int(count * part))) for one in made}
            for name, cost in costs.items():
                found[name][metric].append(cost / costs[made[0].name])
    return found


def table(found: dict[str, dict[str, list[float]]]) -> str:
    """A Markdown table of the medians."""
    lines = ["| against no firewall | " + " | ".join(METRICS) + " |", "|---|" + "---:|" * len(METRICS)]
    for name, ratios in found.items():
        cells = " | ".join(f"{statistics.median(ratios[metric]):.2f}" for metric in METRICS)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def measured(number: int, part: float) -> dict[str, dict[str, list[float]]]:
    """All contenders side by side, in so many rounds of that ``part`` of the counts."""
    with tempfile.TemporaryDirectory(prefix="kpf-bench-", dir="/usr/local/lib") as folder:
        load = Path(folder) / "load"
        _run("cc", "-O2", "-o", str(load), str(Path(__file__).with_name("load.c")))
        load.parent.chmod(0o755)
        with contenders(load, (10, 1000, 10000)) as made:
            return rounds(made, number, part)
