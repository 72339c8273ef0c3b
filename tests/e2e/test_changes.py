"""Programs that change, move, come and go under a live policy: seen by the kernel at once, or by the Engine soon."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from .bench import DENY_ALL, INTERPRETER, SERVER, Bench
from .tools import eventually


def cells(path: str, action: str = "permit") -> str:
    """Return an application rule with this action for all that goes out."""
    return f'[[application]]\npath = "{path}"\ntrusted-out = "{action}"\ninternet-out = "{action}"\nlog = true\n'


def reaches(bench: Bench, program: str) -> bool:
    """Return whether a program reaches the server; if not, it must be EPERM."""
    found = bench.run(program, "tcp-connect", SERVER, 7000, "--text", "x")
    assert found.ok or found.errno == "EPERM", found
    return found.ok


def is_refused(bench: Bench, program: str) -> bool:
    """Return whether a program gets EPERM. A connection that a change overtakes times out: its rest is dropped."""
    return bench.run(program, "tcp-connect", SERVER, 7000, "--text", "x").errno == "EPERM"


def state(bench: Bench, path: str) -> dict[str, Any]:
    """Return what status says of a program."""
    (found,) = [one for one in bench.status()["applications"] if one["path"] == path]
    return dict(found)


def digest(path: str) -> str:
    """Return a file's SHA-256."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def replace(path: str, extra: bytes) -> None:
    """Put another file in a program's place, as package managers do."""
    fresh = Path(path).with_suffix(".new")
    shutil.copyfile(INTERPRETER, fresh)
    with fresh.open("ab") as file:
        file.write(extra)
    fresh.chmod(0o755)
    fresh.rename(path)


def root_program(bench: Bench, name: str) -> str:
    """Return a program in a folder all of whose parents are root's alone."""
    path = bench.scripts / name
    shutil.copyfile(INTERPRETER, path)
    path.chmod(0o755)
    return str(path)


def test_a_replaced_program_is_modified_until_accepted(bench: Bench) -> None:
    """Another file in its place: denied by `modified` once seen; status has both digests; accept takes it."""
    path = bench.program("good")
    bench.up(policy=DENY_ALL.replace('internet-out = "deny"', 'internet-out = "permit"') + cells(path))
    bench.peer("tcp-echo", SERVER, 7000)
    old = digest(path)
    assert reaches(bench, path)
    replace(path, b"other")
    assert eventually(lambda: is_refused(bench, path)), "its old rights, or the default's, would widen them"
    bench.expect_hits(f"modified/{path}")
    found = state(bench, path)
    assert (found["state"], found["sha256"], found["sha256-now"]) == ("modified", old, digest(path))
    assert bench.kpf("accept", path).returncode == 0
    assert reaches(bench, path)
    found = state(bench, path)
    assert found["state"] == "accepted" and found["sha256"] == digest(path) != old


def test_a_program_that_is_put_back_is_itself_again(bench: Bench) -> None:
    """The accepted content in place again: no accept is needed."""
    path = bench.program("good")
    bench.up(policy=DENY_ALL + cells(path))
    bench.peer("tcp-echo", SERVER, 7000)
    replace(path, b"other")
    assert eventually(lambda: state(bench, path)["state"] == "modified")
    replace(path, b"")
    assert eventually(lambda: reaches(bench, path))


def test_a_touched_program_is_admitted_again_by_itself(bench: Bench) -> None:
    """A ctime that changed while the digest did not: new processes soon, and running ones all the time."""
    path = bench.program("good")
    bench.up(policy=DENY_ALL + cells(path))
    bench.peer("tcp-echo", SERVER, 7000)
    live = bench.start(path, "udp-session", SERVER, 7000)
    bench.peer("udp-echo", SERVER, 7000)
    assert live.line().ok and live.say("echo one").ok
    Path(path).chmod(0o555)
    assert eventually(lambda: reaches(bench, path))
    assert eventually(lambda: live.say("echo two").ok), "the process that runs is still what was accepted"
    assert state(bench, path)["state"] == "accepted"
    assert bench.run(path, "tcp-connect", SERVER, 7000, "--text", "x").ok


def test_accept_system_takes_a_package_upgrade_without_a_gap(bench: Bench) -> None:
    """on-modified = "accept-system": root's file in root's folders is taken; the old version's process goes on."""
    path = root_program(bench, "tool")
    bench.up(policy='[preferences]\non-modified = "accept-system"\n' + DENY_ALL + cells(path))
    bench.peer("tcp-echo", SERVER, 7000)
    live = bench.start(path, "tcp-session", SERVER, 7000)
    assert not live.line().ok or live.say("echo one").ok
    old = digest(path)
    replace(path, b"upgrade")
    assert eventually(lambda: reaches(bench, path))
    assert live.say("echo two").ok, "a connection of the old version is cut"
    assert state(bench, path)["sha256"] == digest(path) != old
    log = Path("/var/log/kpf-ebpf", bench.instance, "engine.log").read_text()
    assert f"{path}: accepted as changed by root" in log


def test_accept_system_does_not_take_a_users_file(bench: Bench) -> None:
    """The same in a folder that others may write: modified."""
    folder = bench.scripts / "users"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    path = root_program(bench, "users/tool")
    bench.up(policy='[preferences]\non-modified = "accept-system"\n' + DENY_ALL + cells(path))
    bench.peer("tcp-echo", SERVER, 7000)
    replace(path, b"upgrade")
    assert eventually(lambda: is_refused(bench, path) and bench.hits(f"modified/{path}"), 20)
    assert state(bench, path)["state"] == "modified"


def test_a_program_that_appears_later_is_matched(bench: Bench) -> None:
    """An application that is not there at up: a warning, and its rule holds from when it appears."""
    path = str(bench.programs / "later")
    bench.up(policy=DENY_ALL + cells(path))
    bench.peer("tcp-echo", SERVER, 7000)
    assert any(path in warning for warning in bench.status()["warnings"])
    bench.program("later")
    assert eventually(lambda: reaches(bench, path))


def test_a_wildcard_picks_up_new_versions(bench: Bench) -> None:
    """`*` within a path component: a version installed later matches; a user's file never does."""
    for version in ("1", "2"):
        (bench.scripts / version).mkdir()
    first = root_program(bench, "1/tool")
    bench.up(policy=DENY_ALL + cells(f"{bench.scripts}/*/tool"))
    bench.peer("tcp-echo", SERVER, 7000)
    assert reaches(bench, first)
    second = root_program(bench, "2/tool")
    assert eventually(lambda: reaches(bench, second), 20)
    bench.expect_hits(f"application/{second}/internet-out")
    (bench.scripts / "3").mkdir()
    os.chown(bench.scripts / "3", 65534, 65534)
    third = root_program(bench, "3/tool")
    root_program(bench, "1/other")
    bench.kpf("reload", check=True)
    assert not reaches(bench, third)
    assert not reaches(bench, str(bench.scripts / "1/other"))
