"""Users, cgroups, resolvers and small files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kpf_ebpf.facts import system
from kpf_ebpf.facts.addresses import number
from kpf_ebpf.facts.system import (
    Listings,
    cgroup_mount,
    find_cgroups,
    find_users,
    list_folder,
    parse_resolvers,
    read_text,
)


def inode(path: Path) -> int:
    """Give a folder's inode number, which is a cgroup's id."""
    return path.stat().st_ino


def test_user_names_have_uids_and_numbers_need_none() -> None:
    """Each name is asked for once."""
    assert find_users(["root", 1000, "root"]) == ({"root": 0}, ())


@pytest.mark.parametrize("name", ["no-such-user-here", "", "nul\x00"])
def test_an_unknown_user_is_a_warning(name: str) -> None:
    """A rule for that user matches nobody."""
    assert find_users([name]) == ({}, (f"user {name}: no such user",))


@pytest.mark.parametrize(
    ("mounts", "mount"),
    [
        ("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", "/sys/fs/cgroup"),
        (
            "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\nx /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
            "/sys/fs/cgroup/unified",
        ),
        ("none /mnt/a\\040b cgroup2 rw 0 0\n", "/mnt/a b"),
        ("tmpfs /tmp tmpfs rw 0 0\nbroken\n", None),
        ("", None),
    ],
)
def test_the_unified_hierarchy_is_found_wherever_it_is_mounted(mounts: str, mount: str | None) -> None:
    """Octal escapes of the mount table are undone."""
    assert cgroup_mount(mounts) == mount


def test_a_cgroup_has_its_id_and_those_of_all_below(tmp_path: Path) -> None:
    """Its own comes first; files and symlinks do not count."""
    top = tmp_path / "system.slice"
    (top / "a.service" / "inner").mkdir(parents=True)
    (top / "b.service").mkdir()
    (top / "cgroup.procs").write_text("1")
    (top / "link").symlink_to(tmp_path)
    found, warnings = find_cgroups(["/system.slice", "/system.slice/b.service/"], str(tmp_path))
    assert warnings == ()
    assert found["/system.slice"][0] == inode(top)
    assert set(found["/system.slice"]) == {
        inode(top),
        inode(top / "a.service"),
        inode(top / "a.service" / "inner"),
        inode(top / "b.service"),
    }
    assert found["/system.slice/b.service/"] == (inode(top / "b.service"),)


def test_the_root_cgroup_is_the_mount_itself(tmp_path: Path) -> None:
    """ "/" has every cgroup below it."""
    (tmp_path / "a").mkdir()
    assert find_cgroups(["/"], str(tmp_path))[0] == {"/": (inode(tmp_path), inode(tmp_path / "a"))}


@pytest.mark.parametrize("path", ["/missing", "/link", "/file"])
def test_a_cgroup_that_does_not_exist_has_no_ids(tmp_path: Path, path: str) -> None:
    """Symlinks and files are no cgroups."""
    (tmp_path / "link").symlink_to("/")
    (tmp_path / "file").write_text("")
    assert find_cgroups([path], str(tmp_path)) == ({path: ()}, (f"cgroup {path}: no such cgroup (yet)",))


def test_a_cgroup_path_cannot_leave_the_mount(tmp_path: Path) -> None:
    """Dots are refused."""
    found, warnings = find_cgroups(["/../etc"], str(tmp_path))
    assert (found, len(warnings)) == ({"/../etc": ()}, 1)


def test_without_a_unified_hierarchy_there_are_no_cgroups() -> None:
    """The warning says what is missing."""
    assert find_cgroups(["/a"], None) == ({"/a": ()}, ("cgroup /a: no cgroup v2 hierarchy is mounted",))


def test_too_many_cgroups_are_cut_with_a_warning(tmp_path: Path) -> None:
    """The walk is bounded; exactly the bound is no warning."""
    for name in "ab":
        (tmp_path / name).mkdir()
    assert find_cgroups(["/"], str(tmp_path), limit=3)[1] == ()
    found, warnings = find_cgroups(["/"], str(tmp_path), limit=2)
    assert len(found["/"]) == 2
    assert len(warnings) == 1


def test_resolvers_are_the_nameserver_lines() -> None:
    """Comments and nonsense are skipped, scope ids stripped, repeats left out."""
    text = "# nameserver 192.0.2.9\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nsearch example\n"
    text += "nameserver name.example\nnameserver\nnameserver 127.0.0.53\n"
    assert parse_resolvers(text) == ((number("127.0.0.53"), 53), (number("fe80::1"), 53))


def test_the_number_of_resolvers_is_bounded() -> None:
    """A file that a network's settings wrote is not trusted to be short."""
    text = "".join(f"nameserver 192.0.2.{index}\n" for index in range(100))
    assert len(parse_resolvers(text)) == system.MAX_RESOLVERS


def test_a_text_file_is_read_with_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are no UTF-8 are replaced."""
    monkeypatch.setattr(system, "MAX_TEXT_BYTES", 3)
    path = tmp_path / "file"
    path.write_bytes(b"a\xffbcdef")
    assert read_text(str(path)) == "a\ufffdb"


def test_what_is_no_readable_file_reads_as_none(tmp_path: Path) -> None:
    """A missing file, a folder, and a named pipe, which must not block."""
    os.mkfifo(tmp_path / "pipe")
    assert read_text(str(tmp_path / "missing")) is None
    assert read_text(str(tmp_path)) is None
    assert read_text(str(tmp_path / "pipe")) is None


def test_a_folder_is_listed_in_order(tmp_path: Path) -> None:
    """A missing folder is empty."""
    for name in "ba":
        (tmp_path / name).write_text("")
    assert list_folder(str(tmp_path)) == ("a", "b")
    assert list_folder(str(tmp_path / "missing")) == ()


def test_a_folder_that_is_listed_again_and_again_is_always_as_it_is(tmp_path: Path) -> None:
    """Also where two changes follow each other so fast that the folder's time does not tell them apart."""
    listed = Listings()
    assert listed(str(tmp_path / "none")) == ()
    for index in range(200):
        (tmp_path / str(index)).touch()
        assert len(listed(str(tmp_path))) == index + 1
    os.utime(tmp_path, (1, 1))
    for _ in range(2):
        assert listed(str(tmp_path)) == list_folder(str(tmp_path))
    (tmp_path / "0").unlink()
    assert listed(str(tmp_path)) == list_folder(str(tmp_path))
