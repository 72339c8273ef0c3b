"""A program is its file on every file system, by every path, and never by a number that another file had before."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .bench import INTERPRETER, SERVER, Bench
from .intruder import USER, VERB, attack, connects, enforce, gains_nothing, only
from .tools import eventually, system, unmount

MAKERS = {"ext4": ("mkfs.ext4", "-q", "-F"), "btrfs": ("mkfs.btrfs", "-q")}
WRITTEN = ["tmpfs", "overlay", *MAKERS]
"""Kinds of file systems that programs are written to."""
NOTED = pytest.mark.parametrize("kind", ["overlay", *MAKERS])
"""Those that note the time of every change, also of one through a mapping."""
KINDS = pytest.mark.parametrize("kind", WRITTEN)
ALL_KINDS = pytest.mark.parametrize("kind", [*WRITTEN, "overlay-lower"])
IMAGE_BYTES = 128 << 20
Mount = Callable[[str], Path]


def program(folder: Path, name: str, end: bytes = b"") -> str:
    """Return a copy of the interpreter in a folder; ``end`` makes it another program that does the same."""
    path = folder / name
    path.write_bytes(INTERPRETER.read_bytes() + end)
    path.chmod(0o755)
    return str(path)


def put(kind: str, bench: Bench, folder: Path) -> None:
    """Mount a new file system, with the programs "good" and "bad"."""
    source = folder
    if kind == "tmpfs":
        system("mount", "-t", "tmpfs", "-o", "mode=755", "kpf-test", str(folder))
    elif kind in MAKERS:
        image = bench.folder / f"{folder.name}.img"
        with image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        system(*MAKERS[kind], str(image))
        system("mount", "-o", "loop", str(image), str(folder))
    else:
        parts = {part: bench.programs / f"{folder.name}-{part}" for part in ("lower", "upper", "work")}
        for part in parts.values():
            part.mkdir()
        if kind == "overlay-lower":
            source = parts["lower"]
            for name in ("good", "bad"):
                program(source, name)
        options = "lowerdir={lower},upperdir={upper},workdir={work}".format_map(parts)
        system("mount", "-t", "overlay", "-o", options, "kpf-test", str(folder))
    if source == folder:
        folder.chmod(0o755)
        for name in ("good", "bad"):
            program(folder, name)


@pytest.fixture
def mount(bench: Bench) -> Iterator[Mount]:
    """Give a function that mounts a new file system of a kind; all are unmounted afterwards."""
    folders: list[Path] = []

    def mounted(kind: str) -> Path:
        folder = bench.programs / f"mounted-{len(folders)}"
        folder.mkdir()
        folders.append(folder)
        put(kind, bench, folder)
        return folder

    try:
        yield mounted
    finally:
        for child in bench.children:
            child.stop()
        for folder in reversed(folders):
            if folder.is_mount():
                unmount(folder)


@ALL_KINDS
def test_the_file_decides_on_every_file_system(bench: Bench, mount: Mount, kind: str) -> None:
    """tmpfs, ext4, btrfs, overlayfs (each layer): the good program is permitted, the other not; both are logged."""
    folder = mount(kind)
    good, bad = str(folder / "good"), str(folder / "bad")
    enforce(bench, good)
    bench.expect_log(application=good, action="permit", id=f"application/{good}/internet-out")
    assert connects(bench, bad).errno == "EPERM"
    bench.expect_log(application=bad, action="deny", id="default/internet-out")


@NOTED
def test_a_change_in_place_is_seen_on_every_file_system(bench: Bench, mount: Mount, kind: str) -> None:
    """A user's own program that the policy names: once written to, it is modified and denied everything."""
    own = users_program(mount(kind))
    enforce(bench, own)
    assert attack(bench, "rewritten", own, own).line().errno == "EPERM"
    bench.expect_hits(f"modified/{own}")


@NOTED
def test_a_change_through_a_mapping_is_seen(bench: Bench, mount: Mount, kind: str) -> None:
    """Writing to memory that is mapped from a program's file changes the program like any other way of writing."""
    own = users_program(mount(kind))
    enforce(bench, own)
    assert attack(bench, "mapped-at-once", own, own).line().errno == "EPERM"
    bench.expect_hits(f"modified/{own}")


def test_a_users_program_in_memory_is_not_recognised(bench: Bench, mount: Mount) -> None:
    """tmpfs notes no change through a mapping: a program that its user may write has no rights there, and is told."""
    own = users_program(mount("tmpfs"))
    bench.up(policy=only(own))
    bench.peer("tcp-echo", SERVER, 7000)
    assert connects(bench, own).errno == "EPERM"
    assert any(own in warning and "memory" in warning for warning in bench.status()["warnings"])


def users_program(folder: Path) -> str:
    """Return the good program of a folder, which belongs to the user from now on."""
    path = folder / "good"
    os.chown(path, USER, USER)
    return str(path)


@ALL_KINDS
def test_a_bind_mount_is_the_same_file(bench: Bench, mount: Mount, kind: str) -> None:
    """The same file at another place, by a bind mount: the same program; what is not permitted is so there, too."""
    folder = mount(kind)
    other = bench.programs / "other"
    other.mkdir()
    enforce(bench, str(folder / "good"))
    system("mount", "--bind", str(folder), str(other))
    try:
        assert connects(bench, str(other / "good")).ok
        assert connects(bench, str(other / "bad")).errno == "EPERM"
    finally:
        unmount(other)


@KINDS
def test_a_hard_link_is_the_same_file(bench: Bench, mount: Mount, kind: str) -> None:
    """Two names of one file, linked before up: permitted by either name, whichever the policy has."""
    folder = mount(kind)
    link = folder / "link"
    link.hardlink_to(folder / "good")
    enforce(bench, str(link))
    assert connects(bench, str(folder / "good")).ok


@KINDS
def test_a_deleted_program_that_runs_keeps_its_rights(bench: Bench, mount: Mount, kind: str) -> None:
    """What was executed before its file was deleted is still that program; a new file there is not."""
    folder = mount(kind)
    good = str(folder / "good")
    enforce(bench, good)
    child = attack(bench, "wait", good, program=good)
    child.event("ready")
    Path(good).unlink()
    program(folder, "good", b"another one")
    found = child.say("go")
    assert found.ok, found
    bench.expect_hits(f"application/{good}/internet-out", 2)
    assert connects(bench, good).errno == "EPERM"


@KINDS
def test_a_program_replaced_before_up_is_another_one(bench: Bench, mount: Mount, kind: str) -> None:
    """Older than up, its file deleted and another one made there: the new file has the rights, the old process none."""
    folder = mount(kind)
    good = str(folder / "good")
    bench.peer("tcp-echo", SERVER, 7000)
    child = attack(bench, "wait", good, program=good)
    child.event("ready")
    Path(good).unlink()
    program(folder, "good", b"another one")
    bench.up(policy=only(good))
    assert connects(bench, good).ok
    gains_nothing(bench, child, good, line="go")


@ALL_KINDS
def test_the_same_path_in_another_mount_namespace(bench: Bench, mount: Mount, kind: str) -> None:
    """Files decide, not paths: another file at the good path has no rights, the good file at another path has them."""
    folder = mount(kind)
    good, bad = str(folder / "good"), str(folder / "bad")
    enforce(bench, good)
    done = elsewhere(bench, bad, good)
    assert '"errno": "EPERM"' in done.stdout, done
    done = elsewhere(bench, good, bad)
    assert '"ok": true' in done.stdout, done


def elsewhere(bench: Bench, source: str, target: str) -> subprocess.CompletedProcess[str]:
    """Run the file ``source`` at the path ``target``, in a mount namespace of its own."""
    text = f'mount --bind {source} {target} && exec {target} -I "$@"'
    sender = str(Path(__file__).with_name("sender.py"))
    return bench.real("unshare", "--mount", "sh", "-c", text, "sh", sender, *map(str, VERB))


def test_an_image_changed_while_it_was_not_mounted(bench: Bench, mount: Mount) -> None:
    """The same inode, the same times, another content: the Engine looks again when a file system was mounted."""
    folder = mount("ext4")
    path = program(folder, "tool", b"first-content")
    enforce(bench, path)
    for child in bench.children:
        child.stop()
    unmount(folder)
    image = bench.folder / f"{folder.name}.img"
    assert eventually(lambda: not is_mounted_somewhere(image))
    data = image.read_bytes()
    assert data.count(b"first-content") >= 1
    image.write_bytes(data.replace(b"first-content", b"other-content"))
    system("mount", "-o", "loop,ro", str(image), str(folder))
    assert Path(path).read_bytes().endswith(b"other-content")
    bench.peer("tcp-echo", SERVER, 7000)
    assert eventually(lambda: state_of(bench, path) == "modified")
    assert connects(bench, path).errno == "EPERM"
    bench.expect_hits(f"modified/{path}")


def is_mounted_somewhere(image: Path) -> bool:
    """Tell whether a loop device still has an image: a mount namespace that others made meanwhile keeps its mount."""
    done = subprocess.run(["losetup", "--associated", str(image)], capture_output=True, text=True, check=True)
    return bool(done.stdout.strip())


def state_of(bench: Bench, path: str) -> str:
    """Return what status says of a program."""
    return next((str(one["state"]) for one in bench.status()["applications"] if one["path"] == path), "gone")


def test_a_recycled_device_number_lends_nothing(bench: Bench, mount: Mount) -> None:
    """A good program's tmpfs is gone: a file on a new one with the same device and inode number has no rights."""
    folder = mount("tmpfs")
    good = folder / "good"
    enforce(bench, str(good))
    wanted = good.stat()
    for child in bench.children:
        child.stop()
    unmount(folder)
    for _ in range(60):
        fresh = mount("tmpfs")
        if fresh.stat().st_dev == wanted.st_dev:
            break
    else:
        pytest.fail("no new file system got the device number")
    found = (fresh / "good").stat()
    assert (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)
    bench.peer("tcp-echo", SERVER, 7000)
    assert connects(bench, str(fresh / "good")).errno == "EPERM"
