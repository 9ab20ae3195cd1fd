"""What the tap costs the tick: microseconds a leg-frame, amortised over whole chunks.

Run: OPENBLAS_NUM_THREADS=1 python benchmarks/tap.py
"""

from __future__ import annotations

import json
import time

import numpy as np

from recorder.tap import TapForm, TapTable

TICKS = 1_000
FORMS = (TapForm("pcmu", 8_000), TapForm("s16", 8_000), TapForm("s16", 48_000))


def measure(form: TapForm, legs: int) -> dict[str, float | int | str]:
    """Every leg talks in every tick; three of them are concealed."""
    taps = TapTable(rows_max=legs)
    rows = np.array([taps.open("contact", f"track{leg}", form).index for leg in range(legs)])
    frames = np.zeros((legs, form.samples), np.uint8 if form.codec != "s16" else np.int16)
    concealed = np.zeros(legs, np.bool_)
    concealed[:: max(1, legs // 3)] = True
    durations = []
    for tick in range(TICKS):
        start = time.perf_counter()
        taps.write(form, rows, frames, tick, concealed=concealed)
        taps.collect(tick)
        durations.append(time.perf_counter() - start)
    ordered = sorted(durations)
    return {
        "form": f"{form.codec}/{form.rate}",
        "legs": legs,
        "us_per_leg_frame": round(sum(durations) / TICKS / legs * 1e6, 3),
        "tick_us_p99": round(ordered[int(TICKS * 0.99)] * 1e6, 1),
    }


if __name__ == "__main__":
    for legs in (30, 300, 1_200):
        for form in FORMS:
            print(json.dumps(measure(form, legs)))
