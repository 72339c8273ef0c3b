"""The Engine: the process that stays. Started by ``up`` only: python -I -m kpf_ebpf.engine INSTANCE [orphan]."""

from __future__ import annotations

import os
import sys
import traceback

from kpf_ebpf.engine.folders import NAME, Instance
from kpf_ebpf.engine.process import GO, ORPHAN, READY
from kpf_ebpf.engine.run import Engine

BROKEN = 70
"""Exit status of an Engine that broke: a service manager starts it anew, which it does not do for a refused policy."""


def main(arguments: list[str]) -> int:
    """Opens the perf buffers, waits until ``up`` has registered this process, then writes the log until it is told."""
    if len(arguments) not in (2, 3) or not NAME.fullmatch(arguments[1]) or arguments[2:] not in ([], [ORPHAN]):
        print("usage: python -I -m kpf_ebpf.engine INSTANCE (started by `kpf-ebpf up`)", file=sys.stderr)
        return 2
    if arguments[2:] and os.fork():
        os._exit(0)
    engine = Engine(Instance(arguments[1]))
    os.write(1, READY + b" %d\n" % os.getpid())
    if sys.stdin.buffer.readline() != GO:
        return 1  # `up` gave up
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123  (two descriptors of one file)
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    try:
        engine.run()
    except Exception:  # noqa: BLE001  (told in full, then it ends as it would have)
        traceback.print_exc()
        return BROKEN
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
