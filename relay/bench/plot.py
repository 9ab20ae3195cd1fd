"""A picture of a benchmark: what a person would rather look at than numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from relay.bench.search import TICK_MS_MAX
from relay.errors import OperatorError

Result = dict[str, Any]
Axes = Any
"""matplotlib's; its types leave too much open to be checked."""
Counts = list[tuple[float, int]]
"""The upper edge of each bucket that is not empty, in milliseconds, and how many fell into it."""

_BLUE, _ORANGE, _GREY, _RED, _GREEN = "#1f5a91", "#d9822b", "#8a8f98", "#b3261e", "#2e7d4f"
_INCHES: Final = (12.0, 8.0)


def check(path: Path) -> None:
    """Raises `OperatorError` where a picture could not be written later."""
    existed = path.exists()
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise OperatorError(f"--plot: cannot write {path}: {error.strerror}") from error
    if not existed:
        path.unlink()


def draw(result: Result, distributions: dict[str, Counts], path: Path) -> None:
    """Write a PNG of a result, with the distributions that stand behind its percentiles."""
    # Imported when something is to be drawn: it takes a second. Figure draws with Agg, without any display.
    from matplotlib.figure import Figure  # noqa: PLC0415 - see above

    figure: Any = Figure(figsize=_INCHES, layout="constrained")
    figure.suptitle(_title(result), fontsize=14, fontweight="bold")
    cells: list[Axes] = [figure.add_subplot(2, 2, place) for place in range(1, 5)]
    for axes in cells:
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(11)
    _ticks(cells[0], distributions)
    _costs(cells[1], result)
    _delays(cells[2], result, distributions)
    if "tried" in result:
        _runs(cells[3], result)
    else:
        _summary(cells[3], result)
    figure.supxlabel(result["machine"], fontsize=9, color=_GREY)
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as error:
        raise OperatorError(f"--plot: cannot write {path}: {error.strerror}") from error


def _title(result: Result) -> str:
    work = "callers in a queue" if result["queue"] else f"legs in conferences of {result['conference']}"
    if not result["queue"] and result["conference"] == 2:
        work = "legs in calls of two"
    traits = [result["codec"], "SRTP" if result["srtp"] else "plain RTP", *(["recorded"] if result["record"] else [])]
    if "busy" in result:
        done = result["busy"]
        traits.append(f"beside {done['setups']} set-ups and {done['logins']} log-ins")
    return f"{result['legs']} {work} · {' · '.join(traits)} · {result['seconds']:g} s"


def _ticks(axes: Axes, distributions: dict[str, Counts]) -> None:
    for name, said, colour in (("tick_ms", "duration", _BLUE), ("tick_late_ms", "lateness", _ORANGE)):
        edges, counts = _columns(distributions[name])
        slower = 1 - np.cumsum(counts) / max(counts.sum(), 1)
        floor = 0.5 / max(float(counts.sum()), 1.0)
        axes.step(
            np.concatenate([[0.0], edges]),
            np.concatenate([[1.0], slower]).clip(floor),
            where="post",
            color=colour,
            label=said,
            linewidth=1.8,
        )
    axes.axvline(TICK_MS_MAX, color=_RED, linestyle="--", linewidth=1)
    axes.text(TICK_MS_MAX, 0.6, " next tick is due", color=_RED, fontsize=8)
    axes.axhline(0.01, color=_GREY, linestyle=":", linewidth=1)
    axes.annotate("p99", (1, 0.01), (-4, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
                  color=_GREY, fontsize=8, ha="right")  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_percent)
    axes.set_xlim(0, max(TICK_MS_MAX * 1.25, *(float(_columns(each)[0].max(initial=0)) for name, each in
                                               distributions.items() if name.startswith("tick"))))  # fmt: skip
    axes.set_title("Ticks longer, or later, than …")
    axes.set_xlabel("ms")
    axes.set_ylabel("share of ticks")
    axes.legend(frameon=False, fontsize=9)


def _costs(axes: Axes, result: Result) -> None:
    names = ["relay", "yardstick: kernel and\nlibsrtp alone", "telephones\n(the load)"]
    figures = ("cpu_ms_per_leg_second", "yardstick_cpu_ms_per_leg_second", "load_cpu_ms_per_leg_second")
    values = [float(result[figure]) for figure in figures]
    bars = axes.barh(names, values, color=[_BLUE, _GREY, "#c9ccd1"], height=0.6)
    axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=4)
    axes.invert_yaxis()
    axes.set_xlim(0, max(values) * 1.15)
    axes.set_title("CPU a leg-second")
    axes.set_xlabel("ms")


def _delays(axes: Axes, result: Result, distributions: dict[str, Counts]) -> None:
    axes.set_title("Mouth to ear, packetisation not counted")
    edges, counts = _columns(distributions["mouth_to_ear_ms"])
    if not counts.size:
        axes.text(0.5, 0.5, "nobody hears another here", ha="center", va="center", color=_GREY)
        axes.set_axis_off()
        return
    axes.bar(edges - 1, counts / counts.sum(), width=1.0, align="edge", color=_BLUE)
    highest = float((counts / counts.sum()).max())
    for name, height in (("p50", 1.12), ("p99", 1.04)):
        at = float(result["mouth_to_ear_ms"][name])
        axes.axvline(at, color=_ORANGE, linewidth=1.5)
        axes.text(at, highest * height, f" {name} {at:.0f} ms", color=_ORANGE, fontsize=9)
    axes.yaxis.set_major_formatter(_percent)
    axes.set_xlim(0, float(edges.max()) * 1.15)
    axes.set_ylim(0, highest * 1.2)
    axes.set_xlabel("ms")
    axes.set_ylabel("share of marks heard")


def _runs(axes: Axes, result: Result) -> None:
    tried = sorted(result["tried"], key=lambda run: run["legs"])
    legs = [run["legs"] for run in tried]
    colours = [_GREEN if run["good"] else _GREY if run["void"] else _RED for run in tried]
    axes.plot(legs, [run["cpu_ms_per_leg_second"] for run in tried], color=_BLUE, linewidth=1.2, label="relay")
    axes.plot(legs, [run["yardstick_cpu_ms_per_leg_second"] for run in tried], color=_GREY, linewidth=1, linestyle="--",
              label="yardstick")  # fmt: skip
    axes.scatter(legs, [run["cpu_ms_per_leg_second"] for run in tried], c=colours, s=45, zorder=3)
    axes.set_ylim(0, max(run["cpu_ms_per_leg_second"] for run in tried) * 1.1)
    axes.set_xlabel("legs")
    axes.set_ylabel("CPU ms a leg-second", color=_BLUE)
    late = axes.twinx()
    late.plot(legs, [run["tick_ms"]["p99"] for run in tried], color=_ORANGE, linewidth=1.2, marker=".")
    late.axhline(TICK_MS_MAX, color=_RED, linestyle="--", linewidth=1)
    late.set_ylim(0)
    late.set_ylabel("tick p99, ms", color=_ORANGE)
    late.spines["top"].set_visible(False)
    limit = {"load": ", limited by the load"}.get(result["limited_by"], "")
    axes.set_title(f"Runs tried: {result['max_legs']} legs go well{limit}\n(green: good, red: not, grey: void)")
    axes.legend(frameon=False, fontsize=9, loc="lower left")


def _summary(axes: Axes, result: Result) -> None:
    axes.set_axis_off()
    axes.set_title("What came of it")
    exact = result["content_ok_legs"]
    lines = [
        (f"{exact} of {result['legs']} legs heard exactly what they ought to", exact == result["legs"]),
        (f"{result['delivered_ratio']:.2%} of packets delivered", result["delivered_ratio"] >= 0.995),
        (f"{result['missed_ticks']} ticks missed", result["missed_ticks"] == 0),
        (f"{result['concealed_ratio']:.2%} of frames made up", result["concealed_ratio"] < 0.01),
        (f"telephones late by {result['load_late_ms']['p99']} ms (p99)", not result["void"]),
    ]
    if result["record"]:
        whole = result["recorded_tracks"] >= 2 * result["legs"]
        lines.append((f"{result['recorded_tracks']} tracks recorded", whole))
    if result["void"]:
        lines.append(("VOID: the load was the bottleneck", False))
    for row, (said, good) in enumerate(lines):
        height = 0.92 - row * 0.13
        axes.text(0.03, height, "●", color=_GREEN if good else _RED, fontsize=13, va="center")
        axes.text(0.10, height, said, fontsize=11, va="center")


def _percent(share: float, _: int) -> str:
    return f"{share * 100:g} %"


def _columns(distribution: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Edges and counts."""
    table = np.array(distribution, np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
