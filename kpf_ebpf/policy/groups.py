"""[groups]: named sets of addresses, listed in the policy or read from files of a line each."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kpf_ebpf.policy import limits, words
from kpf_ebpf.policy.addresses import group_lines
from kpf_ebpf.policy.model import AddressSet, Group, Where
from kpf_ebpf.policy.points import literal_set, union
from kpf_ebpf.policy.table import Table
from kpf_ebpf.policy.words import WordError, label

ReadGroup = Callable[[Path], bytes]
"""Returns the bytes of a group file; raises OSError."""


def groups(root: Table, read_group: ReadGroup, base: Path) -> Mapping[str, Group]:
    """Read [groups]: the groups without a mistake by name.

    Files are found from ``base``, the policy file's folder, and read by ``read_group``.
    """
    value: Any = root.take("groups", lambda raw: raw, {})
    if not isinstance(value, dict):
        root.error("groups", WordError(value, "a table"))
        return MappingProxyType({})
    if len(value) > limits.MAX_GROUPS:
        root.error("groups", WordError(f"{len(value)} groups", f"at most {limits.MAX_GROUPS}"))
        return MappingProxyType({})
    done = {}
    bounded = _BoundedReader(read_group)
    for name, content in value.items():
        table = Table(root.report, ("groups",), f'group "{label(name)}"', value)
        group = _group(table, name, content, bounded.read, base)
        if group is not None:
            done[name] = group
    return MappingProxyType(done)


class _BoundedReader:
    """Reads group files until MAX_ALL_GROUP_BYTES are used up, then raises OSError."""

    def __init__(self, read_group: ReadGroup) -> None:
        self._read_group = read_group
        self._left = limits.MAX_ALL_GROUP_BYTES

    def read(self, path: Path) -> bytes:
        data = self._read_group(path)
        self._left -= len(data)
        if self._left < 0:
            reason = f"all group files together have more than {limits.MAX_ALL_GROUP_BYTES} bytes"
            raise OSError(errno.EFBIG, reason)
        return data


def _group(table: Table, name: str, content: Any, read_group: ReadGroup, base: Path) -> Group | None:
    try:
        words.group_name(name)
    except WordError as error:
        table.error(name, error)
        return None
    where = table.report.where(("groups", name))
    if isinstance(content, dict):
        source = Table(table.report, ("groups", name), table.rule, content)
        file = source.require("file", words.group_file, "the path of a file")
        source.finish()
        return _from_file(source, name, base / file, read_group) if file is not None else None
    addresses = _from_list(table, name, content)
    return Group(name, addresses, where) if addresses is not None else None


def _from_list(table: Table, name: str, content: Any) -> AddressSet | None:
    listed = content if isinstance(content, list) else [content]
    if not listed:
        table.warn(name, WordError(content, "at least one address; rules with this group match nothing"))
        return AddressSet()
    if len(listed) > limits.MAX_GROUP_WORDS:
        table.error(name, WordError(content, f"at most {limits.MAX_GROUP_WORDS} words; put them into a file"))
        return None
    parts = []
    for index, word in enumerate(listed):
        try:
            parts.append(literal_set(word, names=True))
        except WordError as error:
            table.error(name, error, index)
    return union(parts) if len(parts) == len(listed) else None


def _from_file(source: Table, name: str, path: Path, read_group: ReadGroup) -> Group | None:
    try:
        data = read_group(path)
    except OSError as error:
        source.error("file", WordError(str(path), f"a readable file ({error.strerror or 'it cannot be read'})"))
        return None
    if len(data) > limits.MAX_GROUP_BYTES:
        source.error("file", WordError(str(path), f"a file of at most {limits.MAX_GROUP_BYTES} bytes"))
        return None
    ranges, bad, bad_count = group_lines(data)
    for item in bad:
        source.report.error(Where(str(path), item.line), source.rule, "", item.error)
    if bad_count > len(bad):
        rest = WordError(f"and {bad_count - len(bad)} more", "one address, network or range a line")
        source.report.error(Where(str(path), bad[-1].line), source.rule, "", rest)
    if bad:
        return None
    if not ranges:
        source.warn("file", WordError(str(path), "at least one address in it; rules with this group match nothing"))
    return Group(name, AddressSet(ranges=ranges), source.where, str(path))
