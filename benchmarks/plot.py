"""The plot of a machine's outer steps: tasks per second against the number of tasks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.table import Row

# Okabe and Ito's colours, which differ for the colour-blind too; peers are grey and black, and dashed.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D1F", "#F0E442")
PEERS = {"learn2learn": "#000000", "parallel-metalearn": "#7F7F7F"}


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Writes a PNG with a panel for each case that has more than one number of tasks, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curves = curves_of(rows)
    width = len(curves)
    figure, panels = pyplot.subplots(1, width, figsize=(3.4 * width, 4.2), sharey=True, squeeze=False)
    styles = styles_of(rows)
    for panel, (case, lines) in zip(panels[0], curves.items(), strict=True):
        for contestant, points in lines.items():
            panel.plot(*zip(*sorted(points), strict=True), label=contestant, markersize=3.5, **styles[contestant])
        ticks = sorted({n_tasks for points in lines.values() for n_tasks, _ in points})
        panel.set(title=case, xlabel="tasks in a batch, T", xscale="log", yscale="log")
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
        panel.minorticks_off()
        panel.tick_params(labelsize=8)
        panel.yaxis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
        panel.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        panel.grid(alpha=0.3)
        panel.title.set_fontsize(10)
    panels[0][0].set_ylabel("tasks per second")
    legends = [zip(*panel.get_legend_handles_labels(), strict=True) for panel in panels[0]]
    handles = {label: line for legend in legends for line, label in legend}
    figure.suptitle(title, fontsize=11)
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=min(len(handles), 5), fontsize=8.5)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def curves_of(rows: Sequence[Row]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Case -> contestant -> its points (T, tasks per second), of the cases with several T."""
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in rows:
        case, contestant, n_tasks, speed = (row.get(k) for k in ("case", "contestant", "n_tasks", "tasks_per_second"))
        if isinstance(n_tasks, int) and isinstance(speed, float):
            curves.setdefault(str(case), {}).setdefault(str(contestant), []).append((n_tasks, speed))
    return {case: lines for case, lines in curves.items() if len({t for p in lines.values() for t, _ in p}) > 1}


def styles_of(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Each contestant's colour and line, the same in every panel; what users get is thicker."""
    ours = [name for name in dict.fromkeys(str(row["contestant"]) for row in rows) if name not in PEERS]
    styles: dict[str, dict[str, Any]] = {
        name: {"color": COLOURS[n % len(COLOURS)], "marker": "o", "linewidth": 2.6 if " auto" in name else 1.3}
        for n, name in enumerate(ours)
    }
    peers = {name: {"color": colour, "marker": "s", "linestyle": "--"} for name, colour in PEERS.items()}
    return styles | peers
