"""Attaching is all or nothing, and nothing of another version's is reused."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kpf_ebpf.kernel import bpf, hooks, maps
from kpf_ebpf.kernel.compile import LoadError
from kpf_ebpf.kernel.hooks import HOOKS, SCRIPT_PROGRAM, AttachError
from kpf_ebpf.kernel.load import Programs, load
from tests.e2e.tools import eventually
from tests.kernel.conftest import Kernel


@pytest.fixture
def group(kernel: Kernel) -> Iterator[int]:
    """Another cgroup, empty of programs."""
    path = kernel.cgroup / f"spare-{secrets.token_hex(4)}"
    path.mkdir()
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)
    path.rmdir()


@pytest.fixture(scope="module")
def loads(kernel: Kernel) -> Iterator[list[Programs]]:
    """Two loads of an instance of its own: older kernels take a program once per tracepoint."""
    pins = kernel.programs.pins.with_name(f"kpf-spare-{secrets.token_hex(4)}")
    pins.mkdir()
    made = [load(pins), load(pins)]
    for one in made:
        one.descriptors.pop(SCRIPT_PROGRAM, None)  # older kernels attach such a program only once in its life
    yield made
    shutil.rmtree(pins)


@pytest.fixture
def spare(loads: list[Programs], group: int) -> Iterator[Path]:
    """Its pin folder, with nothing attached."""
    pins = loads[0].pins
    yield pins
    hooks.detach(pins, group)
    for pinned in [*pins.glob("hook_*"), *pins.glob("new_*")]:
        pinned.unlink()


def own(group: int) -> dict[str, int]:
    """How many programs are attached at each hook of the cgroup itself."""
    return {hook.name: len(bpf.attached(group, hook.where)) for hook in HOOKS if isinstance(hook.where, int)}


def broken(loaded: Programs) -> dict[str, int]:
    """The programs with one that cannot be attached as the last hook."""
    return dict(loaded.descriptors) | {"kpf_egress": loaded.descriptors["kpf_exec"]}


def test_a_hook_that_fails_undoes_those_before_it(loads: list[Programs], group: int, spare: Path) -> None:
    """The last hook cannot be attached: none is left, no pin is left, and the error names the hook."""
    with pytest.raises(AttachError, match="hook egress"):
        hooks.attach(spare, broken(loads[0]), group)
    assert not any(own(group).values())
    assert not [*spare.glob("hook_*"), *spare.glob("new_*")]


def attach(pins: Path, programs: Programs, group: int) -> None:
    """Attach all hooks; 5.10 lets a link that was unpinned go when it gets round to it, and refuses others."""

    def attached() -> bool:
        try:
            hooks.attach(pins, programs.descriptors, group)
        except AttachError as problem:
            assert "File exists" in str(problem)
            return False
        return True

    assert eventually(attached)


def test_attaching_again_replaces(loads: list[Programs], group: int, spare: Path) -> None:
    """Two loads, one after the other: one of each is attached; one that fails leaves what was there."""
    attach(spare, loads[0], group)
    with pytest.raises(AttachError):
        hooks.attach(spare, broken(loads[1]), group)
    assert all(hooks.attached_hooks(spare, group).values())
    attach(spare, loads[1], group)
    assert set(own(group).values()) == {1}
    assert all(hooks.attached_hooks(spare, group).values())
    assert hooks.detach(spare, group) == len(own(group))
    assert not any(own(group).values())


def test_status_sees_a_hook_that_somebody_detached(loads: list[Programs], group: int, spare: Path) -> None:
    """attached_hooks asks the cgroup, not the pins."""
    attach(spare, loads[0], group)
    bpf.detach(group, loads[0].descriptors["kpf_connect4"], 10)
    found = hooks.attached_hooks(spare, group)
    assert not found.pop("connect4") and all(found.values())


def test_a_map_of_another_shape_is_not_reused(spare: Path) -> None:
    """A pin left by another version would be read wrongly: load refuses it by name and says what to do."""
    wrong = bpf.create_map(maps.MAP_TYPES["array"], 4, 16, 1, 0)
    kept = bpf.open_pinned(spare / "processes")
    (spare / "processes").unlink()
    try:
        bpf.pin(wrong, spare / "processes")
        with pytest.raises(LoadError, match=r"map processes .* run `kpf-ebpf down`"):
            load(spare)
    finally:
        (spare / "processes").unlink()
        bpf.pin(kept, spare / "processes")
        os.close(wrong)
        os.close(kept)
