"""draw(found): the ratios as bars, a panel for each metric."""

from __future__ import annotations

import statistics
from pathlib import Path


def draw(found: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Write an SVG file. Bars are medians over the rounds; longer than the panel: the number stands at its end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    metrics = list(next(iter(found.values())))
    names = list(found)[::-1]
    figure, panels = pyplot.subplots(1, len(metrics), figsize=(3 * len(metrics), 0.35 * len(names) + 1), sharey=True)
    for panel, metric in zip(panels, metrics, strict=True):
        values = [statistics.median(found[name][metric]) for name in names]
        colours = ["#2a7" if name.startswith("kpf") else "#999" for name in names]
        panel.barh(names, values, color=colours)
        panel.set_xlim(0.9, 2)
        panel.axvline(1, color="black", linewidth=0.8)
        panel.set_title(metric, fontsize=9)
        for place, value in enumerate(values):
            panel.text(min(value, 1.75) + 0.02, place, f"{value:.2f}", va="center", fontsize=7)
    figure.tight_layout()
    figure.savefig(path)
