"""What this machine's own files say."""

from __future__ import annotations

import os
from pathlib import Path

from kpf_ebpf.facts.model import NameFact
from kpf_ebpf.facts.names import NOT_LOOKED_UP
from kpf_ebpf.names.files import WatchedFile, system_resolvers, this_host, without_network
from tests.unit.names.helpers import numbers


def test_without_a_network_files_and_literals_speak() -> None:
    """Everything else waits, and says so."""
    hosts = "192.0.2.1 a.example\n2001:db8::1 A.example\n127.0.1.1 box\n"
    assert without_network(["a.example", "box", "b.example", "192.0.2.9", "localhost"], hosts) == {
        "a.example": NameFact("a.example", numbers("192.0.2.1", "2001:db8::1")),
        "box": NameFact("box", numbers("127.0.1.1")),
        "b.example": NameFact("b.example", error=NOT_LOOKED_UP),
        "192.0.2.9": NameFact("192.0.2.9", numbers("192.0.2.9")),
        "localhost": NameFact("localhost", numbers("127.0.0.1", "::1")),
    }


def test_addresses_of_a_hosts_file_are_bounded() -> None:
    """Like those of an answer."""
    hosts = "\n".join(f"192.0.2.{index} a.example" for index in range(200))
    assert len(without_network(["a.example"], hosts)["a.example"].addresses) == 64


def test_localhost_needs_no_file() -> None:
    """Nor does what ends so; nothing else is taken for it."""
    assert this_host("LocalHost.") == this_host("db.localhost") == frozenset(numbers("127.0.0.1", "::1"))
    assert this_host("localhost.example") == this_host("mylocalhost") == frozenset()


def test_resolvers_are_those_of_the_system() -> None:
    """In their order; search domains and options mean nothing here."""
    texts = {"/etc/resolv.conf": "search example.org\nnameserver 192.0.2.53\nnameserver ::1\noptions ndots:5\n"}
    assert system_resolvers(texts.get) == ((numbers("192.0.2.53")[0], 53), (1, 53))
    assert system_resolvers(texts.get, "/missing") == ()


def test_a_change_of_a_file_is_noticed_once(tmp_path: Path) -> None:
    """It may be missing, appear, be written, be replaced by one of the same size and time, and go."""
    path = tmp_path / "hosts"
    file = WatchedFile(str(path))
    assert [file.has_changed(), file.has_changed(), file.text()] == [True, False, ""]
    path.write_text("one")
    assert [file.has_changed(), file.has_changed(), file.text()] == [True, False, "one"]
    path.write_text("three")
    assert [file.has_changed(), file.has_changed(), file.text()] == [True, False, "three"]
    fresh = tmp_path / "fresh"
    fresh.write_text("seven")
    times = path.stat()
    os.utime(fresh, ns=(times.st_atime_ns, times.st_mtime_ns))
    fresh.rename(path)
    assert [file.has_changed(), file.has_changed(), file.text()] == [True, False, "seven"]
    path.unlink()
    assert [file.has_changed(), file.has_changed(), file.text()] == [True, False, ""]


def test_a_file_that_exists_is_new_at_the_first_look(tmp_path: Path) -> None:
    """Nothing was read yet."""
    path = tmp_path / "hosts"
    path.write_text("")
    file = WatchedFile(str(path))
    assert [file.has_changed(), file.has_changed()] == [True, False]
