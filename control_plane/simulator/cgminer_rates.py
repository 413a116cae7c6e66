"""Hash and shares as a cgminer counts them; LuxOS and WhatsMiner tell them alike, under their own names."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.simulator.machine import Machine, Sample

Windows = Sequence[tuple[str, float | None]]
"""The name that a reply has for MH/s over so many device seconds; over all of its time for `None`."""
_REJECTED_OF = 1_000
"""One share in so many is rejected."""


def rates_by_window(machine: Machine, sample: Sample, windows: Windows) -> dict[str, float]:
    """TH/s by window, under the names that `devs` has for MH/s; nothing without work."""
    if not machine.has_work:
        return {"MHS 5s": 0.0, **{name: 0.0 for name, _ in windows}}
    return {
        "MHS 5s": machine.rate_5s(sample),
        **{name: machine.rate_over(window_s) for name, window_s in windows},
    }


def counted_shares(machine: Machine, share_th: float) -> tuple[int, int]:
    """(accepted, rejected), at so many tera-hashes per share."""
    found = int(machine.work_ths_s() / share_th)
    rejected = found // _REJECTED_OF
    return found - rejected, rejected
