"""Reading the files that name a proxy, and their stamps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kpf_ebpf.facts.gather import explain_systems_proxy, take_proxy_prints
from kpf_ebpf.facts.proxy import PLACES
from kpf_ebpf.facts.proxy_files import MAX_FILE_BYTES, distrust, read_roots, stamp
from kpf_ebpf.policy.model import Preferences

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of root's")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of root's that nobody else may write."""
    path = tmp_path / "proxy"
    path.write_text("text")
    path.chmod(0o644)
    return path


def test_a_file_of_roots_is_read(file: Path) -> None:
    """Also through a link, and with what is no UTF-8 replaced."""
    file.write_bytes(b"a\xff")
    link = file.with_name("link")
    link.symlink_to(file)
    assert read_roots(str(file)) == read_roots(str(link)) == "a\ufffd"
    assert distrust(str(link)) == ""


@pytest.mark.parametrize("mode", [0o646, 0o664])
def test_a_file_that_others_may_write_is_not_read(file: Path, mode: int) -> None:
    """Whoever may write it could choose where the Engine connects to."""
    file.chmod(mode)
    assert read_roots(str(file)) is None
    assert distrust(str(file)) == "others than root may write it"


def test_a_file_of_somebody_else_is_not_read(file: Path) -> None:
    """The owner may write it whenever he likes."""
    os.chown(file, 65534, 65534)
    assert read_roots(str(file)) is None
    assert distrust(str(file)) == "others than root may write it"


def test_a_file_that_is_too_large_is_not_read_at_all(file: Path) -> None:
    """Cut off in the middle, it could name another host."""
    file.write_bytes(b"x" * MAX_FILE_BYTES)
    assert len(read_roots(str(file)) or "") == MAX_FILE_BYTES
    file.write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    assert read_roots(str(file)) is None
    assert distrust(str(file)) == "it is larger than 256 KiB"


def test_a_pipe_is_neither_waited_for_nor_read(tmp_path: Path) -> None:
    """Only regular files are opened."""
    os.mkfifo(tmp_path / "pipe")
    assert read_roots(str(tmp_path / "pipe")) is None
    assert distrust(str(tmp_path / "pipe")) == "it is not a regular file"


def test_what_is_not_there_or_masked_is_no_problem(tmp_path: Path) -> None:
    """Nothing, a folder, and a link to /dev/null, by which systemd's files are masked."""
    (tmp_path / "mask").symlink_to("/dev/null")
    for path in (tmp_path / "none", tmp_path, tmp_path / "mask"):
        assert read_roots(str(path)) is None
        assert distrust(str(path)) == ""


def test_a_link_to_itself_is_told(tmp_path: Path) -> None:
    """Something is there, and cannot be read."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert read_roots(str(tmp_path / "loop")) is None
    assert distrust(str(tmp_path / "loop")) != ""


def test_a_stamp_moves_with_every_change(file: Path) -> None:
    """Content, mode, another file in its place; a file that is not there has none."""
    seen = {stamp(str(file))}
    file.write_text("longer text")
    seen.add(stamp(str(file)))
    file.chmod(0o600)
    other = file.with_name("other")
    other.write_text("longer text")
    other.replace(file)
    seen.add(stamp(str(file)))
    file.unlink()
    seen.add(stamp(str(file)))
    assert len(seen) == 4
    assert None in seen


def test_the_machine_itself_can_be_asked() -> None:
    """Its prints stand still while nothing changes; every place answers."""
    assert take_proxy_prints() == take_proxy_prints()
    answers = explain_systems_proxy(Preferences(), {"https_proxy": "http://me:secret@p:1"}, "a test's environment")
    assert len(answers) == 1 + len(PLACES)
    assert [(answer.place, answer.said) for answer in answers if answer.used] == [("a test's environment", "p:1")]
