"""Program files: key, digest and problem belong to the same content of the same file."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

from kpf_ebpf.facts import files
from kpf_ebpf.facts.files import file_key, find_program, find_programs, look_at
from kpf_ebpf.facts.model import FileKey

ELF = b"\x7fELF" + bytes(range(256)) * 20


def a_file(path: Path, content: bytes = ELF, mode: int = 0o755) -> str:
    """Make a file and give its path."""
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def a_key(ctime: int = 1) -> FileKey:
    """Make a key."""
    return FileKey(1, 2, 3, ctime, 0)


def test_a_program_has_key_digest_and_no_problem(tmp_path: Path) -> None:
    """The device is in the kernel's encoding and the ctime is split."""
    path = a_file(tmp_path / "run")
    status = Path(path).stat()
    fact = look_at(path)
    assert (fact.path, fact.sha256, fact.problem) == (path, hashlib.sha256(ELF).hexdigest(), "")
    assert fact.key.inode == status.st_ino
    assert fact.key.device == os.major(status.st_dev) << 20 | os.minor(status.st_dev)
    assert fact.key.ctime_seconds * 10**9 + fact.key.ctime_nanoseconds == status.st_ctime_ns


def test_the_generation_is_zero_where_it_is_not_told() -> None:
    """A pipe has no generation."""
    reader, writer = os.pipe()
    try:
        assert file_key(reader).generation == 0
    finally:
        os.close(reader)
        os.close(writer)


def test_a_file_larger_than_a_chunk_is_hashed_whole(tmp_path: Path) -> None:
    """Chunks add up to the digest of all bytes."""
    content = os.urandom(files.CHUNK_BYTES + 17)
    assert look_at(a_file(tmp_path / "big", content)).sha256 == hashlib.sha256(content).hexdigest()


def test_a_sparse_giant_is_not_hashed(tmp_path: Path) -> None:
    """A user's file of many terabytes must not keep the Engine busy."""
    path = a_file(tmp_path / "giant")
    os.truncate(path, files.MAX_PROGRAM_BYTES + 1)
    fact = look_at(path)
    assert (fact.sha256, fact.problem) == ("", "is larger than 4 GiB")


def test_an_empty_file_is_hashed(tmp_path: Path) -> None:
    """No content is a content."""
    assert look_at(a_file(tmp_path / "empty", b"")).sha256 == hashlib.sha256(b"").hexdigest()


def test_a_script_is_told_by_its_first_two_bytes(tmp_path: Path) -> None:
    """#! and nothing else makes a script; it is as usable as any program."""
    fact = look_at(a_file(tmp_path / "script", b"#!/bin/sh\n"))
    assert fact.script and not fact.problem
    assert not look_at(a_file(tmp_path / "other", b"# !/bin/sh\n")).script
    assert fact.sha256 == hashlib.sha256(b"#!/bin/sh\n").hexdigest()


@pytest.mark.parametrize("kind", ["folder", "fifo"])
def test_what_is_not_a_regular_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    """Opening a named pipe would block, opening a device could do anything."""
    path = tmp_path / kind
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    fact = look_at(str(path))
    assert (fact.sha256, fact.problem) == ("", "is not a regular file")


def test_an_unreadable_file_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is there, but nothing is known of its content (root, too, is refused by some file systems)."""
    really_open = os.open

    def refuse(path: str, flags: int) -> int:
        if not flags & os.O_PATH:
            raise PermissionError(13, "Permission denied")
        return really_open(path, flags)

    path = a_file(tmp_path / "secret")
    monkeypatch.setattr(os, "open", refuse)
    fact = look_at(path)
    monkeypatch.undo()
    assert (fact.sha256, fact.problem) == ("", "cannot be read: Permission denied")


def test_a_file_that_cannot_be_identified_is_a_problem(tmp_path: Path) -> None:
    """An error of the kernel's probe is told, not raised."""

    def refuse(descriptor: int) -> FileKey:
        raise OSError(95, "Operation not supported")

    fact = look_at(a_file(tmp_path / "run"), refuse)
    assert fact.problem == "cannot be read: Operation not supported"


def test_the_given_view_of_the_file_is_taken(tmp_path: Path) -> None:
    """On btrfs and overlayfs only the kernel knows the device; it is asked with the descriptor that is read."""
    asked = []

    def identify(descriptor: int) -> FileKey:
        asked.append(os.fstat(descriptor).st_ino)
        return a_key()

    path = a_file(tmp_path / "run")
    assert look_at(path, identify).key == a_key()
    assert set(asked) == {Path(path).stat().st_ino}


def test_a_file_that_changes_while_it_is_hashed_is_hashed_again(tmp_path: Path) -> None:
    """Key and digest belong to the same content."""
    keys = iter([a_key(1), a_key(2), a_key(2), a_key(2)])
    fact = look_at(a_file(tmp_path / "run"), lambda descriptor: next(keys))
    assert (fact.key, fact.problem) == (a_key(2), "")


def test_a_file_that_keeps_changing_is_a_problem(tmp_path: Path) -> None:
    """The number of tries is bounded, and no digest is claimed."""
    keys = (a_key(number) for number in range(100))
    fact = look_at(a_file(tmp_path / "run"), lambda descriptor: next(keys))
    assert (fact.sha256, fact.problem) == ("", "keeps changing while it is read")


@pytest.mark.parametrize(("mode", "root_owned"), [(0o755, True), (0o775, False), (0o757, False)])
def test_a_file_others_may_write_is_not_roots(tmp_path: Path, mode: int, root_owned: bool) -> None:
    """Write bits for group or others make a file not root's alone; that is no problem by itself."""
    fact = look_at(a_file(tmp_path / "run", mode=mode))
    assert fact.root_owned is (root_owned and os.getuid() == 0)
    assert fact.problem == ""


def test_a_symlink_is_resolved(tmp_path: Path) -> None:
    """The fact names the file the link leads to."""
    path = a_file(tmp_path / "run")
    (tmp_path / "link").symlink_to("run")
    facts, warnings = find_program(str(tmp_path / "link"))
    assert ([fact.path for fact in facts], warnings) == ([path], ())


@pytest.mark.parametrize("word", ["missing", "missing/below", "file/below", "dangling"])
def test_a_missing_program_is_a_warning(tmp_path: Path, word: str) -> None:
    """A program may be installed later."""
    a_file(tmp_path / "file")
    (tmp_path / "dangling").symlink_to("nowhere")
    path = str(tmp_path / word)
    assert find_program(path) == ((), (f"application {path}: no such program (yet)",))


def test_a_loop_of_links_is_a_warning(tmp_path: Path) -> None:
    """What cannot be resolved is told, not raised."""
    (tmp_path / "loop").symlink_to("loop")
    facts, warnings = find_program(str(tmp_path / "loop"))
    assert facts == ()
    assert warnings[0].startswith(f"application {tmp_path}/loop: cannot be looked at: ")


def test_a_wildcard_that_matches_nothing_says_what_it_could_match(tmp_path: Path) -> None:
    """A user whose wildcard names a folder of his own learns why nothing matches."""
    word = f"{tmp_path}/*"
    assert find_program(word) == ((), (f"application {word}: no such program (yet){files.ROOTS_ONLY}",))


def test_a_wildcard_gives_facts_in_order_of_path(tmp_path: Path) -> None:
    """Equal worlds give equal facts."""
    paths = [a_file(tmp_path / name) for name in ("b", "a", "c")]
    facts, warnings = find_program(f"{tmp_path}/*", trusts=lambda status: True)
    assert ([fact.path for fact in facts], warnings) == (sorted(paths), ())


def test_a_file_that_ceased_to_be_roots_is_left_out_of_a_wildcard(tmp_path: Path) -> None:
    """What counts is the status of the open file, not of the path some time before."""
    path = Path(a_file(tmp_path / "run"))

    def identify(descriptor: int) -> FileKey:
        path.chmod(0o777)
        return a_key()

    facts, _ = find_program(f"{tmp_path}/*", identify, trusts=lambda status: status.st_mode & 0o1002 != 0o002)
    assert facts == ()


def test_a_file_of_several_words_is_read_once(tmp_path: Path) -> None:
    """Every word has its facts, every file its one look."""
    path = a_file(tmp_path / "run")
    (tmp_path / "link").symlink_to("run")
    asked = []

    def identify(descriptor: int) -> FileKey:
        asked.append(descriptor)
        return a_key()

    words = [path, str(tmp_path / "link"), path, str(tmp_path / "missing")]
    found, warnings = find_programs(words, identify)
    assert list(found) == [path, words[1], words[3]]
    assert found[path] == found[words[1]]
    assert len(asked) == 2
    assert len(warnings) == 1


def test_a_script_is_executed_by_the_paths_that_only_root_decides(tmp_path: Path) -> None:
    """Its own path and that of a link to it, where all folders are trusted; in a folder of a user's: none."""
    path = a_file(tmp_path / "script", b"#!/bin/sh\n")
    link = tmp_path / "link"
    link.symlink_to(path)
    (fact,), _ = find_program(str(link), trusts=lambda status: True)
    assert fact.executed == (str(Path(path).resolve()), str(link))
    (fact,), _ = find_program(str(path), trusts=lambda status: not stat.S_ISDIR(status.st_mode))
    assert fact.executed == ()


def test_a_shortage_says_nothing_about_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few descriptors: an error, not a program that "cannot be read" and then counts as modified."""
    path = tmp_path / "tool"
    path.write_bytes(b"some")
    before = os.open

    def refuse(name: str, flags: int, *mode: int) -> int:
        if str(name).startswith("/proc/self/fd/"):
            raise OSError(errno.EMFILE, "Too many open files")
        return before(name, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    for look in (lambda: look_at(str(path)), lambda: find_program(str(path))):
        with pytest.raises(OSError, match="Too many open files"):
            look()
