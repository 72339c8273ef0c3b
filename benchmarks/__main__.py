"""Everything that is measured, against the bars that are set: `make bench`. Writes JSON, and a plot of the peers."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from kpf_ebpf.kernel.load import ADAPTER_PROGRAMS, MEASURES
from tests.kernel.conftest import loaded_kernel

from . import bars, engine, flood, hard, micro, network, packets
from .plot import draw


def measure() -> dict[str, Any]:
    """Everything but the network, one after the other."""
    _tell("packets")
    found: dict[str, Any] = {"flows": {}}
    found["packets"], found["cached path"] = packets.packets(bars.SIZES)
    with loaded_kernel(*ADAPTER_PROGRAMS, *MEASURES) as kernel:
        _tell("flows")
        found["verified"] = micro.verified(kernel)
        for size in micro.SIZES:
            found["flows"][size] = micro.classification(kernel, size)
        _tell("hard policies and lists")
        found["hard"] = hard.policies(kernel)
        found["lists"] = hard.block_lists(kernel)
    _tell("the Engine")
    found["engine"] = engine.engine()
    _tell("a flood")
    found["flood"] = flood.flood()
    return found


def _tell(what: str) -> None:
    print(f"measuring: {what}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure everything; the exit status is 0 whatever was reached: the table tells."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=network.ROUNDS, help="of the network's")
    parser.add_argument("--folder", type=Path, default=Path("build"), help="for benchmarks.json and performance.svg")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("this needs root: sudo make bench", file=sys.stderr)
        return 2
    found = measure()
    _tell("the network")
    peers = network.measured(options.rounds)
    options.folder.mkdir(exist_ok=True)
    (options.folder / "benchmarks.json").write_text(json.dumps(found | {"network": peers.document()}, indent=1))
    draw(peers, options.folder)
    print(bars.bars(found, peers))
    print("\n| 10,000 rules | a flow (ns, net) | until the switch (s) |\n|---|---:|---:|")
    for name, cost in found["hard"].items():
        print(f"| {name} | {cost['flow (ns)']:.0f} | {cost['applied (s)']:.2f} |")
    print(f"\n{peers.table()}\n\n{bars.ahead(peers)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
