"""What is refused: bad policies (exit status 2) and machines that cannot do it (1); one line each, nothing changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .bench import COMMAND, DENY_ALL, SERVER, Bench
from .tools import cgroup_mount

RULE = '[[packet-filter]]\ndescription = "One"\naction = "deny"\n'
BTF = Path("/sys/kernel/btf/vmlinux")


@pytest.mark.parametrize(
    ("policy", "line", "words"),
    [
        (f"{RULE}protocol = 'tcp'\nremote = {{ port = 70000 }}\n", 5, ("70000", "port")),
        (f"{RULE}local = {{ address = '192.0.2.1' }}\nremote = {{ address = '2001:db8::1' }}\n", 5, ("2001:db8::1",)),
        (f"{RULE}{RULE}", 5, ("One",)),
        (f"{RULE}protocl = 'tcp'\n", 4, ("protocl", "protocol")),
        ("[prefrences]\n", 1, ("prefrences", "preferences")),
    ],
)
def test_each_mistake_has_a_line_of_its_own(bench: Bench, policy: str, line: int, words: tuple[str, ...]) -> None:
    """A port of 70000, an address of the wrong family, a duplicate name, an unknown key: file, line, word; status 2."""
    done = bench.try_up(policy)
    assert done.returncode == 2, done
    told = [text for text in done.stderr.splitlines() if text.startswith(f"{bench.policy}:{line}:")]
    assert told and all(word in told[0] for word in words), done.stderr
    assert "nothing was changed" in done.stderr
    assert bench.kpf("status").returncode == 1


def test_a_bad_line_of_a_group_file_is_told_by_its_number(bench: Bench) -> None:
    """Line 7,000 of a block list: the group file's name, that line, that word."""
    blocked = bench.folder / "blocked.txt"
    lines = [f"10.{number // 256 % 256}.{number % 256}.0/24" for number in range(7500)]
    lines[6999] = "10.0.0.256"
    blocked.write_text("\n".join(lines))
    done = bench.try_up('[groups]\nblocked = { file = "blocked.txt" }\n')
    assert done.returncode == 2, done
    told = [text for text in done.stderr.splitlines() if text.startswith(f"{blocked}:7000:")]
    assert len(told) == 1 and "10.0.0.256" in told[0], done.stderr


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Assert one line on standard error with these words, exit status 1."""
    assert done.returncode == 1, done
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    assert all(word in lines[0] for word in words), lines
    assert not done.stdout


@pytest.mark.parametrize(
    "command", ["up", "down", "reload", "status", "rules", "log", "stop-all on", "password --clear"]
)
def test_without_root_one_line_says_so(command: str) -> None:
    """Commands that need root say so, touch nothing, and are exit status 1."""
    name = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run(
        [*name, str(COMMAND), *command.split(), "--instance", "t-nobody"], capture_output=True, text=True, check=False
    )
    refused(done, "root", "sudo")


def test_a_kernel_without_btf_is_refused(bench: Bench, tmp_path: Path) -> None:
    """No type information: the remedy is named, and nothing is left behind."""
    empty = tmp_path / "none"
    empty.mkdir()
    refused(bench.try_up(DENY_ALL, binds={str(BTF.parent): empty}), "BTF", "CONFIG_DEBUG_INFO_BTF")
    assert not Path("/run/kpf-ebpf", bench.instance).exists()
    assert not Path("/sys/fs/bpf/kpf-ebpf", bench.instance).exists()


def test_a_machine_without_cgroup_v2_is_refused(bench: Bench) -> None:
    """No cgroup v2 in sight: the remedy is the mount command."""
    command = bench.command("up", "--policy", str(bench.write_policy(DENY_ALL)), "--cgroup", bench.cgroup_name)
    hidden = [*command[:2], "unshare", "--mount", "sh", "-c", f'umount -l {cgroup_mount()} && exec "$@"', "sh"]
    done = subprocess.run([*hidden, *command[2:]], capture_output=True, text=True, check=False)
    refused(done, "cgroup", "mount -t cgroup2")


def test_a_machine_without_bcc_is_refused(bench: Bench, tmp_path: Path) -> None:
    """BCC is missing: the package is named."""
    empty = tmp_path / "none"
    empty.mkdir()
    refused(bench.try_up(DENY_ALL, binds={"/usr/lib/python3/dist-packages/bcc": empty}), "BCC", "python3-bpfcc")


def test_a_bcc_before_0_25_is_refused(bench: Bench, tmp_path: Path) -> None:
    """BCC 0.24 does not know attach types for load_func."""
    old = tmp_path / "bcc"
    old.mkdir()
    (old / "__init__.py").touch()
    (old / "version.py").write_text("__version__ = '0.24.0'\n")
    refused(bench.try_up(DENY_ALL, binds={"/usr/lib/python3/dist-packages/bcc": old}), "0.24.0", "0.25")


def test_lockdown_confidentiality_is_refused(bench: Bench, tmp_path: Path) -> None:
    """It forbids reading what a process executes: without identity there is no firewall."""
    security = tmp_path / "security"
    security.mkdir()
    (security / "lockdown").write_text("none integrity [confidentiality]\n")
    refused(bench.try_up(DENY_ALL, binds={"/sys/kernel/security": security}), "lockdown", "confidentiality")
    (security / "lockdown").write_text("none [integrity] confidentiality\n")
    assert bench.try_up(DENY_ALL, binds={"/sys/kernel/security": security}).returncode == 0


@pytest.mark.parametrize("cgroup", ["/no/such/cgroup", "/../../etc"])
def test_a_cgroup_that_is_not_there_is_refused(bench: Bench, cgroup: str) -> None:
    """--cgroup: a path below the mount, and nothing else."""
    bench.write_policy(DENY_ALL)
    refused(bench.kpf("up", "--policy", str(bench.policy), "--cgroup", cgroup), "cgroup")


def test_reload_and_rules_without_a_firewall_say_so(bench: Bench) -> None:
    """Nothing is enforced: one line, and what to do."""
    for command in (["reload"], ["rules"], ["stop-all", "on"]):
        refused(bench.kpf(*command), "kpf-ebpf up")


def test_a_short_password_is_refused(bench: Bench) -> None:
    """password: eight characters at least; nothing is stored."""
    refused(bench.kpf("password", "--stdin", text="short\n"), "password", "8")
    assert not Path("/var/lib/kpf-ebpf", bench.instance, "password").exists()


def test_the_password_is_a_slow_hash_of_roots_alone(bench: Bench) -> None:
    """password: salted, not the words themselves, mode 0600; --clear removes it."""
    for _ in range(2):
        assert bench.kpf("password", "--stdin", text="correct horse\n").returncode == 0
    stored = Path("/var/lib/kpf-ebpf", bench.instance, "password")
    assert stored.stat().st_mode & 0o777 == 0o600 and "correct" not in stored.read_text()
    assert bench.kpf("password", "--clear").returncode == 0
    assert not stored.exists()


def test_an_unreachable_server_is_no_reason_to_refuse(bench: Bench) -> None:
    """A permitted program's own failures stay its own: no route, no listener."""
    path = bench.program("good")
    bench.up(policy=f'{DENY_ALL}[[application]]\npath = "{path}"\ninternet-out = "permit"\n')
    assert bench.run(path, "tcp-connect", SERVER, 7999).errno == "ECONNREFUSED"
    assert bench.run(path, "tcp-connect", "198.51.100.1", 80).errno == "ENETUNREACH"
