"""Compiles and loads bpf/ with BCC. The only module that imports bcc; nothing needs it once the programs are pinned."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.kernel import abi, bpf, btf
from kpf_ebpf.kernel.hooks import HOOKS, SCRIPT_PROGRAM, check_pins, opened

SOURCES = ("kpf_abi.h", "maps.c", "count.c", "processes.c", "cgroups.c", "packet.c", "classify.c", "early.c",
           "verdict.c", "sockets.c", "packets.c", "options.c", "adapters.c", "probes.c", "exact.c")  # fmt: skip
PROBES = ("kpf_identify", "kpf_settle", "kpf_probe", "kpf_probe_early")
_SCHED_CLS, _TRACING, _LSM = 3, 26, 29
ADAPTER_PROGRAMS = ("kpf_adapter_ingress", "kpf_adapter_egress")
EXACT = (
    (b"kfunc__vmlinux__security_bprm_check", _TRACING),
    (b"kfunc__security_bprm_check", _TRACING),
    (b"lsm__bprm_check_security", _LSM),
)
"""Programs that see a script's own file, by preference: as newer and older versions of BCC name them."""
LSM_LIST = Path("/sys/kernel/security/lsm")
OLDEST_BCC = (0, 25)
"""The first whose load_func knows attach types."""
BCC_REMEDY = "install it: apt-get install python3-bpfcc (0.25 or newer)"


class LoadError(Exception):
    """The programs could not be compiled or loaded; the message says what, why, and what to do."""


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
        with _witnessed(sink.fileno(), saved):
            os.dup2(sink.fileno(), 2)
            try:
                yield text
            finally:
                os.dup2(saved, 2)
                os.close(saved)
                sink.seek(0)
                text += sink.read().decode("utf-8", "replace").splitlines()


@contextmanager
def _witnessed(sink: int, stderr: int) -> Iterator[None]:
    """LLVM ends the whole process where it cannot go on: then a witness tells what it wrote."""
    alive_read, alive_write = os.pipe()
    witness = os.fork()
    if witness == 0:
        os.close(alive_write)
        if not os.read(alive_read, 1):
            lines = os.pread(sink, 1 << 20, 0).decode("utf-8", "replace").splitlines()
            os.write(stderr, f"kpf-ebpf: the compiler gave up: {_telling(lines)}; run `kpf-ebpf doctor`\n".encode())
        os._exit(0)
    os.close(alive_read)
    try:
        yield
    finally:
        os.write(alive_write, b"x")
        os.close(alive_write)
        os.waitpid(witness, 0)


_TELLING = re.compile(r"^R\d+ |prohibited|\berror: |too large|stack limit|unknown func|not allowed|cannot use helper")


def _telling(lines: list[str]) -> str:
    """The line of a compiler's or verifier's text that says what is wrong."""
    telling = [line for line in lines if _TELLING.search(line)] or [line for line in lines if line.strip()]
    return (telling or ["no message"])[-1].strip() + f" ({len(lines)} lines omitted)"


def bcc_version() -> str:
    """The version of the BCC that this Python can use. Raises LoadError if it has none, or one that is too old."""
    try:
        import bcc
    except ImportError as problem:
        raise LoadError(f"BCC is missing ({problem}); {BCC_REMEDY}") from problem
    version = str(getattr(bcc, "__version__", "0"))
    try:
        numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
    except ValueError:
        numbers = (0, 0)
    if numbers < OLDEST_BCC:
        raise LoadError(f"BCC {version} is too old; {BCC_REMEDY}")
    return version


@dataclass(slots=True)
class Programs:
    """The loaded programs by function name (descriptors), kept open by the BCC module."""

    descriptors: dict[str, int]
    module: object
    pins: Path

    def identify(self, fd: int) -> FileKey:
        """The kernel's view of an open file. Raises OSError where it has none (FUSE, foreign user namespaces)."""
        return _identify(self.descriptors["kpf_identify"], self.pins, fd)


def identify(pins: Path, fd: int) -> FileKey:
    """The same by the pinned program, in a process that did not load it."""
    with opened(pins / "identify") as program:
        return _identify(program, pins, fd)


def _identify(program: int, pins: Path, fd: int) -> FileKey:
    bpf.run(program, fd)
    with opened(pins / "identified") as answer:
        file = abi.File.from_buffer_copy(bpf.lookup(answer, bytes(4), abi.FILE_BYTES) or bytes(abi.FILE_BYTES))
    if not file.inode:
        raise OSError(0, "on a file system that a user controls")
    return FileKey(*file.words())


def _pin_probe(pins: Path, program: int) -> None:
    fresh = pins / "new_identify"
    fresh.unlink(missing_ok=True)
    bpf.pin(program, fresh)
    fresh.rename(pins / "identify")


def _load_exact(module: Any) -> dict[str, int]:
    """The program that sees a script's own file, if this kernel takes one: {SCRIPT_PROGRAM: descriptor}."""
    lsm = LSM_LIST.read_text() if LSM_LIST.exists() else ""
    for name, kind in EXACT:
        if kind == _LSM and "bpf" not in lsm.split(","):
            continue  # it would load, and never run
        try:
            return {SCRIPT_PROGRAM: module.load_func(name, kind).fd}
        except Exception:  # noqa: BLE001  (BCC raises nothing narrower; the next one may load)
            continue
    return {}


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
    bcc_version()
    import bcc

    misfit = check_pins(pins)
    if misfit:
        raise LoadError(f"{pins} was left by another version: {misfit}; run `kpf-ebpf down`, then `up` again")
    text = "".join(f'#line 1 "bpf/{name}"\n{(folder / name).read_text()}' for name in SOURCES)
    flags = [f"-DKPF_BTF_{name}={value}" for name, value in offsets.items()]
    flags += [f'-DKPF_PIN="{pins}"', "-Werror=implicit-function-declaration", f"-I{folder}/stub/include"]
    failure = ""
    with _captured() as messages:
        try:
            # BCC loads fentry and LSM programs by itself, and gives up the whole module where they are refused
            module = type("Module", (bcc.BPF,), {"_trace_autoload": lambda self: None})(
                text=text.encode(), cflags=flags
            )
            descriptors = {
                hook.program: module.load_func(
                    hook.program.encode(), hook.kind, attach_type=hook.where if isinstance(hook.where, int) else -1
                ).fd
                for hook in HOOKS
            }
            descriptors |= {name: module.load_func(name.encode(), 17).fd for name in PROBES}
            descriptors |= {name: module.load_func(name.encode(), _SCHED_CLS).fd for name in ADAPTER_PROGRAMS}
            _pin_probe(pins, descriptors["kpf_identify"])
            descriptors |= _load_exact(module)
        except Exception as problem:  # noqa: BLE001  (BCC raises nothing narrower)
            failure = str(problem)
    if failure:
        raise LoadError(f"{failure}: {_telling(messages)}; run `kpf-ebpf doctor`")
    return Programs(descriptors, module, pins)
