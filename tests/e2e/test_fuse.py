"""FUSE: whoever serves a file system invents its files, so they are nobody; but an AppImage's are that AppImage."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

from .bench import HERE, INTERPRETER, SENDER, SERVER, Bench
from .child import Child
from .intruder import USER, VERB, enforce, gains_nothing, only, users_folder
from .tools import eventually, system

OFFSET = 1 << 17
"""Where the file system begins in an AppImage; before it is the runtime."""
MARK = b"AI\x02"
"""At byte 8 of a file: an AppImage of type 2 (AppImage specification, type 2 image format)."""


def appimage(bench: Bench, name: str, mark: bytes = MARK) -> str:
    """Return an AppImage of root's; its file system has a copy of the interpreter, "inner", and a script "AppRun"."""
    content, image, path = bench.folder / f"{name}-content", bench.folder / f"{name}.squashfs", bench.programs / name
    content.mkdir()
    shutil.copyfile(INTERPRETER, content / "inner")
    (content / "AppRun").write_text(f"#!{bench.program('interpreter')} -I\n" + SENDER.read_text())
    shutil.copy(SENDER.with_name("verbs.py"), content)
    for name_inside in ("inner", "AppRun"):
        (content / name_inside).chmod(0o755)
    system(
        "mksquashfs", str(content), str(image), "-quiet", "-no-progress", "-comp", "gzip", "-Xcompression-level", "1"
    )
    system("cc", "-O1", "-Wall", "-Werror", f"-DOFFSET={OFFSET}", "-o", str(path), str(HERE / "appimage.c"))
    runtime = path.read_bytes()
    assert len(runtime) < OFFSET
    marked = runtime[:8] + mark + runtime[8 + len(mark) :]
    path.write_bytes(marked.ljust(OFFSET, b"\0") + image.read_bytes())
    path.chmod(0o755)
    return str(path)


def run(bench: Bench, program: str, *words: object) -> Child:
    """Start an AppImage as the user; its mount point is the user's; what it mounts only this process tree sees."""
    node, mount = bench.folder / "fuse", users_folder(bench) / "mount"
    if not node.exists():
        found = Path("/dev/fuse").stat()
        os.mknod(node, stat.S_IFCHR, found.st_rdev)
        node.chmod(0o666)  # as udev makes it where it runs
    mount.mkdir(exist_ok=True)
    os.chown(mount, USER, USER)
    enter = (
        'echo $$ >"$0/cgroup.procs" && mount --bind "$1" /dev/fuse && '
        'exec setpriv --reuid="$2" --regid="$2" --clear-groups "${@:3}"'
    )
    words = ("nsenter", f"--net=/run/netns/{bench.namespaces['client']}", "unshare", "--mount", "bash", "-c", enter,
             bench.cgroup, node, USER, program, mount, *words)  # fmt: skip
    pipe = subprocess.PIPE
    child = Child(subprocess.Popen([str(word) for word in words], stdin=pipe, stdout=pipe, stderr=pipe, cwd="/"))
    bench.children.append(child)
    return child


def inner(bench: Bench, program: str) -> Child:
    """Start what lies in the file system of an AppImage; it connects."""
    return run(bench, program, "inner", "-I", SENDER, *VERB)


def test_an_appimage_is_what_it_runs_from_its_own_mount(bench: Bench) -> None:
    """The outer file is the application: permitted as it, counted and logged under its path."""
    good = appimage(bench, "good.AppImage")
    bench.up(policy=only(good))
    bench.peer("tcp-echo", SERVER, 7000)
    found = inner(bench, good).line()
    assert found.ok, found
    bench.expect_hits(f"application/{good}/internet-out")
    bench.expect_log(application=good, action="permit", id=f"application/{good}/internet-out")


def test_an_appimage_that_the_policy_denies_is_denied_inside(bench: Bench) -> None:
    """Another AppImage than the permitted one: denied, and logged as the AppImage it is."""
    good, bad = appimage(bench, "good.AppImage"), appimage(bench, "bad.AppImage")
    bench.up(policy=only(good))
    bench.peer("tcp-echo", SERVER, 7000)
    gains_nothing(bench, inner(bench, bad), good, bad)


def test_what_an_appimage_executes_outside_its_mount_is_itself(bench: Bench) -> None:
    """A program of the system that is started from within has its own rules, not the AppImage's."""
    good, other = appimage(bench, "good.AppImage"), bench.program("other")
    bench.up(policy=only(good))
    bench.peer("tcp-echo", SERVER, 7000)
    code = f"import os; os.execv({other!r}, [{other!r}, '-I', {str(SENDER)!r}, *{[str(word) for word in VERB]!r}])"
    gains_nothing(bench, run(bench, good, "inner", "-I", "-c", code), good, other)


def test_a_program_that_is_no_appimage_lends_nothing_to_a_mount(bench: Bench) -> None:
    """Without the mark of an AppImage: what a permitted program runs from FUSE is unknown."""
    good = appimage(bench, "good", bytes(3))
    bench.up(policy=only(good))
    bench.peer("tcp-echo", SERVER, 7000)
    gains_nothing(bench, inner(bench, good), good, "unknown")


def test_a_users_own_fuse_mount_has_no_identity(bench: Bench) -> None:
    """A copy of the good file on a file system that the user serves: unknown, whatever it says of itself."""
    good, server = bench.program("good"), appimage(bench, "server", bytes(3))
    enforce(bench, good)
    gains_nothing(bench, inner(bench, server), good, "unknown")


def test_a_policy_that_names_a_file_on_fuse_says_so(bench: Bench) -> None:
    """A rule for a program there can never match: status warns."""
    good = appimage(bench, "good.AppImage")
    mount = bench.folder / "mounted"
    mount.mkdir()
    serving = subprocess.Popen(["squashfuse", "-f", f"-ooffset={OFFSET}", good, str(mount)])
    try:
        assert eventually(mount.is_mount)
        bench.up(policy=only(str(mount / "inner")))
        assert any(str(mount) in warning and "user" in warning for warning in bench.status()["warnings"])
    finally:
        serving.terminate()
        serving.wait(10)
    assert not Path(mount).is_mount()
