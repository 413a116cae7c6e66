"""Durations as people write them."""

from __future__ import annotations

import re

import click

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


class Duration(click.ParamType[float]):
    """`90m`, `4h`, `2d`; seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds of a text."""
        if isinstance(value, int | float):
            return float(value)
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", str(value).strip())
        if match is None or float(match[1]) <= 0:
            self.fail(f"'{value}' is not a duration: write 90m, 4h or 2d", param, ctx)
        return float(match[1]) * _SECONDS[match[2]]


DURATION = Duration()
