"""The Engine: the process that stays. Started by ``up`` only: python -I -m kpf_ebpf.engine INSTANCE."""

from __future__ import annotations

import os
import sys

from kpf_ebpf.engine.folders import NAME, Instance
from kpf_ebpf.engine.process import GO, READY
from kpf_ebpf.engine.run import Engine


def main(arguments: list[str]) -> int:
    """Opens the perf buffers, waits until ``up`` has registered this process, then writes the log until it is told."""
    if len(arguments) != 2 or not NAME.fullmatch(arguments[1]):
        print("usage: python -I -m kpf_ebpf.engine INSTANCE (started by `kpf-ebpf up`)", file=sys.stderr)
        return 2
    engine = Engine(Instance(arguments[1]))
    os.write(1, READY)
    if sys.stdin.buffer.readline() != GO:
        return 1  # `up` gave up
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123  (two descriptors of one file)
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    engine.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
