"""The matrix as data: which kernel, from which suites, on which root; and the packages that a root has."""

from __future__ import annotations

from dataclasses import dataclass

SECURITY = "-security"
"""How the name of a suite ends that is in the security archive."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A stock Debian kernel. Its packages are what the meta package depends on, whatever their names are today."""

    name: str
    suites: tuple[str, ...]
    root: str
    meta: str = "linux-image-amd64"


KERNELS = (
    Kernel("5.10", ("bullseye", "bullseye-security"), root="bookworm"),
    Kernel("6.1", ("bookworm", "bookworm-security"), root="bookworm"),
    Kernel("6.12", ("bookworm", "bookworm-security"), root="bookworm", meta="linux-image-6.12-amd64"),
    Kernel("6.12-trixie", ("trixie", "trixie-security"), root="trixie"),
    Kernel("7.3", ("trixie-backports",), root="trixie"),
)

PACKAGES = (
    "bind9-dnsutils", "btrfs-progs", "curl", "dbus", "dnsmasq-base", "e2fsprogs", "fuse3", "gcc", "iproute2",
    "iputils-ping", "kmod", "libc6-dev", "make", "man-db", "ncat", "procps", "python3", "python3-bpfcc",
    "python3-cattr", "python3-click", "python3-dnspython", "python3-hypothesis", "python3-pip", "python3-psutil",
    "python3-pyroute2", "python3-pytest", "python3-rich", "python3-setuptools", "python3-venv", "python3-wheel",
    "squashfs-tools", "squashfuse", "systemd", "systemd-sysv", "util-linux", "wireguard-tools",
)  # fmt: skip
"""What `make install`, the package and the tests need; the guest has no network to fetch more."""


def chosen(names: str) -> tuple[Kernel, ...]:
    """The kernels of these names, in the matrix' order; all for an empty text. Raises ValueError for unknown names."""
    wanted = names.split()
    unknown = set(wanted) - {kernel.name for kernel in KERNELS}
    if unknown:
        known = " ".join(kernel.name for kernel in KERNELS)
        raise ValueError(f"no such kernel: {' '.join(sorted(unknown))}; there are {known}")
    return tuple(kernel for kernel in KERNELS if not wanted or kernel.name in wanted)
