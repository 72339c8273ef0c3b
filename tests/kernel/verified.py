"""What each program costs the verifier, and what of it was accepted: verified.json, by kernel series and BCC.

python -m tests.kernel.verified accepts what the programs cost here.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kpf_ebpf.kernel import bpf, btf
from kpf_ebpf.kernel.compile import PARTS, bcc_version, compiled
from kpf_ebpf.kernel.hooks import SCRIPT_PROGRAM
from kpf_ebpf.kernel.load import ADAPTER_PROGRAMS, kind_of, make_maps

FILE = Path(__file__).with_name("verified.json")
GROWTH = 1.2
_FIGURES = 4
"""The log level at which the verifier tells its figures (BPF_LOG_STATS)."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Instructions that the verifier walked, and how long that took."""

    instructions: int
    milliseconds: float


def measure(pins: Path, names: Iterable[str]) -> dict[str, Cost]:
    """What each of these programs costs (the one that sees scripts, whose kind differs by kernel, is left out)."""
    programs = compiled(btf.offsets(btf.Btf(btf.VMLINUX.read_bytes())), pins / "compile", PARTS).programs
    made = make_maps(pins)
    costs = {}
    try:
        for name in sorted(set(names) - {SCRIPT_PROGRAM}):
            kind, attach_type = kind_of(name)
            log = ctypes.create_string_buffer(4096)
            os.close(bpf.load_program(name, kind, programs[name].linked(made), attach_type, 0, log, _FIGURES))
            costs[name] = told(log.value.decode("utf-8", "replace"))
    finally:
        for descriptor in made.values():
            os.close(descriptor)
    return costs


def told(log: str) -> Cost:
    """The figures in the verifier's words (print_verification_stats in kernel/bpf/verifier.c)."""
    walked, time = (
        re.search(r"^processed (\d+) insns", log, re.M),
        re.search(r"^verification time (\d+) usec", log, re.M),
    )
    assert walked and time, log
    return Cost(int(walked[1]), int(time[1]) / 1000)


def here() -> str:
    """This kernel's series and BCC's version, as verified.json names them."""
    return environment(os.uname().release, bcc_version())


def environment(release: str, bcc: str) -> str:
    """The same of any."""
    series, version = (re.match(r"\d+\.\d+", text) for text in (release, bcc))
    assert series and version, (release, bcc)
    return f"Linux {series[0]}, BCC {version[0]}"


def accepted() -> dict[str, dict[str, int]]:
    """By environment the instructions that were accepted of each program."""
    found: dict[str, dict[str, int]] = json.loads(FILE.read_text())
    return found


def accept(figures: Mapping[str, Mapping[str, int]]) -> None:
    """Writes figures of some environments down."""
    whole = accepted() | {name: dict(sorted(costs.items())) for name, costs in figures.items()}
    FILE.write_text(json.dumps(dict(sorted(whole.items())), indent=2) + "\n")


def grown(costs: Mapping[str, Cost], accepted_here: Mapping[str, int]) -> list[str]:
    """What costs much more than was accepted, in words; nothing where nothing was accepted at all."""
    found = []
    for name, cost in costs.items() if accepted_here else ():
        known = accepted_here.get(name)
        if known is None or cost.instructions > known * GROWTH:
            words = "nothing is accepted" if known is None else f"accepted are {known}"
            found.append(f"{name}: {cost.instructions} instructions, {words}")
    return found


def main() -> None:
    """Accepts what the programs cost here."""
    from tests.kernel.conftest import loaded_kernel

    with loaded_kernel(*ADAPTER_PROGRAMS) as kernel:
        costs = measure(kernel.programs.pins, kernel.programs.descriptors)
    accept({here(): {name: cost.instructions for name, cost in costs.items()}})
    print(f"{FILE}: {here()}: {sum(cost.instructions for cost in costs.values())} instructions in all")


if __name__ == "__main__":
    main()
