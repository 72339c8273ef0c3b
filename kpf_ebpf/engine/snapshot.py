"""A policy as it was read: its text is kept, so that what changes in a file later changes nothing before a reload."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from kpf_ebpf.policy import limits
from kpf_ebpf.policy.errors import Finding
from kpf_ebpf.policy.load import read_bounded, read_policy
from kpf_ebpf.policy.model import Policy
from kpf_ebpf.policy.parse import parse

POLICY = Path("/etc/kpf-ebpf/policy.toml")
OBSERVE = Path(__file__).resolve().parent.parent / "policy" / "observe.toml"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The texts of a policy file and of its group files (by path), undecodable bytes escaped.

    ``note``: what a person must know of how these came to count, shown as a warning as long as they do.
    """

    file: str
    text: str
    groups: dict[str, str]
    note: str = ""


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """A policy, the warnings about it, and the texts that it was read from."""

    snapshot: Snapshot
    policy: Policy
    findings: tuple[Finding, ...]


def policy_path(chosen: Path | None) -> Path:
    """The policy that ``up`` takes: the one named, else the machine's, else the shipped observe policy."""
    if chosen is not None:
        return chosen.absolute()
    return POLICY if POLICY.exists() else OBSERVE


def read_files(path: Path) -> ReadPolicy:
    """Reads a policy from its files. Raises PolicyError with every mistake."""
    return _read(read_policy(path), path)


def read_again(snapshot: Snapshot) -> ReadPolicy:
    """The same policy from its texts. Raises PolicyError, which only another version of the language can cause."""
    policy, findings = parse(
        _bytes(snapshot.text),
        snapshot.file,
        lambda group: _bytes(snapshot.groups[str(group)]),
        Path(snapshot.file).parent,
    )
    return ReadPolicy(snapshot, policy, findings)


def warnings(read: ReadPolicy) -> tuple[str, ...]:
    """What is to be told of a policy, apart from what it says: the note first."""
    note = (f"{read.snapshot.file}: {read.snapshot.note}",) if read.snapshot.note else ()
    return (*note, *map(str, read.findings))


def groups_differ(snapshot: Snapshot) -> bool:
    """Whether a group file says something else by now, or cannot be read."""
    try:
        return any(
            _text(read_bounded(Path(path), limits.MAX_GROUP_BYTES)) != text for path, text in snapshot.groups.items()
        )
    except OSError:
        return True


def read_groups_again(snapshot: Snapshot) -> ReadPolicy:
    """The same policy with its group files as they are now. Raises PolicyError with every mistake in them."""
    read = _read(_bytes(snapshot.text), Path(snapshot.file))
    return replace(read, snapshot=replace(read.snapshot, note=snapshot.note))


def _read(data: bytes, path: Path) -> ReadPolicy:
    """A policy of this text, with its group files from the disk."""
    groups: dict[str, str] = {}

    def read_group(group: Path) -> bytes:
        content = read_bounded(group, limits.MAX_GROUP_BYTES)
        groups[str(group)] = _text(content)
        return content

    policy, findings = parse(data, str(path), read_group, path.parent)
    return ReadPolicy(Snapshot(str(path), _text(data), groups), policy, findings)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
