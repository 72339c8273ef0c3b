"""After a boot the last good policy counts where the file is bad, and what was accepted before it.

A boot is what it leaves of a firewall: no Engine, no pin, no record, a new cgroup; the state folder stays. Real ones
are in tests/boot.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from .bench import DENY_ALL, SERVER, Bench
from .test_changes import cells, reaches, replace, state
from .tools import eventually

BAD = "[default]\ninternet-out = 7\n"


def boot(bench: Bench) -> None:
    """Leave of the firewall what a boot leaves."""
    bench.kill_engine()
    for folder in ("/run/kpf-ebpf", "/sys/fs/bpf/kpf-ebpf"):
        shutil.rmtree(Path(folder, bench.instance))
    assert eventually(lambda: not (bench.cgroup / "cgroup.procs").read_text())
    bench.cgroup.rmdir()
    bench.cgroup.mkdir()


def warned(bench: Bench) -> bool:
    """Return whether status tells that the file is bad."""
    return any(line.startswith(f"{bench.policy}: bad") for line in bench.status()["warnings"])


def test_a_bad_file_is_what_was_last_enforced_of_it(bench: Bench) -> None:
    """up --or-last-good: that policy, told in a warning until a good file is reloaded; without it, up fails."""
    path = bench.program("good")
    bench.up(policy=DENY_ALL + cells(path))
    bench.peer("tcp-echo", SERVER, 7000)
    boot(bench)
    bench.write_policy(BAD)
    assert bench.kpf("up", "--policy", str(bench.policy), "--cgroup", bench.cgroup_name).returncode == 2
    bench.up("--or-last-good")
    assert warned(bench)
    assert reaches(bench, path) and not reaches(bench, bench.program("other"))
    assert bench.kpf("reload").returncode == 2 and warned(bench)
    bench.reload(DENY_ALL)
    assert not warned(bench) and not reaches(bench, path)


def test_what_was_never_confirmed_is_not_the_last_good(bench: Bench) -> None:
    """A boot in the middle of a trial: what was before it counts."""
    path = bench.program("good")
    bench.up(policy=DENY_ALL + cells(path))
    bench.peer("tcp-echo", SERVER, 7000)
    bench.write_policy(DENY_ALL)
    assert bench.kpf("reload", "--confirm", "600").returncode == 0
    assert not reaches(bench, path)
    boot(bench)
    bench.write_policy(BAD)
    bench.up("--or-last-good")
    assert reaches(bench, path)


def test_a_program_that_changed_while_the_machine_was_off_is_modified(bench: Bench) -> None:
    """What was accepted outlives a boot; `down` forgets it, then the file counts as it is."""
    path = bench.program("good")
    bench.up(policy=DENY_ALL + cells(path))
    bench.peer("tcp-echo", SERVER, 7000)
    boot(bench)
    replace(path, b"other")
    bench.up()
    assert state(bench, path)["state"] == "modified" and not reaches(bench, path)
    assert bench.kpf("down").returncode == 0
    bench.up()
    assert state(bench, path)["state"] == "accepted" and reaches(bench, path)


def test_down_leaves_nothing_to_fall_back_to(bench: Bench) -> None:
    """Taken down on purpose, nothing comes back: a bad file is an error again, and no file is left."""
    bench.up(policy=DENY_ALL)
    assert Path("/var/lib/kpf-ebpf", bench.instance, "last-good.json").stat().st_mode & 0o077 == 0
    assert bench.kpf("down").returncode == 0
    assert not Path("/var/lib/kpf-ebpf", bench.instance).exists()
    bench.write_policy(BAD)
    done = bench.kpf("up", "--or-last-good", "--policy", str(bench.policy), "--cgroup", bench.cgroup_name)
    assert done.returncode == 2 and "policy.toml:2" in done.stderr
