"""Wildcards of program paths. The tests' own files need not be root's: "ours" stands for root's there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kpf_ebpf.facts.wildcards import compile_pattern, expand, in_roots_folders, is_roots, is_wildcard


def ours(status: os.stat_result) -> bool:
    """Trust root's and the tests' own files, except those that others may write (but for sticky folders)."""
    return status.st_uid in (0, os.getuid()) and (not status.st_mode & 0o022 or bool(status.st_mode & 0o1000))


def a_program(path: Path, mode: int = 0o755) -> str:
    """Make an executable file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x7fELF")
    path.chmod(mode)
    return str(path)


def names(found: tuple[tuple[str, ...], tuple[str, ...]]) -> list[str]:
    """Give the last components of what expand found, expecting no warnings."""
    assert found[1] == ()
    return [Path(path).name for path in found[0]]


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/usr/bin/*", "/usr/bin/curl", True),
        ("/usr/bin/*", "/usr/bin/x/curl", False),
        ("/usr/*/curl", "/usr/bin/curl", True),
        ("/opt/**", "/opt/a/b/c", True),
        ("/opt/**/run", "/opt/run", True),
        ("/opt/**/run", "/opt/a/b/run", True),
        ("/opt/**/run", "/opt/a/b/rerun", False),
        ("/opt/fire**x", "/opt/firefox/libx", True),
        ("/opt/[a]?.*", "/opt/[a]?.1", True),
        ("/opt/[a]?.*", "/opt/ab.1", False),
    ],
)
def test_a_star_stays_in_a_component_and_two_cross(pattern: str, path: str, matches: bool) -> None:
    """Only stars are special, and ``/**/`` may stand for no folder at all."""
    assert bool(compile_pattern(pattern).fullmatch(path)) is matches


def test_only_a_star_makes_a_wildcard() -> None:
    """Brackets and question marks are ordinary characters of a path."""
    assert is_wildcard("/usr/bin/*")
    assert not is_wildcard("/usr/bin/[?]")


def test_a_star_finds_programs_of_one_folder(tmp_path: Path) -> None:
    """Folders, files without an execute bit and deeper files do not match."""
    a_program(tmp_path / "b")
    a_program(tmp_path / "a")
    a_program(tmp_path / "text", 0o644)
    a_program(tmp_path / "folder" / "deep")
    assert names(expand(f"{tmp_path}/*", ours)) == ["a", "b"]


def test_two_stars_find_programs_at_any_depth(tmp_path: Path) -> None:
    """``**`` crosses folders; the rest of the pattern still binds."""
    a_program(tmp_path / "run")
    a_program(tmp_path / "x" / "y" / "run")
    a_program(tmp_path / "x" / "y" / "other")
    assert len(expand(f"{tmp_path}/**/run", ours)[0]) == 2


def test_a_star_in_the_middle_matches_folders(tmp_path: Path) -> None:
    """Literal components after a wildcard must be there exactly."""
    a_program(tmp_path / "v1" / "bin" / "run")
    a_program(tmp_path / "v2" / "sbin" / "run")
    assert len(expand(f"{tmp_path}/v*/bin/run", ours)[0]) == 1


def test_symlinks_are_resolved_and_each_file_is_found_once(tmp_path: Path) -> None:
    """A link and its target are one program, named by the target."""
    target = a_program(tmp_path / "v1" / "run")
    (tmp_path / "current").symlink_to("v1")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    assert expand(f"{tmp_path}/*/run", ours) == ((target,), ())


def test_two_stars_do_not_follow_symlinks_to_folders(tmp_path: Path) -> None:
    """Loops of links cost nothing."""
    a_program(tmp_path / "top" / "run")
    (tmp_path / "top" / "again").symlink_to(".")
    assert names(expand(f"{tmp_path}/**", ours)) == ["run"]


def test_files_others_may_write_do_not_match(tmp_path: Path) -> None:
    """Who may write a file could put any program under the wildcard's rights."""
    a_program(tmp_path / "good")
    a_program(tmp_path / "bad", 0o757)
    a_program(tmp_path / "group", 0o775)
    assert names(expand(f"{tmp_path}/*", ours)) == ["good"]


def test_folders_others_may_write_are_not_entered(tmp_path: Path) -> None:
    """One writable folder anywhere above a file is enough to replace it."""
    a_program(tmp_path / "open" / "inner" / "run")
    (tmp_path / "open").chmod(0o777)
    assert expand(f"{tmp_path}/**", ours) == ((), ())
    assert expand(f"{tmp_path}/open/inner/*", ours) == ((), ())


def test_a_link_into_a_writable_folder_does_not_match(tmp_path: Path) -> None:
    """What a link points to is judged with its own folders."""
    a_program(tmp_path / "open" / "run")
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "run").symlink_to("../open/run")
    assert expand(f"{tmp_path}/bin/*", ours) == ((), ())


def test_by_default_only_roots_files_match(tmp_path: Path) -> None:
    """A world-writable folder such as /tmp lies above the tests' files: nothing there is root's alone."""
    folder = tmp_path / "open"
    a_program(folder / "run")
    folder.chmod(0o777)
    assert expand(f"{folder}/*") == ((), ())
    assert not in_roots_folders(str(folder / "run"))
    assert not is_roots(folder.stat())


def test_nothing_below_proc_is_a_program() -> None:
    """/proc/PID/exe leads to every running program."""
    assert expand("/proc/*/exe", ours) == ((), ())
    assert not in_roots_folders("/proc/version", lambda status: True)


def test_too_many_matches_are_cut_with_a_warning(tmp_path: Path) -> None:
    """A wildcard stands for a bounded number of programs."""
    for name in "abc":
        a_program(tmp_path / name)
    found, warnings = expand(f"{tmp_path}/*", ours, max_matches=2)
    assert len(found) == 2
    assert warnings == (f"application {tmp_path}/*: more than 2 programs match, the rest is left out",)


def test_too_many_files_to_look_at_are_cut_with_a_warning(tmp_path: Path) -> None:
    """A wildcard costs a bounded amount of work."""
    for name in "abcd":
        a_program(tmp_path / name)
    found, warnings = expand(f"{tmp_path}/**", ours, max_visited=3)
    assert len(found) <= 3
    assert warnings == (f"application {tmp_path}/**: more than 3 files to look at, the rest is left out",)
