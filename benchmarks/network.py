"""What a firewall costs a program that talks over veth: `make bench`, or this alone: `python -m benchmarks.network`.

All contenders stand ready at the same time, and are measured in many short rounds of one metric, each round in another
order, on one processor at a time. "No firewall" and "empty programs" are measured again and again in between; what
counts is the ratio to them in the same round, and of these ratios the median.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from .contenders import EMPTY, NONE, PORT, SERVER, Contender, contenders, run
from .processor import spent

METRICS = ("exchange", "datagrams", "one-way", "changing", "connect", "handshake")
"""In this order: the rounds of one metric are over before the next begins, and those that open connections are last.
What they leave for the kernel to clean up costs whoever is next up to two per cent. Time counts where there are
connections, elsewhere the sender's processor time (load.c), and that of a daemon which packets wait for."""
PROCESSOR_TIME = METRICS[1:4]
ROUNDS, SLICE = 128, 8.0
"""How many, and milliseconds that are measured of each contender and metric in each."""
STANDS = 16
"""So often all are set up anew, for a part of the rounds each: the memory that one happens to get makes a per cent."""
BETWEEN = 3
"""So many contenders are measured between two looks at the references."""
APART = 4
"""In addition, a part of the rounds with those only that would disturb the others."""
Costs = dict[str, dict[str, list[float | None]]]
"""By contender and metric: nanoseconds in each round; None: not measured in this one."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio over the rounds: the median, and the quartiles."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Network:
    """What was found; of who is not among the contenders, why."""

    costs: Costs
    missing: dict[str, str]

    def ratio(self, name: str, metric: str, to: str = NONE) -> Ratio:
        """One contender's cost to another's, each round's to the same round's."""
        pairs = zip(self.costs[name][metric], self.costs[to][metric], strict=True)
        ratios = sorted(one / other for one, other in pairs if one is not None and other is not None)
        low, median, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        return Ratio(median, low, high)

    def document(self) -> dict[str, Any]:
        """All of it, for JSON."""
        against = {
            to: {name: {metric: asdict(self.ratio(name, metric, to)) for metric in METRICS} for name in self.costs}
            for to in (NONE, EMPTY)
        }
        return {"nanoseconds": self.costs, "against": against, "missing": self.missing}

    def table(self) -> str:
        """Markdown: the ratios with half of what lies between their quartiles, and nanoseconds without a firewall."""
        lines = ["| against no firewall | " + " | ".join(METRICS) + " |", "|---|" + "---:|" * len(METRICS)]
        for name in self.costs:
            ratios = (self.ratio(name, metric) for metric in METRICS)
            cells = " | ".join(f"{one.median:.3f} ±{(one.high - one.low) / 2:.3f}" for one in ratios)
            lines.append(f"| {name} | {cells} |")
        bare = (statistics.median(filter(None, self.costs[NONE][metric])) for metric in METRICS)
        lines.append(f"| no firewall, ns | {' | '.join(f'{one:,.0f}' for one in bare)} |")
        lines += [f"\n{name} is not among them: {reason}" for name, reason in self.missing.items()]
        return "\n".join(lines)


class Client:
    """A contender's load generator, which waits to be told what to measure."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        words = [*contender.inside, str(contender.program), "measure", SERVER, str(PORT)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            words, preexec_fn=contender.enter, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )

    def pin(self, processor: int) -> None:
        """Client and server to this one processor."""
        for process in (self.process, self.contender.server):
            os.sched_setaffinity(process.pid, {processor})

    def cost(self, metric: str, milliseconds: float) -> float:
        """Nanoseconds that one takes: the lower quartile of a slice of so much measured time.

        Where that is processor time, the share of a daemon in it, too: what waits in a queue goes on in the daemon's.
        """
        daemon = self.contender.daemon if metric in PROCESSOR_TIME else None
        before = spent(daemon) if daemon else 0.0
        told, said = self._pipe(self.process.stdin), self._pipe(self.process.stdout)
        told.write(f"{metric} {int(milliseconds * 1000)}\n")
        told.flush()
        words = said.readline().split()
        if not words:
            raise RuntimeError(f"{self.contender.name}, {metric}: {self._pipe(self.process.stderr).read().strip()}")
        waited_for = (spent(daemon) - before) * 1e9 / int(words[3]) if daemon else 0.0
        return float(words[0]) + waited_for

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


@contextlib.contextmanager
def aside(processor: int) -> Iterator[None]:
    """This process keeps away from the processor that is measured on, if there is another one."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before - {processor} or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def sequence(names: list[str], chance: random.Random) -> list[str]:
    """The contenders in an order of chance; the references before every few of them, and at the end."""
    references = [name for name in names if name in (NONE, EMPTY)]
    others = [name for name in names if name not in references]
    chance.shuffle(others)
    found = []
    for first in range(0, len(others), BETWEEN):
        found += [*references, *others[first : first + BETWEEN]]
    return [*found, *references]


def rounds(made: list[Contender], number: int, milliseconds: float, chance: random.Random) -> Costs:
    """What each costs in each round; the processors take turns. The last rounds are for those who are apart."""
    found: Costs = {one.name: {metric: [] for metric in METRICS} for one in made}
    processors = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        clients = {one.name: stack.enter_context(contextlib.closing(Client(one))) for one in made}
        last = number + (number + APART - 1) // APART * any(one.apart for one in made)
        for metric, turn in itertools.product(METRICS, range(last)):
            if sys.stderr.isatty():
                print(f"\r{metric}: round {turn + 1} of {last}\x1b[K", end="", file=sys.stderr, flush=True)
            apart, processor = turn >= number, processors[turn % len(processors)]
            for client in clients.values():
                client.pin(processor)
            present = [one.name for one in made if one.name in (NONE, EMPTY) or one.apart == apart]
            costs: dict[str, list[float]] = {one.name: [] for one in made}
            with aside(processor):
                for name in sequence(present, chance):
                    costs[name].append(clients[name].cost(metric, milliseconds))
            for name, several in costs.items():
                found[name][metric].append(statistics.median(several) if several else None)
    return found


def measured(number: int = ROUNDS, milliseconds: float = SLICE, only: Sequence[str] = ()) -> Network:
    """All contenders side by side; ``only`` those whose names begin so, besides the references."""
    found: Costs = defaultdict(lambda: defaultdict(list))
    chance = random.Random(1)  # one for all: the same orders again would prefer whoever comes where in them
    for _ in range(STANDS):
        with tempfile.TemporaryDirectory(prefix="kpf-bench-", dir="/usr/local/lib") as folder:
            load = Path(folder) / "load"
            run("cc", "-O2", "-o", str(load), str(Path(__file__).with_name("load.c")))
            load.parent.chmod(0o755)
            with contenders(load, only) as (made, missing):
                costs = rounds(made, max(1, number // STANDS), milliseconds, chance)
        for name, metric in itertools.product(costs, METRICS):
            found[name][metric] += costs[name][metric]
    return Network(found, missing)


def main() -> int:
    """Measure the network alone; print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.network", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--slice", type=float, default=SLICE, help="milliseconds measured of each and metric a round")
    parser.add_argument("--only", action="append", default=[], help='contenders whose names begin so: "kpf-ebpf 10000"')
    parser.add_argument("--json", type=Path, help="a file for everything that was measured")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("this needs root", file=sys.stderr)
        return 2
    found = measured(options.rounds, options.slice, options.only)
    if options.json:
        options.json.write_text(json.dumps(found.document(), indent=1))
    print(found.table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
