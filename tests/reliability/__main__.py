"""Reliability, with numbers: .venv/bin/python -m tests.reliability [NAMES] [--quick] [--record PAGE], from a checkout.

Needs root, cc and the installed product. The exit status is 1 if anything was not as expected. On two processors a full
run takes about an hour, most of it for kills and swaps; a quick one a minute or two.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tests.e2e.bench import COMMAND

from . import connections, denied, kills, logs, peers, single, swaps
from .ground import Setting, bench_of_its_own, compile_helpers
from .report import Report, page, table

EXPERIMENTS: dict[str, Callable[[Setting], None]] = {
    "kills": kills.run,
    "swaps": swaps.run,
    "peers": peers.run,
    "connections": connections.run,
    "denied": denied.run,
    "logs": logs.run,
    "single": single.run,
}


def story(run: Callable[[Setting], None]) -> str:
    """What an experiment does: its module's docstring."""
    return " ".join((sys.modules[run.__module__].__doc__ or "").split())


def perform(name: str, helpers: Path, quick: bool, part: float) -> Report:
    """One experiment on a bench of its own; what breaks it off is a failed expectation."""
    report = Report(name, story(EXPERIMENTS[name]))
    print(f"{name}: {report.story}", flush=True)
    began = time.monotonic()
    try:
        with bench_of_its_own() as bench:
            EXPERIMENTS[name](Setting(bench, helpers, report, quick, part))
    except (AssertionError, OSError, subprocess.SubprocessError, ValueError, KeyError) as problem:
        traceback.print_exc()
        report.expect(False, "the experiment, to its end", 1, f"{type(problem).__name__}: {problem}"[:400])
    print(f"  {time.monotonic() - began:.0f} s", flush=True)
    return report


def main() -> int:
    """Does the experiments that are named, or all, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(EXPERIMENTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small counts")
    parser.add_argument("--part", type=float, default=1, metavar="X", help="that part of the full counts, e.g. 0.25")
    parser.add_argument("--record", type=Path, metavar="PAGE", help="write the page, e.g. docs/reliability.md")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in EXPERIMENTS]
    if unknown:
        parser.error(f"{unknown[0]} is none of {', '.join(EXPERIMENTS)}")
    if os.geteuid() != 0 or not COMMAND.exists():
        print(f"this needs root, and {COMMAND}; run `sudo make install` first", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was made is removed then, too
    with tempfile.TemporaryDirectory(prefix="kpf-helpers-") as folder:
        compile_helpers(Path(folder))
        reports = [perform(name, Path(folder), options.quick, options.part) for name in options.names or EXPERIMENTS]
    print()
    print(table(reports))
    if options.record:
        words = [".venv/bin/python -m tests.reliability", *options.names, *(["--quick"] if options.quick else [])]
        words += [f"--part {options.part}"] if options.part != 1 else []
        options.record.write_text(page(reports, f"{datetime.now(UTC):%Y-%m-%d}", " ".join(words), os.cpu_count() or 1))
        print(f"\nwritten: {options.record}")
    return 0 if all(one.good for one in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
