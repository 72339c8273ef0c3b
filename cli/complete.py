"""What the shell offers at TAB. It only looks, needs no root, and offers nothing where it may not look."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from kpf_ebpf.engine.folders import NAME, RUN
from kpf_ebpf.facts.system import cgroup_mount, read_text

ADAPTERS = Path("/sys/class/net")

Source = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
"""What gives an option's words: called with what is typed of the word."""


def instances(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The instances that have a run folder."""
    return _items((name for name in _folders(RUN) if NAME.fullmatch(name)), begun)


def adapters(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The network adapters of this network namespace, but for the loopback device."""
    return _items((name for name in _folders(ADAPTERS) if name != "lo"), begun)


def cgroups(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The cgroups one level below what was typed, as paths below the mount."""
    mount = cgroup_mount(read_text("/proc/self/mounts") or "")
    above = begun.rpartition("/")[0]
    if mount is None or ".." in above.split("/"):
        return []
    return _items((f"{above}/{name}" for name in _folders(Path(mount, above.lstrip("/")))), begun or "/")


def files(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Leaves it to the shell, which knows files best."""
    return [CompletionItem(begun, type="file")]


def _folders(place: Path) -> list[str]:
    try:
        with os.scandir(place) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except (OSError, ValueError):  # not ours to read, not there, or no path at all
        return []


def _items(names: Iterable[str], begun: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(begun)]
