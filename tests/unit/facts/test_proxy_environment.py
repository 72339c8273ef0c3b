"""Proxies in environment variables: of a process, of every login, of every service."""

from __future__ import annotations

import time

import pytest

from kpf_ebpf.facts.model import ProxyFact
from kpf_ebpf.facts.proxy_address import MAX_LINE, PAC, Setting
from kpf_ebpf.facts.proxy_environment import (
    PROXY_VARIABLES,
    environment_setting,
    manager_setting,
    parse_block,
    parse_environment,
    parse_manager,
    parse_profile,
    process_setting,
    profile_setting,
)
from tests.unit.facts.test_proxy import a_world


def host(setting: Setting | None) -> str | None:
    """Give the host of a place's answer."""
    return setting.fact.host if setting else None


def test_the_variables_are_asked_in_order() -> None:
    """https before http before all, lower case first; a script only where no proxy is named."""
    order = PROXY_VARIABLES[:6]
    assert order == ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
    environ = {name: f"http://p{index}:80" for index, name in enumerate(order)} | {"auto_proxy": "http://x/"}
    for index, name in enumerate(order):
        assert host(process_setting(a_world({}, dict(reversed(environ.items()))))) == f"p{index}"
        del environ[name]
    setting = process_setting(a_world({}, environ))
    assert setting is not None
    assert setting.fact == ProxyFact(source="auto_proxy in the environment", problem=PAC)


def test_exceptions_are_those_of_the_same_place() -> None:
    """no_proxy in one place says nothing of a proxy that another place names."""
    files = {"/etc/environment": "https_proxy=http://p:1\nno_proxy=a.example\nNO_PROXY=b.example"}
    setting = environment_setting(a_world(files, {"no_proxy": "*"}))
    assert setting is not None
    assert setting.exceptions == (("no_proxy", "a.example"), ("NO_PROXY", "b.example"))


def test_the_environment_file_is_parsed() -> None:
    """Quotes, export and comments, as PAM reads them."""
    text = "# comment\nexport a=\"x y\"\nb='z' \nc=plain # tail\nnonsense\n d = no\n1e=2\ne="
    assert parse_environment(text) == {"a": "x y", "b": "z", "c": "plain", "e": ""}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("X=v", "v"),
        ("export X=v", "v"),
        ("export  X='a b$c'", "a b$c"),
        ('X="http://p:1/"  # why', "http://p:1/"),
        ("X=v; export X", "v"),
        ("X=v;", "v"),
        ("export A=1 X=v B='2'", "v"),
        ("X=http://[2001:db8::1]:3128\r", "http://[2001:db8::1]:3128"),
        ("X=a#b", "a#b"),
        ("X=", ""),
    ],
)
def test_plain_assignments_of_a_script_are_understood(line: str, value: str) -> None:
    """Literal text, exported or not."""
    assert parse_profile(f"#!/bin/sh\n{line}\n")["X"] == value


@pytest.mark.parametrize(
    "line",
    [
        "  export X=v",
        "X=$HOME",
        'X="$(curl evil)"',
        'export X="`id`"',
        "X=a\\b",
        "X=v command",
        "X=v && true",
        "X=v; export X; rm -rf /",
        "if true; then X=v; fi",
        "export X",
        "readonly X=v",
        "X=~/v",
        "# X=v",
        "X='open",
        "X=" + "v" * MAX_LINE,
    ],
)
def test_everything_else_in_a_script_is_skipped(line: str) -> None:
    """It would have to be run to know what it does, and it is never run."""
    assert "X" not in parse_profile(line)


def test_the_last_script_of_the_folder_wins() -> None:
    """By name, as sh sources *.sh; other names are not scripts of a login."""
    files = {
        "/etc/profile.d/a.sh": "https_proxy=http://a:1\nno_proxy=a.example",
        "/etc/profile.d/b.sh": "https_proxy=http://b:1",
        "/etc/profile.d/c.csh": "https_proxy=http://c:1",
        "/etc/profile.d/d.sh/x": "https_proxy=http://d:1",
    }
    setting = profile_setting(a_world(files))
    assert setting is not None
    assert setting.fact == ProxyFact("b", 1, "https_proxy in /etc/profile.d/b.sh")
    assert setting.exceptions == (("no_proxy", "a.example"),)


def test_systemds_words_are_parsed() -> None:
    """Section, quotes, continued lines, comments within, %% for %, and the empty value that forgets what was before."""
    text = (
        "DefaultEnvironment=a=0\n[Manager]\n# DefaultEnvironment=b=0\nManagerEnvironment=c=0\n"
        'DefaultEnvironment = "d=x y" e=z \\\n; no\n  \'f=%%40\'\nDefaultEnvironment=\nDefaultEnvironment=g=1 open"\n'
        "[Other]\nDefaultEnvironment=h=0"
    )
    assert parse_manager(text) == ["d=x y", "e=z", "f=%40", None]


def test_systemds_files_are_read_in_its_order() -> None:
    """One main file, then drop-ins by name, of two with one name that in /etc; the last assignment wins."""
    line = "[Manager]\nDefaultEnvironment=https_proxy=http://{}:1"
    files = {
        "/usr/lib/systemd/system.conf": line.format("vendor"),
        "/etc/systemd/system.conf": line.format("main"),
        "/usr/lib/systemd/system.conf.d/90-x.conf": line.format("masked"),
        "/run/systemd/system.conf.d/90-x.conf": line.format("run"),
        "/etc/systemd/system.conf.d/10-y.conf": line.format("ten"),
        "/etc/systemd/system.conf.d/99-z.txt": line.format("text"),
    }
    assert host(manager_setting(a_world(files))) == "run"
    files["/etc/systemd/system.conf.d/90-x.conf"] = ""
    assert host(manager_setting(a_world(files))) == "ten"
    del files["/etc/systemd/system.conf.d/10-y.conf"]
    assert host(manager_setting(a_world(files))) == "main"
    del files["/etc/systemd/system.conf"]
    assert host(manager_setting(a_world(files))) == "vendor"


def test_a_later_drop_in_can_forget_what_was_before() -> None:
    """An empty DefaultEnvironment= empties the list."""
    files = {
        "/etc/systemd/system.conf": "[Manager]\nDefaultEnvironment=https_proxy=http://p:1",
        "/etc/systemd/system.conf.d/z.conf": "[Manager]\nDefaultEnvironment=",
    }
    assert manager_setting(a_world(files)) is None


def test_the_kernel_command_line_wins_over_systemds_files() -> None:
    """systemd.setenv=, and nothing else on that line: bare NAME=value is PID 1's own."""
    files = {
        "/etc/systemd/system.conf": "[Manager]\nDefaultEnvironment=https_proxy=http://p:1",
        "/proc/cmdline": "root=/dev/vda https_proxy=http://no:1 systemd.setenv=https_proxy=http://kernel:1\n",
    }
    assert host(manager_setting(a_world(files))) == "kernel"


def test_a_process_environment_is_parsed() -> None:
    """NUL-separated, as proc(5) has it; what is no assignment is skipped."""
    assert parse_block(b"a=1\0b=x=y\0nonsense\0c=\xff\0") == {"a": "1", "b": "x=y", "c": "\ufffd"}


@pytest.mark.parametrize(
    "line",
    [
        "X=1;export A" + " " * MAX_LINE,
        "X=1" + " " * (MAX_LINE - 9) + "!",
        "X=1;export A" + " A" * (MAX_LINE // 2 - 9) + " !",
        "export X=1" + " X=1" * (MAX_LINE // 4 - 9) + " !",
        "X='" * (MAX_LINE // 3),
    ],
)
def test_no_line_takes_long(line: str) -> None:
    """Expressions that step back and forth over one line would make a hostile file expensive."""
    start = time.process_time()
    parse_profile("\n".join([line] * 20))
    assert time.process_time() - start < 1
