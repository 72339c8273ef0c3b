"""Runs tests as root on stock Debian kernels, each in a QEMU machine of its own.

    python tests/vm/run.py --kernels "6.1 6.12" --tests tests/kernel --results FOLDER [-- further pytest arguments]

Per kernel the results folder gets NAME.xml (JUnit), NAME.console.txt (everything that was printed) and NAME.dmesg.txt.
The exit status is 0 only if on every kernel tests ran and none failed.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from pathlib import Path

from archive import BuildError
from image import prepare
from kernels import KERNELS, Kernel, chosen
from machine import NO_EXIT_LINE, Outcome, has_kvm, run
from record import Report, page, table

CACHE = Path("/var/cache/kpf-ebpf-vm")
FROM_CHECKOUT = "tests/kernel"
"""Tests that import the checkout as it is; all others get an installed command."""
TESTS = (FROM_CHECKOUT, "tests/guest")
"""What every kernel is tested with."""
LIMIT = 1500
PATIENCE = 6
"""Times longer than elsewhere that the tests wait under emulation."""
TAIL = 25
GUEST_JUNIT = "/run/results/junit.xml"


def job(tests: list[str], further: list[str], kernel: Kernel) -> str:
    """The shell script that runs in the guest, in the checkout, as root."""
    inside = all(Path(test.split("::")[0]).is_relative_to(FROM_CHECKOUT) for test in tests)
    python = "PYTHONPATH=/root/kpf-ebpf /usr/bin/python3" if inside else ".venv/bin/python"
    options = ["-p", "no:cacheprovider", "--color=no", f"--junit-xml={GUEST_JUNIT}"]
    options += ["-o", f"junit_suite_name=linux-{kernel.name}", *tests, *further]
    lines = [] if inside else ["make install", "mkdir -p /etc/kpf-ebpf", "touch /etc/kpf-ebpf/no-root-cgroup"]
    patience = f"export KPF_TEST_PATIENCE={1 if has_kvm() else PATIENCE}"
    return "\n".join(["set -eu", patience, *lines, f"{python} -P -m pytest {shlex.join(options)}", ""])


def read_junit(data: bytes, report: Report) -> None:
    """Counts a JUnit file's tests into the report, with a line for each that failed."""
    tree = ElementTree.fromstring(data)
    report.properties = {one.get("name", ""): one.get("value", "") for one in tree.iter("property")}
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


def judge(report: Report, outcome: Outcome) -> None:
    """Fills the report from a run: nothing is passed that did not say so, in tests and in exit status."""
    report.seconds = outcome.seconds
    junit = outcome.files.get("junit.xml")
    if junit:
        read_junit(junit, report)
    if outcome.status == NO_EXIT_LINE:
        report.verdict = "no exit line (125)"
    elif outcome.status:
        report.verdict = f"exit status {outcome.status}"
    elif report.failed or not report.passed:
        report.verdict = "no test passed" if not report.passed else "failed"
    if report.verdict != "passed" and not report.failed:
        report.details += outcome.console.strip().splitlines()[-TAIL:]


def keep(folder: Path, kernel: str, outcome: Outcome) -> None:
    """Writes what a run brought back to the results folder."""
    (folder / f"{kernel}.console.txt").write_text(outcome.console)
    for name, kept in (("junit.xml", f"{kernel}.xml"), ("dmesg.txt", f"{kernel}.dmesg.txt")):
        (folder / kept).unlink(missing_ok=True)
        if name in outcome.files:
            (folder / kept).write_bytes(outcome.files[name])


def test_kernel(kernel: Kernel, options: argparse.Namespace) -> Report:
    """Runs the tests on one kernel; what cannot be built or started is a failure like any other."""
    report = Report(kernel.name)
    try:
        parts = prepare(kernel, options.cache, fresh=options.fresh)
        report.release = parts.release
        print(f"{kernel.name}: booting {parts.release}", flush=True)
        outcome = run(parts, job(options.tests, options.further, kernel), options.timeout)
    except BuildError as problem:
        report.verdict = "not built"
        report.details += str(problem).splitlines()
    else:
        keep(options.results, kernel.name, outcome)
        judge(report, outcome)
    for line in report.details:
        print(f"    {line}", flush=True)
    counts = f"{report.passed} passed, {report.failed} failed, {report.skipped} skipped"
    print(f"{kernel.name}: {report.verdict} ({counts}; {report.seconds:.0f} s)", flush=True)
    return report


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
    parser.add_argument("--timeout", type=int, default=LIMIT, help="seconds per kernel (default: %(default)s)")
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
    """Runs the matrix; 0 only if all of it passed."""
    options = parse(arguments)
    options.results.mkdir(parents=True, exist_ok=True)
    reports = [test_kernel(kernel, options) for kernel in options.kernels]
    print(f"\n{table(reports)}\nJUnit files and output: {options.results}", flush=True)
    if options.record:
        options.record.write_text(page(reports, datetime.now(UTC).date().isoformat()))
    return 0 if all(report.verdict == "passed" for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
