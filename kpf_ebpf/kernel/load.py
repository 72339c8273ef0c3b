"""Makes the maps and loads the programs, by bpf(2) alone: compiled once, they need neither BCC nor LLVM any more."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.kernel import abi, bpf, btf, maps
from kpf_ebpf.kernel.account import charged_to_nobody
from kpf_ebpf.kernel.compile import ADAPTERS, PACKETS, SOCKETS, LoadError, compiled, telling
from kpf_ebpf.kernel.compile import PROBES as PROBES_PART
from kpf_ebpf.kernel.compiled import Program
from kpf_ebpf.kernel.hooks import HOOKS, OPTIONS_HOOK, SCRIPT_PROGRAM, check_pins, opened

RUN_BY_HAND = ("kpf_identify", "kpf_settle")
JUDGE = "kpf_judge_packet"
"""Where packets go on that no cache decides."""
PROBES = ("kpf_probe", "kpf_probe_early")
"""Judge flows that tests and benchmarks make up; nothing else loads them."""
ADAPTER_PROGRAMS = ("kpf_adapter_ingress", "kpf_adapter_egress", "kpf_judge_frame", OPTIONS_HOOK.program)
"""Loaded where adapters are filtered."""
_PACKET_MEASURES = ("kpf_measure_egress", "kpf_measure_nothing_skb")
MEASURES = ("kpf_measure", "kpf_measure_nothing", *_PACKET_MEASURES)
"""The classifier on flows that a benchmark makes up, the packet hook on a packet of a judged socket, and each without
what is measured; nothing else loads them."""
_SCHED_CLS, _CGROUP_SKB, _RAW_TRACEPOINT, _TRACING, _LSM = 3, 8, 17, 26, 29
_FENTRY, _LSM_MAC = 24, 27
EXACT = (
    ("kfunc__vmlinux__security_bprm_check", _TRACING, _FENTRY, "security_bprm_check"),
    ("kfunc__security_bprm_check", _TRACING, _FENTRY, "security_bprm_check"),
    ("lsm__bprm_check_security", _LSM, _LSM_MAC, "bpf_lsm_bprm_check_security"),
)
"""Programs that see a script's own file, by preference, and what of the kernel each attaches to."""
_HOOK_OF = {hook.program: hook for hook in (*HOOKS, OPTIONS_HOOK)}
LSM_LIST = Path("/sys/kernel/security/lsm")


@dataclass(slots=True)
class Programs:
    """The loaded programs by function name (descriptors)."""

    descriptors: dict[str, int]
    pins: Path

    def identify(self, fd: int) -> FileKey:
        """The kernel's view of an open file. Raises OSError where it has none (FUSE, foreign user namespaces)."""
        return _identify(self.descriptors["kpf_identify"], self.pins, fd)

    def close(self) -> None:
        """Closes the descriptors; what is attached or pinned stays."""
        for descriptor in self.descriptors.values():
            os.close(descriptor)
        self.descriptors.clear()


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


def make_maps(pins: Path) -> dict[str, int]:
    """The descriptor of every map by name: found below ``pins``, or made and pinned there. Raises OSError.

    With them the templates of the maps of maps (NAME_template).
    """
    blob, values = btf.locked_types(maps.LOCKED)
    types = bpf.load_btf(blob)
    descriptors = {}
    try:
        for name, spec in maps.INNER_MAPS.items():
            descriptors[f"{name}_template"] = bpf.create_map(spec.type, spec.key_size, spec.value_size, 1, spec.flags)
        for name, spec in maps.MAPS.items():
            with contextlib.suppress(FileNotFoundError):
                descriptors[name] = bpf.open_pinned(pins / name)
                continue
            described = (types, btf.LOCKED_KEY, values[name]) if name in values else None
            descriptors[name] = _new_map(name, spec, descriptors.get(f"{name}_template", 0), described)
            bpf.pin(descriptors[name], pins / name)
    except OSError:
        for descriptor in descriptors.values():
            os.close(descriptor)
        raise
    finally:
        os.close(types)
    return descriptors


def _new_map(name: str, spec: maps.MapSpec, inner: int, types: tuple[int, int, int] | None) -> int:
    def make(entries: int) -> int:
        return bpf.create_map(
            spec.type, spec.key_size, spec.value_size, entries, spec.flags, name=name, inner=inner, types=types
        )

    if spec.kind == "sk_storage":
        with charged_to_nobody():
            return make(0)
    return make(spec.entries or (os.sysconf("SC_NPROCESSORS_CONF") if spec.kind == "perf_event_array" else 1))


def _load_exact(load_one: Callable[[str, int, int, int], int], there: set[str], types: btf.Btf) -> dict[str, int]:
    """The program that sees a script's own file, if this kernel takes one: {SCRIPT_PROGRAM: descriptor}."""
    lsm = LSM_LIST.read_text() if LSM_LIST.exists() else ""
    for name, kind, attach_type, function in EXACT:
        target = types.function(function)
        if name not in there or target is None or (kind == _LSM and "bpf" not in lsm.split(",")):
            continue  # where BPF is no security module it would load, and never run
        with contextlib.suppress(LoadError):  # refused: the next one may load
            return {SCRIPT_PROGRAM: load_one(name, kind, attach_type, target)}
    return {}


def kind_of(name: str) -> tuple[int, int]:
    """A program's type, and the attach type that it is loaded for (enum bpf_prog_type, enum bpf_attach_type).

    The packet hooks are all loaded as for ingress: the kernel attaches such a program at egress, too, and newer kernels
    let only programs that were loaded alike go on in one another.
    """
    hook = _HOOK_OF.get(name)
    if name in (JUDGE, *_PACKET_MEASURES) or (hook is not None and hook.kind == _CGROUP_SKB):
        return _CGROUP_SKB, 0
    if hook is not None:
        return hook.kind, hook.where if isinstance(hook.where, int) else 0
    return _SCHED_CLS if name in ADAPTER_PROGRAMS + PROBES + MEASURES else _RAW_TRACEPOINT, 0


def _parts(more: Collection[str]) -> tuple[str, ...]:
    """The parts of the programs that are needed, with ``more`` of them."""
    adapters = (ADAPTERS,) if set(more) & set(ADAPTER_PROGRAMS) else ()
    probes = (PROBES_PART,) if set(more) & {*PROBES, *MEASURES} else ()
    return (SOCKETS, PACKETS, *adapters, *probes)


def load(pins: Path, more: Collection[str] = ()) -> Programs:
    """Loads the hooks' programs, compiled now or before; maps are made below ``pins`` or found there.

    ``more``: of PROBES, MEASURES and ADAPTER_PROGRAMS those that are needed, too. Raises LoadError.
    """
    try:
        types = btf.Btf(btf.VMLINUX.read_bytes())
        offsets = btf.offsets(types)
    except (OSError, btf.BtfError) as problem:
        raise LoadError(
            f"kernel type information (BTF): {problem}; a kernel with CONFIG_DEBUG_INFO_BTF is needed"
        ) from problem
    misfit = check_pins(pins)
    if misfit:
        raise LoadError(f"{pins} was left by another version: {misfit}; run `kpf-ebpf down`, then `up` again")
    bpf.lift_limit()
    programs = compiled(offsets, pins / "compile", _parts(more)).programs
    descriptors: dict[str, int] = {}
    try:
        made = make_maps(pins)
    except OSError as problem:
        raise LoadError(f"the maps could not be made: {problem.strerror}; run `kpf-ebpf doctor`") from problem

    def load_one(name: str, kind: int, attach_type: int = 0, target: int = 0) -> int:
        return _load_one(name, programs[name], made, kind, attach_type, target)

    try:
        for name in (*(hook.program for hook in HOOKS), JUDGE, *RUN_BY_HAND, *more):
            descriptors[name] = load_one(name, *kind_of(name))
        for name in maps.JUDGES:
            if f"kpf_{name}" in descriptors:
                bpf.update(made[name], bytes(4), descriptors[f"kpf_{name}"].to_bytes(4, "little"))
        _pin_probe(pins, descriptors["kpf_identify"])
        descriptors |= _load_exact(load_one, set(programs), types)
    except BaseException:
        Programs(descriptors, pins).close()
        raise
    finally:
        for descriptor in made.values():
            os.close(descriptor)
    return Programs(descriptors, pins)


def _load_one(name: str, program: Program, made: dict[str, int], kind: int, attach_type: int, target: int) -> int:
    code = program.linked(made)
    try:
        return bpf.load_program(name, kind, code, attach_type, target)
    except OSError as problem:
        lines = bpf.complaint(name, kind, code, attach_type, target)
        raise LoadError(
            f"the kernel refuses program {name}: {problem.strerror}: {telling(lines)}; run `kpf-ebpf doctor`"
        ) from problem
