"""What the tap costs the tick: microseconds a leg-frame, amortised over whole chunks.

Run: OPENBLAS_NUM_THREADS=1 python -m benchmarks.tap [--ticks 1000]
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from recorder.tap import TapForm, TapTable

FORMS = (TapForm("pcmu", 8_000), TapForm("s16", 8_000), TapForm("s16", 48_000))


def measure(form: TapForm, legs: int, ticks: int) -> dict[str, float | int | str]:
    """Every leg talks in every tick; three of them are concealed."""
    taps = TapTable(rows_max=legs)
    rows = np.array([taps.open("contact", f"track{leg}", form).index for leg in range(legs)])
    frames = np.zeros((legs, form.samples), np.uint8 if form.codec != "s16" else np.int16)
    concealed = np.zeros(legs, np.bool_)
    concealed[:: max(1, legs // 3)] = True
    durations = []
    for tick in range(ticks):
        start = time.perf_counter()
        taps.write(form, rows, frames, tick, concealed=concealed)
        taps.collect(tick)
        durations.append(time.perf_counter() - start)
    ordered = sorted(durations)
    return {
        "form": f"{form.codec}/{form.rate}",
        "legs": legs,
        "us_per_leg_frame": round(sum(durations) / ticks / legs * 1e6, 3),
        "tick_us_p99": round(ordered[int(ticks * 0.99)] * 1e6, 1),
    }


def main() -> None:
    """Print one JSON object a form and number of legs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, default=1_000)
    ticks = parser.parse_args().ticks
    for legs in (30, 300, 1_200):
        for form in FORMS:
            print(json.dumps(measure(form, legs, ticks)))


if __name__ == "__main__":
    main()
