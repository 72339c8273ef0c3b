"""Program files: what stands at the paths and wildcards of a policy, with key, digest and problem."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from kpf_ebpf.facts.model import FileFact, FileKey
from kpf_ebpf.facts.steady import IN_MEMORY, Unsteady, held, is_in_memory
from kpf_ebpf.facts.wildcards import Trusts, expand, in_roots_folders, is_roots, is_wildcard

CHUNK_BYTES = 1 << 20
"""Bytes read at a time while hashing."""
MAX_PROGRAM_BYTES = 4 << 30
"""A larger file is not hashed: a sparse file of any size costs its owner nothing."""
HASH_TRIES = 3
"""How often a file is hashed that changes meanwhile."""

SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""What this process or machine has too little of: it says nothing about a file."""

NOT_REGULAR = "is not a regular file"
TOO_LARGE = f"is larger than {MAX_PROGRAM_BYTES >> 30} GiB"
ROOTS_ONLY = "; a wildcard matches only root's programs in root's folders"
CHANGING = "keeps changing while it is read"

Identify = Callable[[int], FileKey]
"""Maps an open descriptor to the kernel's view of its file; may raise OSError."""

_FS_IOC_GETVERSION = 2 << 30 | struct.calcsize("l") << 16 | ord("v") << 8 | 1
_NANOSECONDS = 1_000_000_000


def file_key(descriptor: int) -> FileKey:
    """Make a file's key from what stat() and FS_IOC_GETVERSION say (not the kernel's view on btrfs and overlayfs).

    The generation is 0 where the file system does not tell it. Raises OSError for a bad descriptor.
    """
    answer = bytearray(struct.calcsize("l"))
    try:
        fcntl.ioctl(descriptor, _FS_IOC_GETVERSION, answer)
    except OSError:
        answer = bytearray(4)
    return _key(os.fstat(descriptor), struct.unpack_from("=I", answer)[0])


def look_at(path: str, identify: Identify | None = None, *, trusts: Trusts = is_roots) -> FileFact:
    """Look at one program file by its resolved path (no symlinks).

    ``identify`` (default: ``file_key``) gives its key, ``trusts`` says whether it is root's. A file that cannot be
    read, is not regular, is larger than MAX_PROGRAM_BYTES or keeps changing gets a problem and the digest "".
    Raises OSError if nothing can be found there.
    """
    with _opened(path, os.O_PATH | os.O_NOFOLLOW) as place:
        status = os.fstat(place)
        fact = FileFact(path, _key(status, 0), "", root_owned=trusts(status))
        if not stat.S_ISREG(status.st_mode):
            return replace(fact, problem=NOT_REGULAR)
        try:
            with _opened(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_NONBLOCK) as file:
                return _read(fact, file, identify or file_key, trusts)
        except OSError as error:
            if error.errno in SHORTAGES:
                raise
            return replace(fact, problem=f"cannot be read: {error.strerror or error}")


def find_program(
    word: str,
    identify: Identify | None = None,
    *,
    trusts: Trusts = is_roots,
    seen: dict[str, FileFact] | None = None,
) -> tuple[tuple[FileFact, ...], tuple[str, ...]]:
    """Find the files of one application word (absolute path or wildcard): facts sorted by path, and warnings.

    ``trusts`` says which files and folders a wildcard may match. ``seen`` keeps facts by resolved path, so that
    a file of several words is hashed once. What cannot be found is a warning; raises OSError for SHORTAGES only.
    """
    seen = {} if seen is None else seen
    paths, warnings = expand(word, trusts) if is_wildcard(word) else _exact(word)
    facts = []
    for path in paths:
        try:
            fact = seen[path] if path in seen else look_at(path, identify, trusts=trusts)
        except OSError as error:
            if error.errno in SHORTAGES:
                raise
            warnings += (_warning(word, error),)
            continue
        seen[path] = fact
        fact = _by_path(fact, word, trusts)
        if fact.root_owned or not is_wildcard(word):
            facts.append(fact)
    if not facts and not warnings:
        warnings = (f"application {word}: no such program (yet){ROOTS_ONLY if is_wildcard(word) else ''}",)
    return tuple(facts), warnings


def find_programs(
    words: Iterable[str], identify: Identify | None = None
) -> tuple[dict[str, tuple[FileFact, ...]], tuple[str, ...]]:
    """Find the files of all application words: word -> facts, and the warnings of all."""
    seen: dict[str, FileFact] = {}
    found: dict[str, tuple[FileFact, ...]] = {}
    warnings: list[str] = []
    for word in dict.fromkeys(words):
        found[word], more = find_program(word, identify, seen=seen)
        warnings += more
    return found, tuple(warnings)


def _exact(word: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        return (str(Path(word).resolve(strict=True)),), ()
    except (FileNotFoundError, NotADirectoryError):
        return (), ()
    except (OSError, RuntimeError) as error:
        return (), (_warning(word, error),)


def _warning(word: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"application {word}: no such program (yet)"
    reason = error.strerror if isinstance(error, OSError) else "its symlinks form a loop"
    return f"application {word}: cannot be looked at: {reason}"


def _by_path(fact: FileFact, word: str, trusts: Trusts) -> FileFact:
    """For a script of root's: the paths of root's at which it is executed, its own and that of a link to it."""
    if not fact.script or not fact.root_owned:
        return fact
    words = (fact.path,) if is_wildcard(word) else (fact.path, os.path.normpath(word))
    return replace(fact, executed=tuple(path for path in dict.fromkeys(words) if _in_roots_folders(path, trusts)))


def _in_roots_folders(path: str, trusts: Trusts) -> bool:
    try:
        return in_roots_folders(path, trusts) and in_roots_folders(os.path.realpath(path), trusts)
    except OSError:
        return False


def _key(status: os.stat_result, generation: int) -> FileKey:
    device = os.major(status.st_dev) << 20 | os.minor(status.st_dev)
    return FileKey(status.st_ino, device, generation, *divmod(status.st_ctime_ns, _NANOSECONDS))


def _read(fact: FileFact, file: int, identify: Identify, trusts: Trusts) -> FileFact:
    """Complete a fact from the open file: key and digest that belong together, or a problem."""
    if is_in_memory(file) and not is_roots(os.fstat(file)):
        return replace(fact, key=identify(file), problem=IN_MEMORY)
    try:
        with held(file):
            fact, digest, script = _hashed(fact, file, identify, trusts)
    except Unsteady as problem:
        return replace(fact, key=identify(file), problem=str(problem))
    if fact.problem:
        return fact
    if digest is None:
        return replace(fact, problem=TOO_LARGE)
    return replace(fact, sha256=digest, script=script, roots_folders=_in_roots_folders(fact.path, trusts))


def _hashed(fact: FileFact, file: int, identify: Identify, trusts: Trusts) -> tuple[FileFact, str | None, bool]:
    """The fact with a key, the digest, and whether it is a script; with a problem if it keeps changing."""
    for _ in range(HASH_TRIES):
        key = identify(file)
        digest, script = _digest(file)
        fact = replace(fact, key=key, root_owned=trusts(os.fstat(file)))
        if identify(file) == key:
            return fact, digest, script
    return replace(fact, problem=CHANGING), None, False


def _digest(file: int) -> tuple[str | None, bool]:
    """Hash an open file: hexadecimal SHA-256 (None: too large), and whether it starts with "#!"."""
    if os.fstat(file).st_size > MAX_PROGRAM_BYTES:
        return None, False
    digest = hashlib.sha256()
    script = False
    offset = 0
    while chunk := os.pread(file, CHUNK_BYTES, offset):
        if offset == 0:
            script = chunk.startswith(b"#!")
        digest.update(chunk)
        offset += len(chunk)
        if offset > MAX_PROGRAM_BYTES:
            return None, script
    return digest.hexdigest(), script


@contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
