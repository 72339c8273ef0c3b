"""Who may import whom, and where input and output may happen: the rules in kpf_ebpf's docstring, enforced."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ORDER = ("policy", "facts", "names", "resolve", "image", "evaluate", "kernel", "events", "engine", "cli")
CORE = ("policy", "resolve", "image", "evaluate")
PURE_EVENTS = ("events.decode", "events.enrich", "events.render", "events.collapse")
EDGE = "policy.load"


def words(text: str) -> frozenset[str]:
    """Give the words of a text as a set."""
    return frozenset(text.split())


IO_MODULES = words(
    "asyncio bcc fcntl fileinput glob grp http mmap multiprocessing os psutil pwd pyroute2 select selectors "
    "shutil signal socketserver ssl subprocess sys tempfile threading time urllib.request"
)
PURE_SOCKET = words("AF_INET AF_INET6 inet_ntop inet_pton")
IO_METHODS = words(
    "chmod exists glob is_dir is_file iterdir lstat mkdir open read_bytes read_text readlink rename resolve rglob "
    "rmdir stat symlink_to touch unlink write_bytes write_text"
)
IO_CALLS = words("open input print __import__")
LIBRARY_LOADERS = words("CDLL PyDLL cdll pydll pythonapi util")  # ctypes may describe layouts, not call libraries


def modules() -> dict[str, Path]:
    """Give every module of the project, by its name below kpf_ebpf ("" is kpf_ebpf itself)."""
    found = {"cli": ROOT / "cli"} | {name: ROOT / "kpf_ebpf" / name for name in ORDER if name != "cli"}
    paths = {"": ROOT / "kpf_ebpf" / "__init__.py"}
    for package, folder in found.items():
        for path in folder.rglob("*.py"):
            parts = [part for part in path.relative_to(folder).with_suffix("").parts if part != "__init__"]
            paths[".".join([package, *parts])] = path
    return paths


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Give the absolute name of everything imported, also within functions; of "from a import b" both a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def is_core(name: str) -> bool:
    """Tell whether a module must do without input and output."""
    return name in PURE_EVENTS or (name.split(".")[0] in CORE and name != EDGE)


MODULES = modules()
TREES = {name: ast.parse(path.read_text(), str(path)) for name, path in MODULES.items()}


def imported_by(name: str) -> set[str]:
    """Give what a module imports, by absolute names."""
    full = f"kpf_ebpf.{name}" if name else "kpf_ebpf"
    package = full if MODULES[name].name == "__init__.py" else full.rpartition(".")[0]
    return set(imports(TREES[name], package))


def is_below(name: str, parents: frozenset[str]) -> bool:
    """Tell whether a module is one of the given ones or lies within one."""
    return any(name == parent or name.startswith(parent + ".") for parent in parents)


def test_every_package_has_a_place_in_the_order() -> None:
    """A package that the order does not know could import anything."""
    folders = {path.name for path in (ROOT / "kpf_ebpf").iterdir() if any(path.glob("*.py"))}
    assert folders <= set(ORDER)
    assert not [path.name for path in (ROOT / "kpf_ebpf").glob("*.py") if path.name != "__init__.py"]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_package_imports_only_those_before_it(name: str) -> None:
    """The pipeline has one direction; kpf_ebpf itself imports none of its packages."""
    own = name.split(".")[0]
    place = ORDER.index(own) if own else -1
    inner = {found.split(".")[1] for found in imported_by(name) if found.startswith("kpf_ebpf.")}
    assert not {package for package in inner if package in ORDER and ORDER.index(package) > place}


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.split(".")[0] == "events"))
def test_events_know_only_the_layouts_of_the_kernel_package(name: str) -> None:
    """Reading a log must not need bcc, nor anything else of what loads programs."""
    of_kernel = {found for found in imported_by(name) if is_below(found, frozenset({"kpf_ebpf.kernel"}))}
    assert all(found == "kpf_ebpf.kernel" or is_below(found, frozenset({"kpf_ebpf.kernel.abi"})) for found in of_kernel)


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.split(".")[0] != "kernel"))
def test_only_the_kernel_package_imports_bcc(name: str) -> None:
    """BCC brings LLVM and 60 MB of memory: one package pays for it."""
    assert not [found for found in imported_by(name) if is_below(found, frozenset({"bcc"}))]


def io_in(tree: ast.AST, imported: set[str]) -> Iterator[str]:
    """Give what in a module does input or output, or could, with its line."""
    yield from (f"imports {module}" for module in sorted(imported) if is_below(module, IO_MODULES))
    yield from (f"imports {module}" for module in imported if module[:7] == "socket." and module[7:] not in PURE_SOCKET)
    yield from (f"imports {module}" for module in imported if module[:7] == "ctypes." and module[7:] in LIBRARY_LOADERS)
    modules = {name.rpartition(".")[2] for name in imported}
    for node in ast.walk(tree):
        owner = node.value.id if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) else ""
        if isinstance(node, ast.Attribute) and (
            (owner == "socket" and node.attr not in PURE_SOCKET)
            or (owner == "ctypes" and node.attr in LIBRARY_LOADERS)
            or (owner not in modules and node.attr in IO_METHODS and isinstance(node.ctx, ast.Load))
        ):
            yield f"line {node.lineno}: .{node.attr}"
        elif isinstance(node, ast.Name) and node.id in IO_CALLS:
            yield f"line {node.lineno}: {node.id}"


@pytest.mark.parametrize("name", sorted(filter(is_core, MODULES)))
def test_the_core_does_no_input_or_output(name: str) -> None:
    """The core turns values into values: no I/O module, no socket but its text conversions, no open()."""
    assert not list(io_in(TREES[name], imported_by(name)))


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "def f():\n    from os.path import join",
        "import socket\nsocket.create_connection(('192.0.2.1', 1))",
        "from socket import socket",
        "import ctypes\nctypes.CDLL('libc.so.6')",
        "def f(path):\n    return path.read_text()",
        "def f(path):\n    return path.parent.exists()",
        "open('/etc/passwd')",
    ],
)
def test_input_and_output_are_found(source: str) -> None:
    """The check itself: each of these would let the world into the core."""
    tree = ast.parse(source)
    assert list(io_in(tree, set(imports(tree, "kpf_ebpf.image"))))


def test_relative_imports_are_followed() -> None:
    """The check itself: a relative import, also within a function, counts as what it stands for."""
    tree = ast.parse("def f():\n    from ..kernel import load\n    from . import x\n    import bcc.table")
    expected = {"kpf_ebpf.kernel", "kpf_ebpf.kernel.load", "kpf_ebpf.events", "kpf_ebpf.events.x", "bcc.table"}
    assert set(imports(tree, "kpf_ebpf.events")) == expected
