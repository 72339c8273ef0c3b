"""Never a green light that was not measured: whatever was taken away or put in the way, status says so."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from kpf_ebpf.kernel import bpf
from kpf_ebpf.kernel.load import load

from .bench import DENY_ALL, Bench
from .tools import eventually

CONNECT4 = 10


def look(bench: Bench, expected: int = 1, **options: Any) -> dict[str, Any]:
    """Return status, which must have this exit status."""
    done = bench.kpf("status", "--json", **options)
    assert done.returncode == expected, done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["enforcing"] is (expected == 0)
    return found


def told(found: dict[str, Any], words: str) -> bool:
    """Return whether a warning, or the canary, says these words."""
    return any(words in text for text in (*found["warnings"], found["canary"]["detail"]))


def opened(path: Path) -> int:
    """Return a cgroup's descriptor."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def test_a_detached_program_is_found(bench: Bench) -> None:
    """One hook is detached behind our back: not enforcing, and which one; `up` mends it."""
    bench.up(policy=DENY_ALL)
    group = opened(bench.cgroup)
    program = bpf.open_pinned(Path("/sys/fs/bpf/kpf-ebpf", bench.instance, "hook_connect4"))
    bpf.detach(group, program, CONNECT4)
    assert told(look(bench), "hook connect4 is not attached")
    for descriptor in (group, program):
        os.close(descriptor)
    bench.up()
    look(bench, 0)


def test_programs_of_others_are_told(bench: Bench, tmp_path: Path) -> None:
    """Another firewall's program at the same cgroup: enforcement is what it is, and status says who else is there."""
    bench.up(policy=DENY_ALL)
    pins = Path("/sys/fs/bpf", f"kpf-test-{bench.random}")
    pins.mkdir()
    try:
        other = load(pins)
        group = opened(bench.cgroup)
        bpf.attach(group, other.descriptors["kpf_connect4"], CONNECT4)
        assert told(look(bench, 0), "programs of others are attached to this cgroup, too")
        bpf.detach(group, other.descriptors["kpf_connect4"], CONNECT4)
        os.close(group)
        other.close()
    finally:
        for pinned in pins.iterdir():
            pinned.unlink()
        pins.rmdir()
    assert not told(look(bench, 0), "programs of others")


def test_a_bpf_file_system_that_vanished_is_told(bench: Bench) -> None:
    """Its pins are not there any more: not enforcing, and what to do."""
    bench.up(policy=DENY_ALL)
    empty = bench.folder / "empty"
    empty.mkdir()
    found = look(bench, binds={"/sys/fs/bpf": empty})
    assert told(found, "are gone")


def test_a_replaced_cgroup_is_found(bench: Bench) -> None:
    """Removed and made anew under the same name: nothing is attached to the new one, and status says so."""
    bench.up(policy=DENY_ALL)
    assert eventually(lambda: not (bench.cgroup / "cgroup.procs").read_text())
    bench.cgroup.rmdir()
    assert told(look(bench), "is gone")
    bench.cgroup.mkdir()
    assert told(look(bench), "is not attached")
    bench.up()
    look(bench, 0)


def test_a_record_that_the_kernel_does_not_share_is_told(bench: Bench) -> None:
    """A command died between its record and its switch: status says so, and reload mends it.

    So does an Engine that resolves anew: here none is alive.
    """
    bench.up(policy=DENY_ALL)
    bench.kill_engine()
    record = Path("/run/kpf-ebpf", bench.instance, "enforced.json")
    document = json.loads(record.read_text())
    document["generation"] += 1
    record.write_text(json.dumps(document))
    assert told(look(bench, 0), "a command died in between")
    bench.reload(DENY_ALL)
    assert not told(look(bench, 0), "a command died in between")
