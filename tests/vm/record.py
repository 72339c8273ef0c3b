"""What was found on each kernel: as a table for the terminal, and as the page docs/kernels.md."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Report:
    """What the table says about a kernel."""

    kernel: str
    release: str = "-"
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0
    verdict: str = "passed"
    properties: dict[str, str] = field(default_factory=dict)
    details: list[str] = field(default_factory=list)


def table(reports: list[Report]) -> str:
    """The reports in columns, a kernel a line."""
    rows = [("kernel", "release", "passed", "failed", "skipped", "seconds", "result")]
    for report in reports:
        counts = (str(report.passed), str(report.failed), str(report.skipped), f"{report.seconds:.0f}")
        rows.append((report.kernel, report.release, *counts, report.verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def page(reports: list[Report], date: str) -> str:
    """The page: results, what each kernel can do, and what each program costs its verifier."""
    lines = ["# Kernels", "", f"Written by `make vm-test` on {date}; not by hand.", "", "## Results", ""]
    head = ("kernel", "release", "BCC", "scripts are known", "passed", "failed", "skipped", "result")
    lines += _markdown(
        head,
        [
            (
                one.kernel, one.release, one.properties.get("bcc", "-"), one.properties.get("scripts", "-"),
                str(one.passed), str(one.failed), str(one.skipped), one.verdict,
            )
            for one in reports
        ],
    )  # fmt: skip
    lines += _table("Tests passed, by file", "file", "passed ", reports)
    lines += _table("Hooks", "hook", "hook ", reports)
    lines += _table("Features", "feature", "feature ", reports)
    lines += _table("What `kpf-ebpf doctor` found", "is there", "doctor ", reports)
    lines += _costs("Instructions that the verifier walked", "verified ", reports)
    lines += _costs("Milliseconds that it took, emulated", "loaded ", reports)
    return "\n".join([*lines, ""])


def _table(title: str, head: str, prefix: str, reports: list[Report]) -> list[str]:
    """A table of properties of this kind by kernels, in the order in which they were first told."""
    names = list(dict.fromkeys(name for one in reports for name in one.properties if name.startswith(prefix)))
    rows = [(name.removeprefix(prefix), *(one.properties.get(name, "-") for one in reports)) for name in names]
    return ["", f"## {title}", "", *_markdown((head, *(one.kernel for one in reports)), rows)]


def _costs(title: str, prefix: str, reports: list[Report]) -> list[str]:
    """A table of programs by kernels, with the sum of each kernel's."""
    values = [[float(value) for name, value in one.properties.items() if name.startswith(prefix)] for one in reports]
    sums = ("all", *(f"{sum(one):.0f}" for one in values))
    return [*_table(title, "program", prefix, reports), f"| {' | '.join(sums)} |"]


def _markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]
