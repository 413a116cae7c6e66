"""Power as people write it."""

from __future__ import annotations

import re

import click

_WATTS = {"w": 1.0, "kw": 1e3, "mw": 1e6}


class Power(click.ParamType[float]):
    """`40MW`, `6500kW`, `800W`; watts. In megawatts the M is large or small, nobody curtails milliwatts."""

    name = "power"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Watts of a text."""
        if isinstance(value, int | float):
            return float(value)
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kKmM]?[wW])", str(value).strip())
        if match is None:
            self.fail(f"'{value}' is no power: write 40MW, 6500kW or 800W", param, ctx)
        return float(match[1]) * _WATTS[match[2].lower()]


POWER = Power()
