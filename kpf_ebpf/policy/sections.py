"""The plain sections of a policy: preferences, components, Trusted area, predefined and application rules, default."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from kpf_ebpf.policy import limits, words
from kpf_ebpf.policy.model import (
    PREDEFINED_DEFAULTS,
    AddressSet,
    ApplicationRule,
    Cells,
    Components,
    Default,
    Predefined,
    Preferences,
    Syslog,
    TrustedItem,
    ZoneCells,
)
from kpf_ebpf.policy.points import literal_set, proxy, resolver, server
from kpf_ebpf.policy.table import Table
from kpf_ebpf.policy.transport import port
from kpf_ebpf.policy.words import WordError, label

_LOOPBACK = "to cut loopback, too: it is always Trusted, 127.0.0.53 (the system's resolver) included"


def preferences(root: Table) -> Preferences:
    """Read [preferences] with [preferences.syslog]."""
    table = Table(root.report, ("preferences",), "preferences", root.take("preferences", lambda value: value, {}))
    usual = Preferences()
    read = Preferences(
        remote_administration=table.take("remote-administration", words.switch, usual.remote_administration),
        send_crash_dumps=table.take("send-crash-dumps", words.switch, usual.send_crash_dumps),
        popup_blocking=table.take("popup-blocking", words.switch, usual.popup_blocking),
        proxy=table.take("proxy", proxy, usual.proxy),
        crash_server=table.take("crash-server", server, usual.crash_server),
        registration_server=table.take("registration-server", server, usual.registration_server),
        registration_port=table.take("registration-port", port, usual.registration_port),
        administration_port=table.take("administration-port", port, usual.administration_port),
        popup_port=table.take("popup-port", port, usual.popup_port),
        resolvers=_resolvers(table),
        name_grace=table.take("name-grace", _grace, usual.name_grace),
        on_failure=table.take("on-failure", lambda value: words.one_of(value, ("closed", "open")), usual.on_failure),
        on_modified=table.take(
            "on-modified", lambda value: words.one_of(value, ("deny", "accept-system")), usual.on_modified
        ),
        log_internal=table.take("log-internal", words.switch, usual.log_internal),
        syslog=_syslog(table),
    )
    if read.popup_port == read.administration_port:
        key, other = "popup-port", "administration-port"
        if key not in table:
            key, other = other, key
        table.error(key, WordError(read.popup_port, f"a port other than {other}'s"))
    table.finish()
    return read


def _grace(value: Any) -> int:
    most = limits.MAX_NAME_GRACE
    if isinstance(value, str):
        raise WordError(value, f"a number of seconds, 0..{most}")
    return words.number(value, 0, most, f"a number of seconds, 0..{most}")


def _resolvers(table: Table) -> str | tuple[tuple[int, int], ...]:
    if table.raw("resolvers") == "system":
        return table.take("resolvers", lambda _: "system", "system")
    listed = table.words("resolvers", resolver, any_word=False)
    if listed and len(listed) > limits.MAX_RESOLVERS:
        table.error("resolvers", WordError(table.raw("resolvers"), f"at most {limits.MAX_RESOLVERS} resolvers"))
    return tuple(dict.fromkeys(listed)) if listed else "system"


def _syslog(preferences_table: Table) -> Syslog:
    table = preferences_table.table("syslog")
    usual = Syslog()
    read = Syslog(
        enabled=table.take("enabled", words.switch, usual.enabled),
        server=table.take("server", server, usual.server),
        port=table.take("port", port, usual.port),
    )
    table.finish()
    return read


def components(root: Table) -> Components:
    """Read [components]."""
    table = Table(root.report, ("components",), "components", root.take("components", lambda value: value, {}))
    paths: dict[str, str | None] = {}
    for key in ("engine", "gui", "assist"):
        path = table.take(key, words.program, None)
        same = next((other for other, known in paths.items() if path is not None and known == path), None)
        if same is not None:
            table.error(key, WordError(str(path), f"another file than that of {same}"))
        paths[key] = path
    table.finish()
    return Components(**paths)


def trusted(root: Table) -> tuple[TrustedItem, ...]:
    """Read every [[trusted]] entry that has no mistake."""
    items = []
    for index, value in root.entries("trusted", limits.MAX_TRUSTED):
        table = Table(root.report, ("trusted", index), _named("trusted", index, value, "description"), value)
        description = table.require("description", words.description, "a description")
        adapter = table.take("adapter", lambda word: None if word == "any" else words.adapter(word), None)
        if table.raw("address") == "all":
            addresses: AddressSet | None = table.take("address", lambda _: AddressSet(any=True, words=("all",)), None)
            if adapter is None and not ("adapter" in table and table.broken):
                table.error("address", WordError("all", 'a named adapter beside "all"'))
        else:
            addresses = table.require("address", _trusted_address, "an address, a network, a range or all")
        table.finish()
        if description is not None and addresses is not None:
            items.append(TrustedItem(description, addresses, table.where, adapter))
    return tuple(items)


def _trusted_address(value: Any) -> AddressSet:
    try:
        return literal_set(value, names=False)
    except WordError as error:
        if value == "any":
            raise WordError(value, error.expected + ', or "all" with an adapter', "all") from None
        raise


def predefined(root: Table) -> Predefined:
    """Read [predefined]; zones and rules left out keep their shipped cells."""
    table = Table(root.report, ("predefined",), "predefined", root.take("predefined", lambda value: value, {}))
    cells = {}
    for name, usual in PREDEFINED_DEFAULTS.items():
        inner = table.table(name)
        cells[name] = ZoneCells(
            trusted=inner.take("trusted", words.action, usual.trusted),
            internet=inner.take("internet", words.action, usual.internet),
        )
        inner.finish()
    enabled = table.take("enabled", words.switch, True)
    log = table.take("log", words.switch, False)
    table.finish()
    return Predefined(MappingProxyType(cells), enabled, log)


def applications(root: Table) -> tuple[ApplicationRule, ...]:
    """Read every [[application]] entry that has no mistake; of two for one path the first counts, with a warning."""
    rules: dict[str, ApplicationRule] = {}
    for index, value in root.entries("application", limits.MAX_APPLICATIONS):
        table = Table(root.report, ("application", index), _named("application", index, value, "path"), value)
        path = table.require("path", _application_path, "the absolute path of a program")
        cells = Cells(
            trusted_in=table.take("trusted-in", words.action, None),
            trusted_out=table.take("trusted-out", words.action, None),
            internet_in=table.take("internet-in", words.action, None),
            internet_out=table.take("internet-out", words.action, None),
        )
        log = table.take("log", words.switch, False)
        alert = table.take("alert", words.switch, False)
        table.finish()
        if path is None:
            continue
        if path in rules:
            first = rules[path].where.line
            table.warn("path", WordError(path, f"one entry for each application; that of line {first} counts"))
            continue
        rules[path] = ApplicationRule(path, table.where, cells, log, alert)
        if table.raw("trusted-out") == "deny":
            table.warn("trusted-out", WordError("deny", _LOOPBACK))
    return tuple(rules.values())


def _application_path(value: Any) -> str:
    if value == "any":
        raise WordError(value, "the absolute path of a program; [default] is for any other application")
    return words.application(value)


def default(root: Table) -> Default:
    """Read [default], the cells of any other application."""
    table = Table(root.report, ("default",), "default", root.take("default", lambda value: value, {}))
    usual = Default()
    read = Default(
        trusted_in=table.take("trusted-in", words.action, usual.trusted_in),
        trusted_out=table.take("trusted-out", words.action, usual.trusted_out),
        internet_in=table.take("internet-in", words.action, usual.internet_in),
        internet_out=table.take("internet-out", words.action, usual.internet_out),
        log=table.take("log", words.switch, usual.log),
    )
    table.finish()
    for key in ("trusted-in", "trusted-out"):
        if table.raw(key) == "deny":
            table.warn(key, WordError("deny", _LOOPBACK))
    return read


def _named(section: str, index: int, value: Any, key: str) -> str:
    """Return what a person would call an entry: by its name if it has a fit one, else by its number."""
    name = value.get(key) if isinstance(value, dict) else None
    if not isinstance(name, str) or not name:
        return f"{section} #{index + 1}"
    return f"{section} {label(name)}" if key == "path" else f'{section} "{label(name)}"'
