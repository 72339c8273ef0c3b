"""Compiles bpf/ with BCC, in a process of its own. The only module that imports bcc.

LLVM takes some hundred megabytes, and where it cannot go on it ends the process: neither shall be ours.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

from kpf_ebpf.kernel import bpf, btf, maps
from kpf_ebpf.kernel.compiled import (
    SEVERAL,
    VALUES,
    Compiled,
    Program,
    decode,
    encode,
    fetch,
    keep,
    key_of,
    numbered,
    unlink_maps,
)

SOURCES = ("kpf_abi.h", "kpf_image.h", "parts.c", "maps.c", "verifier.c", "count.c", "processes.c", "cgroups.c",
           "packet.c", "memo.c", "fields.c", "classify.c", "early.c", "verdict.c", "header.c", "cache.c", "sockets.c",
           "mirror.c", "packets.c", "options.c", "adapters.c", "probes.c", "exact.c")  # fmt: skip
PARTS = SOCKETS, PACKETS, ADAPTERS, PROBES = "SOCKETS", "PACKETS", "ADAPTERS", "PROBES"
"""The parts of the programs (bpf/parts.c): each is compiled by itself, and kept by itself."""
OLDEST_BCC = (0, 25)
"""The first whose compiler knows what is asked of it."""
BCC_REMEDY = "install it: apt-get install python3-bpfcc (0.25 or newer)"
OPTIONS = ("-g0", "-Xclang", "-disable-llvm-passes", "-Werror=implicit-function-declaration")
"""No debug information, which LLVM would carry through all its passes: BCC has a use for it only where it makes the
storage of sockets, and that is there already. And no passes of Clang's: BCC has all of them run, too."""
_CLOCK_MONOTONIC_COARSE = 6
_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000
DEADLINE = 300
"""Seconds that the compiler may take: emulated processors are slow."""


class LoadError(Exception):
    """The programs could not be compiled or loaded; the message says what, why, and what to do."""


def source_folder() -> Path:
    """Where the C is: beside this package when installed, or at the top of a checkout."""
    installed = Path(__file__).resolve().parent.parent / "bpf"
    return installed if installed.is_dir() else Path(__file__).resolve().parents[2] / "bpf"


_TELLING = re.compile(r"^R\d+ |prohibited|\berror: |too large|stack limit|unknown func|not allowed|cannot use helper")


def telling(lines: list[str]) -> str:
    """The line of a compiler's or verifier's text that says what is wrong."""
    found = [line for line in lines if _TELLING.search(line)] or [line for line in lines if line.strip()]
    line = (found or ["no message"])[-1].strip()
    line = re.sub(r"^[|\s]*\^-+ error: ", "", line)  # newer kernels draw it under the code
    return f"{line} ({len(lines)} lines omitted)"


def bcc_version() -> str:
    """The version of the BCC that this Python can use, without loading it.

    Raises LoadError if there is none, or one that is too old.
    """
    found = importlib.util.find_spec("bcc")
    if found is None or found.origin is None:
        raise LoadError(f"BCC is missing (no module named bcc); {BCC_REMEDY}")
    try:
        text = Path(found.origin).with_name("version.py").read_text()
    except OSError as problem:
        raise LoadError(f"BCC is missing ({problem}); {BCC_REMEDY}") from problem
    match = re.search(r"__version__\s*=\s*['\"]((\d+)\.(\d+)[^'\"]*)", text)
    version = match[1] if match else "0"
    if match is None or (int(match[2]), int(match[3])) < OLDEST_BCC:
        raise LoadError(f"BCC {version} is too old; {BCC_REMEDY}")
    return version


def ticks_a_second() -> int:
    """How often a second the kernel counts up its jiffies (CONFIG_HZ): its coarse clocks go on by one of them."""
    return round(1 / time.clock_getres(_CLOCK_MONOTONIC_COARSE))


def compiled(offsets: Mapping[str, int], scratch: Path, parts: Collection[str]) -> Compiled:
    """The programs of these parts for a kernel with these offsets: kept ones, or made now. Raises LoadError.

    ``scratch`` begins the names of folders in a bpf file system: BCC makes the maps that the programs name, and they go
    again.
    """
    folder = source_folder()
    text = "".join(f'#line 1 "bpf/{name}"\n{(folder / name).read_text()}' for name in SOURCES)
    flags = [f"-DKPF_HZ={ticks_a_second()}", *(f"-DKPF_BTF_{name}={value}" for name, value in sorted(offsets.items()))]
    stubs = sorted(path for path in (folder / "stub").rglob("*") if path.is_file())
    seen = [text, *flags, *OPTIONS, *(path.read_text() for path in stubs), bcc_version(), os.uname().release]
    common = [*seen, *(name for names in SEVERAL.values() for name in names), *VALUES.values()]
    keys = {part: key_of([*common, part]) for part in parts}
    found = {part: fetch(key) for part, key in keys.items()}

    def one(part: str) -> Compiled:
        made = found[part]
        if made is None:
            place = scratch.with_name(f"{scratch.name}_{part.lower()}")
            made = compile_text(text, [*flags, f"-DKPF_PART_{part}"], folder, place)
            keep(keys[part], made)
        return made

    with ThreadPoolExecutor(len(keys)) as side_by_side:
        made = list(side_by_side.map(one, keys))
    return Compiled(MappingProxyType({name: program for part in made for name, program in part.programs.items()}))


def compile_text(text: str, flags: list[str], folder: Path, scratch: Path) -> Compiled:
    """Every program of a C text. Raises LoadError."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    flags = [*flags, f'-DKPF_PIN="{scratch}"', *OPTIONS, f"-I{folder}/stub/include"]
    environment = {**os.environ, "BCC_KERNEL_SOURCE": str(folder / "stub")}
    try:
        _pin_storage(scratch)
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__],
            input=json.dumps({"text": text, "flags": flags}).encode(),
            capture_output=True,
            timeout=DEADLINE,
            env=environment,
            check=False,
        )
        return decode(done.stdout)
    except subprocess.TimeoutExpired as problem:
        raise LoadError(f"the compiler needed more than {DEADLINE} s; run `kpf-ebpf doctor`") from problem
    except ValueError as problem:
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        raise LoadError(f"the compiler gave up: {telling(lines)}; run `kpf-ebpf doctor`") from problem
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _pin_storage(scratch: Path) -> None:
    """Makes the maps that cannot be made without types, where BCC looks for them. Raises LoadError."""
    described, values = btf.locked_types(maps.LOCKED)
    types = -1
    try:
        types = bpf.load_btf(described)
        for name, spec in maps.MAPS.items():
            if spec.kind == "sk_storage":
                of_values = types, btf.LOCKED_KEY, values[name]
                storage = bpf.create_map(spec.type, spec.key_size, spec.value_size, 0, spec.flags, types=of_values)
                try:
                    bpf.pin(storage, scratch / name)
                finally:
                    os.close(storage)
    except OSError as problem:
        raise LoadError(f"the maps could not be made: {problem.strerror}; run `kpf-ebpf doctor`") from problem
    finally:
        if types >= 0:
            os.close(types)


def _show_one_symbol() -> None:
    """Has /proc/kallsyms tell this process of one symbol, so that BCC does not read a hundred thousand.

    All it asks is whether the kernel has a helper, which those that we load into have (5.5). A sixth of its time.
    """
    stand_in = Path(os.environ["BCC_KERNEL_SOURCE"], "kallsyms")
    libc = ctypes.CDLL(None)
    if not libc.unshare(_CLONE_NEWNS) and not libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        libc.mount(os.fsencode(stand_in), b"/proc/kallsyms", None, _MS_BIND, None)  # where it may not: it takes longer


def main() -> None:
    """Compiles what standard input asks for; the programs go to standard output, messages to standard error."""
    import bcc

    _show_one_symbol()
    asked = json.load(sys.stdin)
    # BCC loads fentry and LSM programs by itself, and gives up the whole module where they are refused
    kind = type("Module", (bcc.BPF,), {"_trace_autoload": lambda self: None})
    module = kind(text=asked["text"].encode(), cflags=asked["flags"])
    library, handle = bcc.lib, module.module
    library.bpf_table_name.restype = ctypes.c_char_p  # bcc itself has no use for this one
    library.bpf_table_name.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    names = {
        library.bpf_table_fd_id(handle, index): library.bpf_table_name(handle, index).decode()
        for index in range(library.bpf_num_tables(handle))
    }
    functions = [library.bpf_function_name(handle, index) for index in range(library.bpf_num_functions(handle))]
    programs: dict[str, Program] = {}
    for name in functions:
        programs |= numbered(name.decode(), unlink_maps(module.dump_func(name), names))
    sys.stdout.buffer.write(encode(Compiled(MappingProxyType(programs))))


if __name__ == "__main__":
    main()
