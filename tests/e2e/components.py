"""A firewall whose Engine, GUI and Assist are programs of the test, with everything else denied."""

from __future__ import annotations

import json
from typing import Any

from .bench import DENY_ALL, Bench

PASSWORD = "correct horse battery staple"


def policy(bench: Bench, *, syslog: tuple[str, int] | None = None, rest: str = DENY_ALL, **preferences: Any) -> str:
    """Return a policy with these preferences (``_`` stands for ``-``); without a proxy unless one is given."""
    lines = {"proxy": "none", "resolvers": ["192.0.2.53"], **preferences}
    text = "[preferences]\n" + "".join(f"{key.replace('_', '-')} = {json.dumps(lines[key])}\n" for key in lines)
    if syslog is not None:
        text += f'[preferences.syslog]\nenabled = true\nserver = "{syslog[0]}"\nport = {syslog[1]}\n'
    text += "[components]\n"
    for component in ("engine", "gui", "assist"):
        text += f'{component} = "{bench.program(component)}"\n'
    return text + rest


def firewall(bench: Bench, **settings: Any) -> dict[str, str]:
    """Enforce such a policy and return the programs: engine, gui, assist and other."""
    bench.up(policy=policy(bench, **settings))
    return {name: bench.program(name) for name in ("engine", "gui", "assist", "other")}


def password(bench: Bench) -> None:
    """Set the administration password of the bench's instance."""
    done = bench.kpf("password", "--stdin", text=PASSWORD + "\n")
    assert done.returncode == 0, done.stdout + done.stderr
