"""Completion by the shell: asked as bash asks, and each source of words by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from kpf_ebpf.cli import complete
from kpf_ebpf.cli.main import COMMANDS, main

PARAMETER = click.Option(["--any"])
WORDS = {"--instance": complete.instances, "--adapter": complete.adapters, "--cgroup": complete.cgroups}
COMMAND = Path(sys.executable).parent / "kpf-ebpf"


def offered(typed: str) -> list[str]:
    """Give what the installed command offers bash after a line; the last word is the one begun."""
    asked = {"COMP_WORDS": f"kpf-ebpf {typed}", "COMP_CWORD": str(len(typed.split(" "))), "LC_ALL": "C.UTF-8"}
    environment = os.environ | asked | {"_KPF_EBPF_COMPLETE": "bash_complete"}
    done = subprocess.run([COMMAND], env=environment, capture_output=True, text=True, check=True)
    assert not done.stderr
    return [line for line in done.stdout.splitlines() if line]


def words_of(source: complete.Source, begun: str = "") -> list[str]:
    """Give the words that one source offers."""
    return [item.value for item in source(click.Context(main), PARAMETER, begun)]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("st", ["plain,status", "plain,stop-all"]),
        ("stop-all ", ["plain,on", "plain,off"]),
        ("up --dry", ["plain,--dry-run"]),
        ("explain --direction ", ["plain,in", "plain,out"]),
        ("explain --app /usr/b", ["file,/usr/b"]),
        ("accept /usr/b", ["file,/usr/b"]),
        ("up --cgroup /no-such-cgroup/", []),
    ],
)
def test_the_shell_is_offered_what_may_come_next(typed: str, expected: list[str]) -> None:
    """Commands, options and values complete by what the command line itself knows."""
    assert offered(typed) == expected


def test_names_of_things_are_offered_wherever_they_are_asked_for() -> None:
    """An option that names an instance, an adapter or a cgroup completes alike in every command."""
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        for parameter in command.params:
            source = WORDS.get(parameter.opts[0])
            assert source is None or parameter._custom_shell_complete is source, f"{name} {parameter.opts[0]}"


def test_an_instance_is_a_folder_of_an_instances_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What else lies in the run folder is no instance."""
    for name in ("web", "mail", "web-2", "No instance"):
        (tmp_path / name).mkdir()
    (tmp_path / ".web.lock").touch()
    monkeypatch.setattr(complete, "RUN", tmp_path)
    assert words_of(complete.instances) == ["mail", "web", "web-2"]
    assert words_of(complete.instances, "web") == ["web", "web-2"]


def test_the_loopback_device_is_not_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`up --adapter lo` would be refused."""
    for name in ("lo", "eth0", "wlan0"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(complete, "ADAPTERS", tmp_path)
    assert words_of(complete.adapters) == ["eth0", "wlan0"]


def test_cgroups_are_offered_level_by_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path below the mount grows by one folder at a time, and never leads out of the mount."""
    (tmp_path / "system.slice" / "web.service").mkdir(parents=True)
    (tmp_path / "user.slice").mkdir()
    (tmp_path / "cgroup.procs").touch()
    monkeypatch.setattr(complete, "cgroup_mount", lambda mounts: str(tmp_path))
    assert words_of(complete.cgroups) == ["/system.slice", "/user.slice"]
    assert words_of(complete.cgroups, "/s") == ["/system.slice"]
    assert words_of(complete.cgroups, "/system.slice/") == ["/system.slice/web.service"]
    assert words_of(complete.cgroups, "/../") == []


@pytest.mark.parametrize("source", WORDS.values())
@pytest.mark.parametrize("begun", ["", "/", "/\0", "x" * 5000, "/" + "x" * 5000 + "/", "//", "ü\udcff"])
def test_completing_never_fails(
    source: complete.Source, begun: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing there, or nothing that can be read, offers nothing; an error in the middle of a line helps nobody."""
    for place in ("RUN", "ADAPTERS"):
        monkeypatch.setattr(complete, place, tmp_path / "missing")
    monkeypatch.setattr(complete, "cgroup_mount", lambda mounts: str(tmp_path / "missing"))
    assert words_of(source, begun) == []
    monkeypatch.setattr(complete, "cgroup_mount", lambda mounts: None)
    assert words_of(source, begun) == []
