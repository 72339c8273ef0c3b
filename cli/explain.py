"""kpf-ebpf explain: which rule decides a flow, and why."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from kpf_ebpf.cli import complete, show
from kpf_ebpf.cli.options import instance_option, json_option, show_json, told
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.question import Asked, answer
from kpf_ebpf.evaluate.explain import Explanation
from kpf_ebpf.policy.addresses import address
from kpf_ebpf.policy.transport import ICMP_TYPES, PROTOCOLS

_POINT = re.compile(r"\[(?P<six>[^\]]+)\](?::(?P<port6>\d+))?|(?P<four>[^:]+)(?::(?P<port4>\d+))?")


class Point(click.ParamType):
    """``192.0.2.1:80``, ``[2001:db8::1]:80``, or an address alone."""

    name = "ADDR:PORT"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """Gives (address in the 128-bit space, port or None)."""
        if isinstance(value, tuple):
            return value
        found = _POINT.fullmatch(value)
        text = (found["six"] or found["four"]) if found else value
        port = (found["port6"] or found["port4"]) if found else None
        number = address(text)
        if number is None or (port is not None and not 0 < int(port) < 65536):
            self.fail(f"{value!r}: expected an address, or ADDRESS:PORT, or [IPV6]:PORT", parameter, context)
        return number, None if port is None else int(port)


class Protocol(click.ParamType):
    """A protocol by name or number."""

    name = "protocol"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """Gives the protocol's number."""
        if isinstance(value, int):
            return value
        number = PROTOCOLS.get(value.lower(), int(value) if value.isdigit() else -1)
        if not 0 <= number < 256:
            self.fail(f"{value!r}: expected one of {', '.join(PROTOCOLS)}, or a number to 255", parameter, context)
        return number


@click.command()
@click.option("--app", required=True, metavar="PATH", shell_complete=complete.files, help="The program.")
@click.option("--direction", required=True, type=click.Choice(["in", "out"]), help="Who initiates.")
@click.option("--protocol", required=True, type=Protocol(), help="tcp, udp, icmp, … or a number.")
@click.option("--remote", required=True, type=Point(), help="The other end.")
@click.option("--local", type=Point(), help="This end.")
@click.option("--user", metavar="U", help="A user's name or number (default: root).")
@click.option("--cgroup", metavar="C", shell_complete=complete.cgroups, help="A cgroup's path below the mount.")
@click.option(
    "--adapter",
    metavar="IF",
    shell_complete=complete.adapters,
    help="The adapter (default: the loopback device for addresses of this host).",
)
@click.option("--icmp-type", metavar="T", help="A type by name or number (default: echo-request).")
@click.option("--policy", type=click.Path(path_type=Path), help="Ask this file instead of what is enforced.")
@json_option
@instance_option
@told
def explain(
    app: str,
    direction: str,
    protocol: int,
    remote: tuple[int, int | None],
    local: tuple[int, int | None] | None,
    user: str | None,
    cgroup: str | None,
    adapter: str | None,
    icmp_type: str | None,
    policy: Path | None,
    as_json: bool,
    instance: Instance,
) -> None:
    """Show which rule decides a flow, and why the earlier ones do not match. Exit status 0 for either verdict."""
    asked = Asked(
        application=app,
        direction=direction,
        protocol=protocol,
        remote=remote,
        local=local,
        user=user,
        cgroup=cgroup,
        adapter=adapter,
        icmp_type=_icmp_type(icmp_type, protocol),
    )
    found = answer(asked, policy, instance)
    if as_json:
        show_json(_document(found))
        return
    rule = found.rule
    show.table(
        ("verdict", "rule", "origin", "description"), [(rule.action.value, rule.id, rule.origin, rule.description)]
    )
    if found.passed:
        show.line("")
        show.table(("earlier rule", "does not match"), ((one.rule.id, one.reason) for one in found.passed))


def _icmp_type(word: str | None, protocol: int) -> int | None:
    if word is None:
        return None
    if word.isdigit() and int(word) < 256:
        return int(word)
    names = ICMP_TYPES.get(protocol, {})
    if word in names:
        return names[word]
    raise click.BadParameter(
        f"{word!r}: expected one of {', '.join(names)}, or a number to 255", param_hint="--icmp-type"
    )


def _document(found: Explanation) -> dict[str, Any]:
    return {
        "action": found.rule.action.value,
        "rule": found.rule.description,
        "origin": found.rule.origin,
        "id": found.rule.id,
        "earlier": [{"id": one.rule.id, "rule": one.rule.description, "reason": one.reason} for one in found.passed],
    }
