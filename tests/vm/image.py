"""What a machine boots from: a root file system per suite; a kernel, an initrd and a disk of modules per kernel.

All of it is kept in a cache folder, under names that change with what it is made of: the list of packages for a root,
the versions of the kernel's packages for a kernel. Making it needs root, but neither mounts nor loop devices.
"""

from __future__ import annotations

import fcntl
import hashlib
import lzma
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from archive import BuildError, apt_of, output, sources, transport
from kernels import PACKAGES, SECURITY, Kernel

GUEST = Path(__file__).resolve().parent / "guest"
BUSYBOX = Path("/bin/busybox")
BOOT_MODULES = ("virtio_pci", "virtio_blk", "ext4")
ROOM = 2 << 30
"""Bytes a root has free; the image is sparse, and a run's writes go to a temporary file of QEMU's."""
UNREAD = ("doc", "man", "locale", "info")


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything one machine is started with."""

    release: str
    vmlinuz: Path
    initrd: Path
    modules: Path
    root: Path


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


@contextmanager
def _workspace(cache: Path) -> Iterator[Path]:
    """A folder on the cache's file system, so that finished things can be renamed into their places."""
    with tempfile.TemporaryDirectory(prefix="tmp-", dir=cache, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _ext4(tree: Path, image: Path, room: int = 0) -> None:
    """Makes a file system of a folder's content."""
    used = int(output("du", "--summarize", "--bytes", "--apparent-size", tree).split()[0])
    files = sum(1 for _ in tree.rglob("*"))
    size = used + used // 8 + files * 4096 + room + (32 << 20)
    features = "^has_journal,^orphan_file"
    output("mke2fs", "-q", "-t", "ext4", "-O", features, "-m", "0", "-d", tree, image, f"{size // 1024}k")


def _root(suite: str, cache: Path) -> Path:
    suites = (suite, suite + SECURITY)
    image = cache / "roots" / f"{suite}-{_digest(*suites, *PACKAGES)}.ext4"
    if image.exists():
        return image
    print(f"  making the root file system of {suite}", flush=True)
    image.parent.mkdir(exist_ok=True)
    with _workspace(cache) as work:
        tree = work / "tree"
        quiet = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in UNREAD]
        fetching = [f"--aptopt={setting}" for setting in transport()]
        options = ["--quiet", "--variant=minbase", "--architectures=amd64", f"--include={','.join(PACKAGES)}"]
        output("mmdebstrap", *options, *quiet, *fetching, suite, tree, *sources(suites))
        (tree / "usr/lib/modules").mkdir(exist_ok=True)
        (tree / "etc/hostname").write_text("vm\n")
        (tree / "etc/hosts").write_text("127.0.0.1 localhost vm\n::1 localhost\n")
        (tree / "etc/resolv.conf").unlink(missing_ok=True)  # the host's, which is nothing to a guest
        (tree / "etc/resolv.conf").touch()
        (tree / "etc/machine-id").write_text("uninitialized\n")
        for setting in (tree / "etc/dpkg/dpkg.cfg.d").glob("*mmdebstrap*"):
            setting.unlink()  # what is installed later comes with its pages
        _ext4(tree, work / "image", ROOM)
        for stale in image.parent.glob(f"{suite}-*"):
            stale.unlink()
        (work / "image").rename(image)
    return image


def _boot_modules(tree: Path, release: str, into: Path) -> None:
    """Copies the modules that the initrd loads, uncompressed, and lists them in the order of loading."""
    order: list[str] = []
    for module in BOOT_MODULES:
        command = ("modprobe", "--dirname", tree, "--set-version", release, "--show-depends", module)
        for line in output(*command).splitlines():
            kind, _, rest = line.partition(" ")
            if kind != "insmod":
                continue  # built in
            path = Path(rest.split()[0])
            name = path.name.removesuffix(".xz")
            if name not in order:
                data = path.read_bytes()
                (into / name).write_bytes(lzma.decompress(data) if path.suffix == ".xz" else data)
                order.append(name)
    (into / "order").write_text("".join(f"{name}\n" for name in order))


def _initrd(tree: Path, release: str, work: Path) -> Path:
    """An initrd of busybox, the modules to reach the disks, and guest/start."""
    ramdisk, image = work / "ramdisk", work / "initrd"
    for folder in ("bin", "dev", "proc", "modules", "system"):
        (ramdisk / folder).mkdir(parents=True)
    if not BUSYBOX.exists():
        raise BuildError(f"{BUSYBOX} is missing: install busybox-static")
    shutil.copy(BUSYBOX, ramdisk / "bin/busybox")
    shutil.copy(GUEST / "start", ramdisk / "init")
    (ramdisk / "init").chmod(0o755)
    _boot_modules(tree, release, ramdisk / "modules")
    names = "".join(f"{path.relative_to(ramdisk)}\n" for path in sorted(ramdisk.rglob("*")))
    pack = (str(BUSYBOX), "cpio", "-o", "-H", "newc")
    done = subprocess.run(pack, cwd=ramdisk, input=names.encode(), capture_output=True, check=True)
    image.write_bytes(done.stdout)
    return image


def _lay_out(tree: Path, work: Path) -> None:
    """Turns a kernel's unpacked packages into what QEMU takes: vmlinuz, initrd, modules.ext4 and the release's name."""
    if (tree / "usr/lib/modules").is_dir() and not (tree / "lib").exists():
        (tree / "lib").symlink_to("usr/lib")
    releases = [path.name for path in (tree / "lib/modules").iterdir()]
    if len(releases) != 1:
        raise BuildError(f"the kernel's packages have modules of {' and '.join(releases) or 'no release'}")
    release = releases[0]
    vmlinuz = next((path for path in sorted(tree.rglob("vmlinuz*")) if path.is_file()), None)
    if vmlinuz is None:
        raise BuildError("the kernel's packages have no vmlinuz")
    output("depmod", "--basedir", tree, release)
    _initrd(tree, release, work)
    shutil.move(vmlinuz, work / "vmlinuz")
    _ext4(tree / "lib/modules", work / "modules.ext4")
    (work / "release").write_text(release)


def _kernel(kernel: Kernel, cache: Path, *, fresh: bool) -> Path:
    apt = apt_of(kernel, cache)
    apt.update(now=fresh)
    packages = apt.kernel_packages(kernel.meta)
    place = cache / "kernels" / f"{kernel.name}_{_digest((GUEST / 'start').read_text(), *packages)}"
    if place.is_dir():
        return place
    print(f"  unpacking {' '.join(packages)}", flush=True)
    place.parent.mkdir(exist_ok=True)
    with _workspace(cache) as work:
        apt.unpack(packages, work / "tree")
        made = work / "made"
        made.mkdir()
        _lay_out(work / "tree", made)
        shutil.rmtree(made / "ramdisk")
        for stale in place.parent.glob(f"{kernel.name}_*"):
            shutil.rmtree(stale)
        made.rename(place)
    return place


def prepare(kernel: Kernel, cache: Path, *, fresh: bool = False) -> Parts:
    """Everything to boot this kernel, from the cache or made now. One process at a time makes things.

    ``fresh`` asks for newer package lists now. Raises BuildError.
    """
    if os.geteuid() != 0:
        raise BuildError("making file systems needs root: sudo make vm-test")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in cache.glob("tmp-*"):
            shutil.rmtree(left)  # of a run that was killed
        root = _root(kernel.root, cache)
        place = _kernel(kernel, cache, fresh=fresh)
    release = (place / "release").read_text()
    return Parts(release, place / "vmlinuz", place / "initrd", place / "modules.ext4", root)
