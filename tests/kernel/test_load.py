"""Loading: what goes wrong is told in one line, also where the compiler takes the process with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from kpf_ebpf.kernel import bpf, load
from kpf_ebpf.kernel.hooks import HOOKS, SCRIPT_PROGRAM
from tests.kernel.conftest import Kernel

VERIFIER_LIMIT = 1_000_000
"""Instructions the kernel walks at most."""

DYING = """
import os
from kpf_ebpf.kernel import load
with load._captured():
    os.write(2, b"some line\\nerror: bpf/x.c:1:1: Looks like the BPF stack limit is exceeded\\n")
    os._exit(1)  # as LLVM does
"""


def test_a_compiler_that_ends_the_process_is_told() -> None:
    """LLVM calls exit() on what it cannot compile: the line that says why still comes, and the exit status is 1."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", DYING], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("kpf-ebpf: the compiler gave up: error: bpf/x.c:1:1") and "doctor" in done.stderr


def test_the_telling_line_is_found() -> None:
    """Of a verifier's text the line that refuses, not the advice behind it."""
    lines = [
        "0: R1=ctx()",
        "R1 pointer arithmetic on sock prohibited",
        "processed 139 insns",
        "",
        "Verification failed",
    ]
    assert load._telling(lines).startswith("R1 pointer arithmetic on sock prohibited")
    assert load._telling([]).startswith("no message")


def test_every_program_loads_with_room_to_spare(
    kernel: Kernel, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """All hooks are there; no program takes half of what the verifier allows. The figures go to the report."""
    loaded = kernel.programs.descriptors
    walked = {name: bpf.verified(descriptor) for name, descriptor in loaded.items()}
    record_testsuite_property("bcc", load.bcc_version())
    record_testsuite_property("scripts", "by file" if SCRIPT_PROGRAM in loaded else "by path")
    for name, count in walked.items():
        record_testsuite_property(f"verified {name}", count)
    assert {hook.program for hook in HOOKS} <= set(loaded)
    assert max(walked.values()) < VERIFIER_LIMIT / 2
