"""draw(network, folder): what each firewall adds to the cost of no firewall, by its number of rules."""

from __future__ import annotations

from pathlib import Path

from .contenders import AGAIN, EMPTY, NONE
from .network import METRICS, Network

STYLES = {
    "kpf-ebpf": ("#137a4b", "o"),
    "nft rules": ("#c2571a", "s"),
    "nft map": ("#d99a2b", "D"),
    "iptables": ("#3567b0", "^"),
    "OpenSnitch": ("#8a4fa3", "X"),
}
LEAST = 0.5
"""Per cent; what is less is drawn there."""
TICKS = (1, 3, 10, 30, 100, 300, 1000, 5000)
UNITS = {"connect": "time", "handshake": "time", "exchange": "time"}


def draw(network: Network, folder: Path) -> None:
    """Write performance.svg, and the same as .png: a panel for each metric, medians with their quartiles."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "kpf-ebpf"  # the same figures make the same file
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 3, figsize=(11, 7), sharex=True)
    for panel, metric in zip(panels.flat, METRICS, strict=True):
        for kind, (colour, marker) in STYLES.items():
            counts = sorted(int(name.rpartition(" ")[2]) for name in network.costs if name.startswith(f"{kind} "))
            ratios = [network.ratio(f"{kind} {count}", metric) for count in counts]
            added, low, high = (
                [max(LEAST, (getattr(ratio, which) - 1) * 100) for ratio in ratios]
                for which in ("median", "low", "high")
            )
            panel.fill_between(counts, low, high, color=colour, alpha=0.15, linewidth=0)
            panel.plot(counts, added, color=colour, marker=marker, markersize=5, linewidth=1.5, label=kind)
        floor = network.ratio(EMPTY, metric)
        panel.axhline((floor.median - 1) * 100, color="#555", linewidth=1, linestyle="--", label=EMPTY)
        noise = max(abs(network.ratio(AGAIN, metric).median - 1) * 100, LEAST)
        panel.axhspan(LEAST, noise, color="#ccc", alpha=0.5, linewidth=0, label=f"{NONE}, twice: noise")
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlim(6, 17_000)
        panel.set_ylim(LEAST, 8000)
        panel.set_xticks((10, 1000, 10_000), ("10", "1,000", "10,000"))
        panel.set_yticks(TICKS, [f"+{tick:,} %" for tick in TICKS])
        panel.minorticks_off()
        panel.grid(axis="y", color="#eee")
        panel.set_title(f"{metric} ({UNITS.get(metric, 'processor time')})", fontsize=10)
    for panel in panels[-1]:
        panel.set_xlabel("rules")
    figure.suptitle("What a firewall adds to the cost of none (logarithmic; less is better)", fontsize=12)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    figure.savefig(folder / "performance.svg", metadata={"Date": None})
    figure.savefig(folder / "performance.png", dpi=110)
    pyplot.close(figure)
