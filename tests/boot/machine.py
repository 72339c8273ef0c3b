"""The machine under test: its package, its service, and two programs, of which one is permitted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.tools import PATIENCE, eventually

COMMAND, SERVICE = "/usr/bin/kpf-ebpf", "kpf-ebpf.service"
PACKAGE, LATER = Path("/root/kpf-ebpf.deb"), Path("/root/later.deb")
POLICY = Path("/etc/kpf-ebpf/policy.toml")
KEPT = Path("/var/lib/vmtest")
"""What outlives a boot."""
PROGRAMS = Path("/usr/local/lib/vmtest")
PERMITTED, DENIED = PROGRAMS / "permitted", PROGRAMS / "denied"
TRAFFIC = PROGRAMS / "traffic.py"
HOST, PORT = "127.0.0.1", 7000

DENY = f"""
[default]
trusted-in = "deny"
trusted-out = "deny"
internet-in = "deny"
internet-out = "deny"
log = true

[[application]]
path = "{PERMITTED}"
trusted-in = "permit"
trusted-out = "permit"
internet-in = "permit"
internet-out = "permit"

[[packet-filter]]
description = "A name that nobody answers for"
remote = {{ address = "nobody.example" }}
action = "permit"
"""
BAD = 'packet-filter = "not at all"\n'
EARLY = """[Unit]
Description=Sends as soon as there may be a network
DefaultDependencies=no
Wants=network-pre.target
After=network-pre.target

[Service]
Type=oneshot
ExecStart={denied} -I {traffic} once {host} {port} {kept}/early

[Install]
WantedBy=sysinit.target
"""
ORDINARY = """[Unit]
Description=Sends as ordinary services do

[Service]
Type=oneshot
ExecStart={denied} -I {traffic} once 192.0.2.1 {port} {kept}/ordinary

[Install]
WantedBy=multi-user.target
"""


def make_programs() -> None:
    """Make the two programs, and the services that send at a boot."""
    PROGRAMS.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("traffic.py"), TRAFFIC)
    for program in (PERMITTED, DENIED):
        shutil.copy(os.path.realpath("/usr/bin/python3"), program)
    values = {"denied": DENIED, "traffic": TRAFFIC, "host": HOST, "port": PORT, "kept": KEPT}
    for name, text in (("vmtest-early", EARLY), ("vmtest-ordinary", ORDINARY)):
        Path(f"/etc/systemd/system/{name}.service").write_text(text.format(**values))
    run("systemctl", "daemon-reload")
    run("systemctl", "enable", "vmtest-early", "vmtest-ordinary")


def run(*command: str | Path, status: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run a command; it must end with this status (None: any)."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert status is None or done.returncode == status, f"{command}: {done.returncode}: {done.stdout}{done.stderr}"
    return done


def kpf(*words: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    return run(COMMAND, *words, status=status)


def look() -> dict[str, Any]:
    """Return what `status` says; it must be enforcing."""
    found: dict[str, Any] = json.loads(kpf("status", "--json").stdout)
    assert found["enforcing"] and found["canary"]["ok"], found
    return found


def shown(unit: str, *properties: str) -> dict[str, str]:
    """Return properties of a unit."""
    lines = run("systemctl", "show", unit, f"--property={','.join(properties)}").stdout.splitlines()
    return dict(line.split("=", 1) for line in lines)


def main_process() -> int:
    """Return the pid that systemd takes for the service's, 0: none."""
    return int(shown(SERVICE, "MainPID")["MainPID"])


def new_engine(before: int) -> int:
    """Return the pid of another Engine than this, once the service is active with it."""

    def there() -> int:
        state = shown(SERVICE, "ActiveState", "MainPID")
        return int(state["MainPID"]) if state["ActiveState"] == "active" else 0

    assert eventually(lambda: there() not in (0, before), 60), run("systemctl", "status", SERVICE, status=None).stdout
    return there()


def once(program: Path, address: str = HOST) -> str:
    """Return how one exchange of a program goes."""
    return run(program, "-I", TRAFFIC, "once", address, str(PORT)).stdout.strip()


@contextmanager
def started(program: Path, verb: str) -> Iterator[subprocess.Popen[str]]:
    """Have a program at work, and end it afterwards."""
    command = [program, "-I", TRAFFIC, verb, HOST, str(PORT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


@dataclass
class Tally:
    """What became of the exchanges of a program that is permitted, and of one that is not."""

    permitted: dict[str, int]
    denied: dict[str, int]

    def require_no_gap(self) -> None:
        """The permitted program never failed, the denied one never got through, and both tried."""
        assert set(self.permitted) == {"ok"} and set(self.denied) == {"EPERM"}, self


@contextmanager
def under_load() -> Iterator[Tally]:
    """Have both at work; how it went is in the tally afterwards."""
    tally = Tally({}, {})
    with started(PERMITTED, "listen"), started(PERMITTED, "often") as good, started(DENIED, "often") as bad:
        yield tally
        for process, found in ((good, tally.permitted), (bad, tally.denied)):
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=40 * PATIENCE)
            found.update(json.loads(said))


PASSING = (
    "/dev", "/lost+found", "/proc", "/root", "/run", "/sys", "/tmp", "/usr/lib/modules", "/var/cache/man",
    "/var/lib/dpkg", "/var/lib/systemd", "/var/lib/vmtest", "/var/log", "/var/tmp",
)  # fmt: skip
"""Folders that others write to while the machine runs."""


def files() -> set[str]:
    """Return all other files of the system."""
    found = set()
    for folder, folders, names in os.walk("/"):
        folders[:] = [one for one in folders if str(Path(folder, one)) not in PASSING and one != "__pycache__"]
        found |= {str(Path(folder, name)) for name in (*folders, *names)}
    return found
