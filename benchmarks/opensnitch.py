"""OpenSnitch as Debian has it, run out of its unpacked package in a network namespace: it is never installed.

Its daemon is asked about each new connection (NFQUEUE). Its iptables mode it is, with iptables-legacy, since its
nftables mode filters nothing on a kernel without NFT_QUEUE, and does not say so.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.e2e.tools import eventually

UNPACKED = Path(__file__).parents[1] / "build/opensnitch"
RULES = 10
"""As its user would have after some days."""
START = 20
"""Seconds that it has to deny for the first time."""


class Unable(Exception):
    """It cannot be measured; why."""


def _rule(name: str, action: str, address: str) -> dict[str, Any]:
    operator = {"type": "simple", "operand": "dest.ip", "sensitive": False, "data": address, "list": []}
    begin = "2024-01-01T00:00:00Z"
    return {"created": begin, "updated": begin, "name": name, "enabled": True, "precedence": False,
            "action": action, "duration": "always", "operator": operator}  # fmt: skip


def _configured(folder: Path, forbidden: str) -> None:
    """The /etc that it sees: what is denied is denied by the last of its rules, anything else permitted by default."""
    own = folder / "etc/opensnitchd"
    shutil.copytree(UNPACKED / "etc/opensnitchd", own)
    (own / "rules").mkdir(exist_ok=True)
    config = json.loads((own / "default-config.json").read_text())
    config |= {"DefaultAction": "allow", "ProcMonitorMethod": "proc", "Firewall": "iptables"}
    config["Server"]["Address"] = f"unix://{folder}/nobody.sock"
    (own / "default-config.json").write_text(json.dumps(config))
    rules = [_rule(f"{number}-other", "allow", f"10.100.0.{number}") for number in range(RULES - 1)]
    for rule in (*rules, _rule("deny", "deny", forbidden)):
        (own / f"rules/{rule['name']}.json").write_text(json.dumps(rule))
    (folder / "bin").mkdir()
    for name in ("iptables", "ip6tables"):
        legacy = shutil.which(f"{name}-legacy", path="/usr/sbin:/sbin")
        if legacy is None:
            raise Unable(f"{name}-legacy is not installed")
        (folder / "bin" / name).symlink_to(legacy)


@contextlib.contextmanager
def opensnitch(folder: Path, inside: list[str], forbidden: str, denies: Callable[[], bool]) -> Iterator[int]:
    """Its daemon's number, in the namespace that ``inside`` enters, as soon as it denies. Raises Unable."""
    program = UNPACKED / "usr/bin/opensnitchd"
    if not program.exists():
        raise Unable("its package is not unpacked, which make bench does")
    _configured(folder, forbidden)
    own = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc && exec "$@"', str(folder / "etc"), str(program)]
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [*inside, *own, "-rules-path", "/etc/opensnitchd/rules", "-process-monitor-method", "proc"],
            env={"PATH": f"{folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        good = eventually(lambda: daemon.poll() is not None or denies(), START)
        if not good or daemon.poll() is not None:
            last = (folder / "log").read_text(errors="replace").strip().splitlines()[-1:]
            raise Unable(f"it {'ended' if daemon.poll() is not None else 'denies nothing'}: {''.join(last)}")
        yield daemon.pid
    finally:
        daemon.kill()
        daemon.wait()
