"""One run of one machine: QEMU, its four disks, its console, and what it hands back."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from archive import BuildError, output
from image import Parts

ROOT = Path(__file__).resolve().parents[2]
QEMU = "qemu-system-x86_64"
CPUS, MEMORY = 2, 1536
RESULTS_ROOM = 64 << 20
NO_EXIT_LINE = 125
END_ROOM = 60
"""Seconds a guest has, after its job is cut off, to boot and to hand out results before QEMU is killed."""
BOOTED = "VMTEST-BOOT"
EMULATION_BROKE = "Oops: int3"
"""A kernel that patches its own code can trip over its own breakpoint under emulation with several threads."""
TRIES = 3
SYSTEMD = "kpf.systemd systemd.getty_auto=no systemd.show_status=no"
"""What the kernel hands on to guest/start, and to systemd."""
EXIT_LINE = re.compile(r"^VMTEST-EXIT (\d+)$", re.MULTILINE)
KVM = (Path("/sys/module/kvm_intel"), Path("/sys/module/kvm_amd"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: the job's exit status (125: the machine never said), the console's text, the files it left."""

    status: int
    seconds: float
    console: str
    files: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Job:
    """What a machine is started for: a shell script, run in the checkout by guest/init, with files beside it.

    ``systemd``: the machine boots as machines do, guest/boot runs the script at each boot, and it may start it anew.
    """

    script: str
    files: dict[str, bytes] = field(default_factory=dict)
    systemd: bool = False


def has_kvm() -> bool:
    """Whether a module of the processor's maker is loaded; /dev/kvm alone may be there and not work."""
    return any(path.exists() for path in KVM)


def accelerator() -> list[str]:
    """The processor: the machine's own, or an emulated one."""
    if has_kvm():
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,thread=multi", "-cpu", "Nehalem"]


def _checkout() -> list[str]:
    """What git tracks or would track: the files that are there, relative to the checkout."""
    command = ("git", "-c", f"safe.directory={ROOT}", "-C", ROOT, "ls-files", "-z", "-co", "--exclude-standard")
    return sorted({name for name in output(*command).split("\0") if name and (ROOT / name).is_file()})


def payload(job: Job, seconds: int) -> bytes:
    """The disk that the guest unpacks to /root: the checkout, the job's files, its script and its time limit."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in _checkout():
            member = tar.gettarinfo(ROOT / name, f"kpf-ebpf/{name}")
            member.uid = member.gid = 0
            member.uname = member.gname = "root"
            if member.isreg():
                with (ROOT / name).open("rb") as file:
                    tar.addfile(member, file)
            else:
                tar.addfile(member)
        for name, content in {**job.files, "job": job.script.encode(), "limit": f"{seconds}\n".encode()}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


def _disk(path: Path, options: str) -> list[str]:
    if "," in str(path):
        raise BuildError(f"QEMU takes no comma in a path: {path}")
    return ["-drive", f"file={path},format=raw,if=virtio,{options}"]


def _command(parts: Parts, systemd: bool, work: Path) -> list[str]:
    """The command line; the order of the disks is what guest/start, guest/init and guest/boot expect."""
    kernel = f"console=ttyS0 quiet loglevel=1 panic=-1 oops=panic {SYSTEMD if systemd else ''}"
    return [
        QEMU, "-nodefaults", "-no-user-config", "-display", "none", *([] if systemd else ["-no-reboot"]),
        *accelerator(), "-smp", str(CPUS), "-m", str(MEMORY), "-kernel", str(parts.vmlinuz),
        "-initrd", str(parts.initrd), "-append", kernel, "-serial", f"file:{work}/console",
        *_disk(parts.root, "snapshot=on"), *_disk(parts.modules, "readonly=on"),
        *_disk(work / "payload", "readonly=on"), *_disk(work / "results", "cache=unsafe"),
    ]  # fmt: skip


def _files(disk: Path) -> dict[str, bytes]:
    """The files of the results disk; none if the guest wrote nothing, or not to the end."""
    files = {}
    try:
        with tarfile.open(disk, "r:") as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is not None:
                    files[member.name.removeprefix("./")] = content.read()
    except tarfile.TarError:
        return {}
    return files


def run(parts: Parts, job: Job, seconds: int) -> Outcome:
    """Boots a machine, runs the job in it, and returns when it is off, or killed after the time limit and a bit.

    A machine that does not come as far as the job, or that breaks by a known fault of the emulation, is started anew;
    a job is never run again because of what it said.
    """
    for left in reversed(range(TRIES)):
        outcome = _run_once(parts, job, seconds)
        broke = BOOTED not in outcome.console or EMULATION_BROKE in outcome.console
        if outcome.status != NO_EXIT_LINE or not broke or not left:
            break
        print(f"  the machine broke after {outcome.seconds:.0f} s, before it ran the job to its end; again", flush=True)
    return outcome


def _run_once(parts: Parts, job: Job, seconds: int) -> Outcome:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kpf-ebpf-vm-") as folder:
        work = Path(folder)
        (work / "payload").write_bytes(payload(job, seconds))
        with (work / "results").open("wb") as disk:
            disk.truncate(RESULTS_ROOM)
        (work / "console").touch()
        note = ""
        try:
            done = subprocess.run(
                _command(parts, job.systemd, work),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds + END_ROOM,
            )
            note = done.stderr
        except FileNotFoundError as missing:
            raise BuildError(f"{QEMU} is missing: run this by `make vm-test`, which installs it") from missing
        except subprocess.TimeoutExpired:
            note = f"killed after {seconds + END_ROOM} s\n"
        console = (work / "console").read_text("utf-8", "replace").replace("\r", "") + note
        files = _files(work / "results")
    said = EXIT_LINE.findall(console)
    return Outcome(int(said[-1]) if said else NO_EXIT_LINE, time.monotonic() - started, console, files)
