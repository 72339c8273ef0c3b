"""The edge of this package: reads a policy file and its group files from disk."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from kpf_ebpf.policy import limits
from kpf_ebpf.policy.errors import Finding, PolicyError
from kpf_ebpf.policy.model import Policy, Where
from kpf_ebpf.policy.parse import parse


def load(path: Path) -> tuple[Policy, tuple[Finding, ...]]:
    """Return the Policy in the file at ``path``, and warnings; group files are found from its folder.

    Raises PolicyError with every mistake; a file that is missing, unreadable or not a regular file is one.
    """
    return parse(read_policy(path), str(path), lambda group: read_bounded(group, limits.MAX_GROUP_BYTES), path.parent)


def read_policy(path: Path) -> bytes:
    """Return the bytes of a policy file. Raises PolicyError if it cannot be read."""
    try:
        return read_bounded(path, limits.MAX_POLICY_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        finding = Finding(Where(str(path)), rule="", key="", word="", expected=f"a readable file ({reason})")
        raise PolicyError((finding,)) from error


def read_bounded(path: Path, most: int) -> bytes:
    """Return the content of a regular file, at most ``most`` + 1 bytes of it, so that a longer one can be told.

    Raises OSError; never waits for the other end of a pipe.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return stream.read(most + 1)
