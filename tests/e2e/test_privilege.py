"""The Engine has what it needs and no more; nothing that it or `up` leaves is anybody else's to read or change."""

from __future__ import annotations

import stat
from pathlib import Path

from kpf_ebpf.engine.privilege import KEPT

from .bench import DENY_ALL, Bench
from .tools import eventually

USER = "65534"


def status_of(pid: int) -> dict[str, str]:
    """Return /proc/PID/status by its keys."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_the_engine_keeps_the_capabilities_it_needs_and_cannot_get_others(bench: Bench) -> None:
    """Effective, permitted and bounding sets are these; no new privileges by executing anything."""
    bench.up(policy=DENY_ALL)
    found = status_of(int(bench.status()["engine"]))
    wanted = sum(1 << number for number in KEPT.values())
    for key in ("CapEff", "CapPrm", "CapBnd"):
        assert int(found[key], 16) == wanted, key
    assert int(found["CapInh"], 16) == int(found["CapAmb"], 16) == 0
    assert found["NoNewPrivs"] == "1"


def test_the_engine_holds_no_compiler(bench: Bench) -> None:
    """BCC and LLVM are needed to compile only: neither is mapped in the process that stays."""
    bench.up(policy=DENY_ALL)
    maps = Path(f"/proc/{bench.status()['engine']}/maps").read_text()
    assert "libLLVM" not in maps and "libclang" not in maps and "libbcc.so" not in maps


def test_what_is_left_behind_is_roots_alone(bench: Bench) -> None:
    """Folders 0700, records 0600, log files 0640; another user reads nothing of it, and changes nothing."""
    bench.up(policy=DENY_ALL)
    bench.run(bench.program("any"), "udp-send", "192.0.2.2", 9)
    bench.expect_hits("default/internet-out")
    for folder in bench.leavings():
        if not folder.exists():
            continue
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
        for path in folder.rglob("*"):
            mode = stat.S_IMODE(path.lstat().st_mode)
            assert path.lstat().st_uid == 0 and not mode & 0o027, (path, oct(mode))
            assert not stat.S_ISLNK(path.lstat().st_mode)
    run = Path("/run/kpf-ebpf", bench.instance)
    for words in (("cat", f"{run}/enforced.json"), ("touch", f"{run}/enforced.json"), ("ls", str(run))):
        done = bench.real("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *words, cgroup=False)
        assert done.returncode != 0, words


def test_a_link_where_a_folder_should_be_is_refused(bench: Bench) -> None:
    """Somebody put a symlink where the run folder goes: refused, and what it points to is untouched."""
    target = bench.folder / "target"
    target.mkdir()
    run = Path("/run/kpf-ebpf", bench.instance)
    run.parent.mkdir(mode=0o700, exist_ok=True)
    run.symlink_to(target)
    try:
        done = bench.try_up(DENY_ALL)
        assert done.returncode == 1 and "not a folder" in done.stderr, done.stderr
        assert not list(target.iterdir())
    finally:
        run.unlink()
        bench.used = False


def test_a_link_where_the_log_should_be_is_not_followed(bench: Bench) -> None:
    """A symlink in the place of the log file: what it points to gets no line, and the loss is told."""
    victim = bench.folder / "victim"
    victim.write_text("mine\n")
    log = Path("/var/log/kpf-ebpf", bench.instance)
    log.mkdir(mode=0o700, parents=True)
    (log / "log.jsonl").symlink_to(victim)
    bench.up(policy=DENY_ALL)
    bench.run(bench.program("any"), "udp-send", "192.0.2.2", 9)
    bench.expect_hits("default/internet-out")
    assert eventually(lambda: any("could not be written" in warning for warning in bench.status()["warnings"]))
    assert victim.read_text() == "mine\n"
