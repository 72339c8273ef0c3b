"""The administration password: a salted slow hash (scrypt, RFC 7914) in the state folder, root's alone."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.folders import Instance, make_folder, write_file

SHORTEST, LONGEST = 8, 1024
"""Characters of a password."""
_N, _R, _P, _LENGTH = 2**14, 8, 1, 32


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P, dklen=_LENGTH)


def is_set(instance: Instance) -> bool:
    """Whether the instance has a password."""
    return (instance.state / "password").is_file()


def store(instance: Instance, password: str) -> None:
    """Makes this the password. Raises EngineError for one that is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise EngineError(
            f"the password has {len(password)} characters, expected {SHORTEST} to {LONGEST}; nothing was changed"
        )
    make_folder(instance.state)
    salt = secrets.token_bytes(16)
    write_file(instance.state / "password", f"scrypt {salt.hex()} {_hash(password, salt).hex()}\n")


def clear(instance: Instance) -> None:
    """Removes the password; none is set: nothing happens."""
    (instance.state / "password").unlink(missing_ok=True)


def matches(instance: Instance, password: str) -> bool:
    """Whether this is the password."""
    try:
        kind, salt, stored = (instance.state / "password").read_text().split()
    except (OSError, ValueError):
        return False
    return kind == "scrypt" and hmac.compare_digest(_hash(password, bytes.fromhex(salt)), bytes.fromhex(stored))
