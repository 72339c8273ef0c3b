"""Loading: what goes wrong is told in one line, also where the compiler takes the process with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kpf_ebpf.kernel import load
from kpf_ebpf.kernel.compile import LoadError, bcc_version, compile_text, source_folder, telling
from kpf_ebpf.kernel.compiled import Program
from kpf_ebpf.kernel.hooks import HOOKS, SCRIPT_PROGRAM
from tests.kernel import verified
from tests.kernel.conftest import Kernel

VERIFIER_LIMIT = 1_000_000
"""Instructions the kernel walks at most."""

TOO_DEEP = """
int kpf_deep(struct __sk_buff *skb) {
    volatile char deep[600];
    for (int i = 0; i < 600; i++) deep[i] = skb->len;
    return deep[skb->mark % 600];
}
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("int kpf_wrong(void *ctx) { return nothing_of_this_name; }", "nothing_of_this_name", id="mistake"),
        pytest.param(TOO_DEEP, "stack", id="llvm-ends-the-process"),
    ],
)
def test_what_cannot_be_compiled_is_told_in_one_line(kernel: Kernel, text: str, said: str) -> None:
    """Also where LLVM calls exit(): the line that says why comes as an error, and nothing is left behind."""
    scratch = kernel.programs.pins / "scratch-of-a-test"
    with pytest.raises(LoadError, match=r"the compiler gave up: .*doctor") as caught:
        compile_text(text, [], source_folder(), scratch)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not scratch.exists()


def test_the_telling_line_is_found() -> None:
    """Of a verifier's text the line that refuses, not the advice behind it."""
    lines = [
        "0: R1=ctx()",
        "R1 pointer arithmetic on sock prohibited",
        "processed 139 insns",
        "",
        "Verification failed",
    ]
    assert telling(lines).startswith("R1 pointer arithmetic on sock prohibited")
    assert telling([*lines[:1], "   |  ^-- error: R0 is not readable"]).startswith("R0 is not readable")
    assert telling([]).startswith("no message")


def test_what_the_kernel_refuses_is_told_in_the_verifiers_words() -> None:
    """A program that returns without a result: its name, and the line of the verifier that says so."""
    leave = (0x95).to_bytes(8, "little")
    with pytest.raises(LoadError, match=r"refuses program kpf_wrong: Permission denied: R0 (!read_ok|is not readable)"):
        load._load_one("kpf_wrong", Program(leave, ()), {}, 17, 0, 0)


def test_every_program_loads_with_room_to_spare(
    kernel: Kernel, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """All hooks are there; no program takes half of what the verifier allows. The figures go to the report."""
    loaded = kernel.programs.descriptors
    costs = verified.measure(kernel.programs.pins, set(loaded))
    record_testsuite_property("bcc", bcc_version())
    record_testsuite_property("scripts", "by file" if SCRIPT_PROGRAM in loaded else "by path")
    for name, cost in costs.items():
        record_testsuite_property(f"verified {name}", cost.instructions)
        record_testsuite_property(f"loaded {name}", cost.milliseconds)
    assert {hook.program for hook in HOOKS} <= set(loaded) and set(costs) == set(loaded) - {SCRIPT_PROGRAM}
    assert all(0 < cost.instructions < VERIFIER_LIMIT / 2 for cost in costs.values())


def test_no_program_costs_the_verifier_much_more_than_accepted(kernel: Kernel) -> None:
    """Growth over 20 % is seen before a kernel refuses; where it is meant: `make verified`, or vm-test ACCEPT=1."""
    accepted = verified.accepted().get(verified.here(), {})
    grown = verified.grown(verified.measure(kernel.programs.pins, set(kernel.programs.descriptors)), accepted)
    assert not grown, f"{verified.here()}: {'; '.join(grown)}"


def test_growth_is_found() -> None:
    """A program that grew by more than a fifth, and one that nobody accepted; on an unknown kernel, none."""
    costs = {name: verified.Cost(number, 1) for name, number in (("same", 1190), ("grown", 1210), ("new", 1))}
    found = verified.grown(costs, {"same": 1000, "grown": 1000, "gone": 7})
    assert found == ["grown: 1210 instructions, accepted are 1000", "new: 1 instructions, nothing is accepted"]
    assert verified.grown(costs, {}) == []
