"""Compiles and loads bpf/ with BCC, attaches, pins. The only module that imports bcc; not needed once it ran."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.kernel import bpf, btf

SOURCES = ("kpf_abi.h", "maps.c", "count.c", "processes.c", "packet.c", "classify.c", "early.c", "verdict.c",
           "sockets.c", "packets.c", "probes.c")  # fmt: skip


class LoadError(Exception):
    """The programs could not be compiled, loaded or attached; the message says what, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Hook:
    """One attachment: name, function, program type, attach type (or the tracepoint's name)."""

    name: str
    program: str
    kind: int
    where: int | str


HOOKS = (
    Hook("exec", "kpf_exec", 17, "sched_process_exec"),
    Hook("fork", "kpf_fork", 17, "sched_process_fork"),
    Hook("exit", "kpf_exit", 17, "sched_process_exit"),
    Hook("sock_create", "kpf_sock_create", 9, 2),
    Hook("post_bind4", "kpf_post_bind4", 9, 12),
    Hook("post_bind6", "kpf_post_bind6", 9, 13),
    Hook("connect4", "kpf_connect4", 18, 10),
    Hook("connect6", "kpf_connect6", 18, 11),
    Hook("sendmsg4", "kpf_sendmsg4", 18, 14),
    Hook("sendmsg6", "kpf_sendmsg6", 18, 15),
    Hook("ingress", "kpf_ingress", 8, 0),
    Hook("egress", "kpf_egress", 8, 1),
)
"""In order of attachment: whoever a packet belongs to is known before any packet is judged."""
PROBES = ("kpf_identify", "kpf_probe", "kpf_probe_early")


def source_folder() -> Path:
    """Where the C is: beside this package when installed, or at the top of a checkout."""
    installed = Path(__file__).resolve().parent.parent / "bpf"
    return installed if installed.is_dir() else Path(__file__).resolve().parents[2] / "bpf"


@contextmanager
def _captured() -> Iterator[list[str]]:
    """Collects what the compiler and the verifier write to descriptor 2."""
    text: list[str] = []
    with tempfile.TemporaryFile() as sink:
        saved = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            yield text
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            sink.seek(0)
            text += sink.read().decode("utf-8", "replace").splitlines()


def _telling(lines: list[str]) -> str:
    telling = [line for line in lines if "error" in line.lower() or "invalid" in line.lower() or "R" in line[:2]]
    return (telling or lines or ["no message"])[-1].strip() + f" ({len(lines)} lines omitted)"


@dataclass(slots=True)
class Programs:
    """The loaded programs by function name (descriptors), kept open by the BCC module."""

    descriptors: dict[str, int]
    module: object
    pins: Path

    def identify(self, fd: int) -> FileKey:
        """The kernel's view of an open file. Raises OSError where it has none (FUSE, foreign user namespaces)."""
        bpf.run(self.descriptors["kpf_identify"], fd)
        answer = bpf.open_pinned(self.pins / "identified")
        try:
            data = bpf.lookup(answer, bytes(4), 32) or bytes(32)
        finally:
            os.close(answer)
        inode, device, generation, seconds, nanoseconds = struct.unpack("=QIIqIxxxx", data)
        if not inode:
            raise OSError(0, "on a file system that a user controls")
        return FileKey(inode, device, generation, seconds, nanoseconds)


def load(pins: Path) -> Programs:
    """Compiles and loads everything; maps are made below ``pins`` or found there. Raises LoadError."""
    try:
        offsets = btf.offsets(btf.VMLINUX.read_bytes())
    except (OSError, btf.BtfError) as problem:
        raise LoadError(
            f"kernel type information (BTF): {problem}; a kernel with CONFIG_DEBUG_INFO_BTF is needed"
        ) from problem
    folder = source_folder()
    os.environ["BCC_KERNEL_SOURCE"] = str(folder / "stub")
    try:
        import bcc
    except ImportError as problem:
        raise LoadError("BCC is missing: apt-get install python3-bpfcc (0.25 or newer)") from problem
    if tuple(int(part) for part in bcc.__version__.split(".")[:2]) < (0, 25):
        raise LoadError(f"BCC {bcc.__version__} is too old: 0.25 or newer is needed (package python3-bpfcc)")
    text = "".join(f'#line 1 "bpf/{name}"\n{(folder / name).read_text()}' for name in SOURCES)
    flags = [f"-DKPF_BTF_{name}={value}" for name, value in offsets.items()]
    flags += [f'-DKPF_PIN="{pins}"', "-Werror=implicit-function-declaration", f"-I{folder}/stub/include"]
    failure = ""
    with _captured() as messages:
        try:
            module = bcc.BPF(text=text.encode(), cflags=flags)
            descriptors = {
                hook.program: module.load_func(
                    hook.program.encode(), hook.kind, attach_type=hook.where if isinstance(hook.where, int) else -1
                ).fd
                for hook in HOOKS
            }
            descriptors |= {name: module.load_func(name.encode(), 17).fd for name in PROBES}
        except Exception as problem:  # noqa: BLE001  (BCC raises nothing narrower)
            failure = str(problem)
    if failure:
        raise LoadError(f"{failure}: {_telling(messages)}; run `kpf-ebpf doctor`")
    return Programs(descriptors, module, pins)


def attach(programs: Programs, cgroup: int, before: dict[str, int]) -> None:
    """Attaches every hook, in order; ``before`` are the programs (descriptors) to be replaced, by hook name."""
    for hook in HOOKS:
        program, pin = programs.descriptors[hook.program], programs.pins / f"hook_{hook.name}"
        fresh = programs.pins / f"new_{hook.name}"
        fresh.unlink(missing_ok=True)
        try:
            if isinstance(hook.where, str):
                link = bpf.open_raw_tracepoint(hook.where, program)
                bpf.pin(link, fresh)
                os.close(link)
            else:
                bpf.attach(cgroup, program, hook.where, before.get(hook.name))
                bpf.pin(program, fresh)
        except OSError as problem:
            raise LoadError(f"hook {hook.name}: {problem.strerror}; run `kpf-ebpf doctor`") from problem
        fresh.rename(pin)


def attached_hooks(pins: Path, cgroup: int) -> dict[str, bool]:
    """Which hooks are really there: links that are pinned, programs that the cgroup says are attached."""
    found = {}
    for hook in HOOKS:
        found[hook.name] = False
        try:
            fd = bpf.open_pinned(pins / f"hook_{hook.name}")
        except OSError:
            continue
        try:
            found[hook.name] = isinstance(hook.where, str) or bpf.identity_of(fd) in bpf.attached(cgroup, hook.where)
        finally:
            os.close(fd)
    return found
