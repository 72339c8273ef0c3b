"""Runs tests as root on stock Debian kernels, each in a QEMU machine of its own.

    python tests/vm/run.py --kernels "6.1 6.12" --tests tests/kernel --results FOLDER [-- further pytest arguments]

Per kernel the results folder gets NAME.xml and NAME.N.xml (JUnit, of the Nth boot), NAME.console.txt (everything
that was printed), NAME.dmesg.txt and journals.
The exit status is 0 only if tests ran on every kernel and none failed; 3 if none failed, but a kernel cannot be tried.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from archive import BuildError, output
from image import Parts, prepare
from kernels import KERNELS, Kernel, chosen
from machine import BOOTED, NO_EXIT_LINE, ROOT, Job, Outcome, has_kvm, run
from record import Report, page, table

CACHE = Path("/var/cache/kpf-ebpf-vm")
FROM_CHECKOUT = "tests/kernel"
"""Tests that import the checkout as it is; all others get an installed command."""
BOOT = "tests/boot"
"""Tests of a machine that boots with the package installed; each file of them is one boot."""
TESTS = (FROM_CHECKOUT, "tests/guest", BOOT)
"""What every kernel is tested with."""
LIMIT = 2400
PATIENCE = 6
"""Times longer than elsewhere that the tests wait under emulation."""
TAIL = 25
GUEST_JUNIT = "/run/results/junit.xml"
JUNIT = re.compile(r"junit\S*\.xml")
NOT_BUILT, NOT_BOOTED = "not built", "did not boot"
CANNOT = 3
"""Exit status where nothing failed, but a kernel could not be tried."""
LATER = "99.0"
"""The version of a package that an upgrade is tried with."""


def jobs(tests: list[str], further: list[str], kernel: Kernel) -> list[Job]:
    """The machines that a kernel's tests need: one for those of a boot, one for all others. Raises BuildError."""
    boot = [test for test in tests if Path(test.split("::")[0]).is_relative_to(BOOT)]
    others = [test for test in tests if test not in boot]
    found = [_job(others, further, kernel)] if others else []
    return [*found, _boot_job(further, kernel)] if boot else found


def _patience() -> str:
    return f"export KPF_TEST_PATIENCE={1 if has_kvm() else PATIENCE}"


def _options(kernel: Kernel, file: str) -> list[str]:
    options = ["-p", "no:cacheprovider", "--color=no", f"--junit-xml={file}"]
    return [*options, "-o", f"junit_suite_name=linux-{kernel.name}"]


def _job(tests: list[str], further: list[str], kernel: Kernel) -> Job:
    """Runs in the checkout, as root."""
    inside = all(Path(test.split("::")[0]).is_relative_to(FROM_CHECKOUT) for test in tests)
    python = "PYTHONPATH=/root/kpf-ebpf /usr/bin/python3" if inside else ".venv/bin/python"
    options = [*_options(kernel, GUEST_JUNIT), *tests, *further]
    lines = [] if inside else ["scripts/provision .", "mkdir -p /etc/kpf-ebpf", "touch /etc/kpf-ebpf/no-root-cgroup"]
    return Job("\n".join(["set -eu", _patience(), *lines, f"{python} -P -m pytest {shlex.join(options)}", ""]))


def _boot_job(further: list[str], kernel: Kernel) -> Job:
    """Runs at each boot with that boot's file of tests; two versions of the package are at hand."""
    options = shlex.join(["--exitfirst", *_options(kernel, "FILE"), *further]).replace(
        "FILE", '"$RESULTS/junit-$STAGE.xml"'
    )
    lines = ["set -eu", "cd /root/kpf-ebpf", _patience(), f'/usr/bin/python3 -P -m pytest {options} "$1"', ""]
    return Job("\n".join(lines), packages(), systemd=True)


@cache
def packages() -> dict[str, bytes]:
    """The Debian package of this checkout, and the same as a later version. Raises BuildError."""
    with tempfile.TemporaryDirectory(prefix="kpf-ebpf-deb-") as folder:
        found = {}
        for name, version in (("kpf-ebpf.deb", ""), ("later.deb", LATER)):
            print(f"  building the package {version}", flush=True)
            path = output(ROOT / "scripts/deb", version, folder).split()[-1]
            found[name] = Path(path).read_bytes()
        return found


def read_junit(data: bytes, report: Report) -> None:
    """Counts a JUnit file's tests into the report, with a line for each that failed."""
    tree = ElementTree.fromstring(data)
    report.properties |= {one.get("name", ""): one.get("value", "") for one in tree.iter("property")}
    passed: Counter[str] = Counter()
    for case in tree.iter("testcase"):
        bad = next((part for part in case if part.tag in ("failure", "error")), None)
        if bad is not None:
            report.failed += 1
            message = (bad.get("message") or "").strip().splitlines() or [""]
            report.details.append(f"{case.get('classname')}::{case.get('name')}: {message[0][:300]}")
        elif case.find("skipped") is not None:
            report.skipped += 1
        else:
            report.passed += 1
            passed[(case.get("classname") or "").replace(".", "/")] += 1
    report.properties |= {f"passed {name}": str(count) for name, count in passed.items()}


def judge(report: Report, outcome: Outcome) -> None:
    """Adds a run to the report: nothing is passed that did not say so, in tests and in exit status."""
    report.seconds += outcome.seconds
    before = report.passed
    for name in sorted(outcome.files):
        if JUNIT.fullmatch(name):
            read_junit(outcome.files[name], report)
    verdict = "passed"
    if outcome.status == NO_EXIT_LINE:
        verdict = "no exit line (125)" if BOOTED in outcome.console else NOT_BOOTED
    elif outcome.status:
        verdict = f"exit status {outcome.status}"
    elif report.failed or report.passed == before:
        verdict = "failed" if report.failed else "no test passed"
    elif report.skipped:
        verdict = "skipped tests"  # what a kernel should have, and a test does not find, is a failure
    if verdict != "passed":
        report.verdict = verdict
        if not report.failed:
            report.details += outcome.console.strip().splitlines()[-TAIL:]


def keep(folder: Path, kernel: str, outcomes: list[Outcome]) -> None:
    """Writes what the runs brought back to the results folder."""
    for stale in list(folder.glob(f"{kernel}.*")):
        stale.unlink()
    (folder / f"{kernel}.console.txt").write_text("\n".join(outcome.console for outcome in outcomes))
    for outcome in outcomes:
        for name, content in outcome.files.items():
            kept = re.sub(r"^junit(.*)\.xml$", r"\1.xml", name)
            (folder / f"{kernel}.{kept.lstrip('.-')}").write_bytes(content)


@dataclass(slots=True)
class Machines:
    """A kernel's machines, waiting or at work; ``problem``: why there are none."""

    kernel: Kernel
    release: str = "-"
    outcomes: list[Future[Outcome]] = field(default_factory=list)
    problem: str = ""


def begin(kernel: Kernel, options: argparse.Namespace, pool: ThreadPoolExecutor) -> Machines:
    """Builds what a kernel's machines are made of, and queues them; what cannot be built is a problem."""
    machines = Machines(kernel)
    try:
        parts = prepare(kernel, options.cache, fresh=options.fresh)
        machines.release = parts.release
        for job in jobs(options.tests, options.further, kernel):
            machines.outcomes.append(pool.submit(_boot, kernel, parts, job, options.timeout))
    except BuildError as problem:
        machines.problem = str(problem)
    return machines


def _boot(kernel: Kernel, parts: Parts, job: Job, seconds: int) -> Outcome:
    what = " with systemd" if job.systemd else ""
    print(f"{kernel.name}: booting {parts.release}{what}", flush=True)
    outcome = run(parts, job, seconds)
    print(f"{kernel.name}: ended{what} with {outcome.status} after {outcome.seconds:.0f} s", flush=True)
    return outcome


def finish(machines: Machines, results: Path) -> Report:
    """Waits for a kernel's machines; what they brought back is kept, judged and told."""
    report = Report(machines.kernel.name, machines.release)
    outcomes: list[Outcome] = []
    try:
        outcomes += [future.result() for future in machines.outcomes]
    except BuildError as problem:
        machines.problem = str(problem)
    for outcome in outcomes:
        judge(report, outcome)
    if machines.problem:
        report.verdict = NOT_BUILT
        report.details += machines.problem.splitlines()
    keep(results, report.kernel, outcomes)
    counts = f"{report.passed} passed, {report.failed} failed, {report.skipped} skipped"
    last = f"{report.kernel}: {report.verdict} ({counts}; {report.seconds:.0f} s)"
    print("\n".join([*(f"    {line}" for line in report.details), last]), flush=True)
    return report


def accept(reports: list[Report]) -> None:
    """Writes down what each program costs the verifier of these kernels (tests/kernel/verified.py)."""
    sys.path.insert(0, str(ROOT))
    from tests.kernel import verified

    for report in reports:
        figures = {name[9:]: int(value) for name, value in report.properties.items() if name.startswith("verified ")}
        if figures:
            verified.accept({verified.environment(report.release, report.properties["bcc"]): figures})


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = " ".join(kernel.name for kernel in KERNELS)
    parser.add_argument("--kernels", default="", metavar="NAMES", help=f"of: {names} (default: all)")
    parser.add_argument("--tests", default=list(TESTS), nargs="+", help="for pytest (default: %(default)s)")
    default = Path(os.environ.get("KPF_VM_CACHE") or CACHE)
    parser.add_argument("--cache", type=Path, default=default, help="folder for images (KPF_VM_CACHE; %(default)s)")
    parser.add_argument("--results", type=Path, help="folder for JUnit files and output (default: in the cache)")
    parser.add_argument("--record", type=Path, help="page to write what was found to (docs/kernels.md)")
    parser.add_argument(
        "--timeout", type=int, default=LIMIT, help="seconds per machine and boot (default: %(default)s)"
    )
    parser.add_argument("--accept", action="store_true", help="accept what programs cost the verifier there")
    jobs = max(1, os.cpu_count() or 1)
    parser.add_argument("--jobs", type=int, default=jobs, help="machines at a time (default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="look for newer kernels now; else once a day")
    parser.add_argument("further", nargs="*", help="further arguments for pytest, after --")
    options = parser.parse_args(arguments)
    try:
        options.kernels = chosen(options.kernels)
    except ValueError as problem:
        parser.error(str(problem))
    options.cache = options.cache.resolve()
    options.results = (options.results or options.cache / "results").resolve()
    return options


def main(arguments: list[str]) -> int:
    """Runs the matrix; the exit status."""
    options = parse(arguments)
    options.results.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        begun = [begin(kernel, options, pool) for kernel in options.kernels]
        reports = [finish(machines, options.results) for machines in begun]
    print(f"\n{table(reports)}\nJUnit files and output: {options.results}", flush=True)
    if options.record:
        options.record.write_text(page(reports, datetime.now(UTC).date().isoformat()))
    if options.accept:
        accept(reports)
    bad = {report.verdict for report in reports} - {"passed"}
    return (CANNOT if bad <= {NOT_BUILT, NOT_BOOTED} else 1) if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
