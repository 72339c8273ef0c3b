"""A firewall whose Engine, GUI and Assist are programs of the test, with everything else denied."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from .bench import DENY_ALL, SERVER, Bench
from .tools import eventually
from .zone import name_server

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


def firewall(bench: Bench, *, resolved: bool = False, **settings: Any) -> dict[str, str]:
    """Enforce such a policy and return the programs: engine, gui, assist and other.

    ``resolved``: servers are given by names, which at first mean another address and change while it is enforced.
    """
    if resolved:
        _by_names(bench, settings)
    else:
        bench.up(policy=policy(bench, **settings))
    return {name: bench.program(name) for name in ("engine", "gui", "assist", "other")}


def _by_names(bench: Bench, settings: dict[str, Any]) -> None:
    """Enforce the policy with a name for each server; return when the Engine goes by the addresses meant."""
    meant: dict[str, tuple[str, ...]] = {}
    for key, name in (("crash_server", "crashes.kerio.com"), ("registration_server", "secure.kerio.com")):
        if key in settings:
            meant[name] = (settings[key],)
            settings[key] = name
    if settings.get("syslog"):
        meant["logs.example"] = (settings["syslog"][0],)
        settings["syslog"] = ("logs.example", settings["syslog"][1])
    proxy = urlsplit(settings.get("proxy", ""))
    if proxy.hostname and proxy.port:
        meant["proxy.example"] = (proxy.hostname,)
        settings["proxy"] = f"http://proxy.example:{proxy.port}"
    zone = bench.closing.enter_context(name_server(bench, dict.fromkeys(meant, ("192.0.2.200",))))
    bench.up(policy=policy(bench, **{"resolvers": [SERVER], **settings}))
    assert eventually(lambda: _addresses(bench, meant) == dict.fromkeys(meant, ("192.0.2.200",)))
    zone.answer(meant)
    assert eventually(lambda: _addresses(bench, meant) == meant)


def _addresses(bench: Bench, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    return {one["name"]: tuple(one["addresses"]) for one in bench.status()["names"] if one["name"] in set(names)}


def password(bench: Bench) -> None:
    """Set the administration password of the bench's instance."""
    done = bench.kpf("password", "--stdin", text=PASSWORD + "\n")
    assert done.returncode == 0, done.stdout + done.stderr
