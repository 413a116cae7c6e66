"""The reference page on meters: register maps, what answers mean, and what is believed."""

from __future__ import annotations

from control_plane.core import limits
from control_plane.core.meter import Quality
from control_plane.core.meter_bias import WORDS, Suspicion
from control_plane.core.meter_maps import MAPS, Point, Quantity, RegisterMap, blocks

_QUALITIES = {
    Quality.GOOD: "believed",
    Quality.JUMP: "up by more than {jump:.0%} of its range since the reading before; believed once the next "
    "agrees. Down is believed at once",
    Quality.MISSING: 'no number, or the mark for "not measured"',
    Quality.NEGATIVE: "power flows out, without `two_way`; what its class allows below 0 is good",
    Quality.OUT_OF_RANGE: "more than its current transformers can measure",
    Quality.STUCK: "power, volts, counters: every number the same for {stuck} intervals while power flows",
}
_RATIOS = {
    Suspicion.TIMES_TEN: "10, 100, 1,000 or a part of them",
    Suspicion.REVERSED: "-1",
    Suspicion.CT_DEAD: "2/3",
    Suspicion.CT_REVERSED: "1/3",
    Suspicion.ABOVE: "above {most}",
    Suspicion.BELOW: "below {least}",
}
_EXCEPTIONS = """\
| code | named | who acts |
| --- | --- | --- |
| 01, 02, 03 | `WrongMap` | who declared it: `model`, `register_offset` |
| 04, 08 | `HardwareFault` | who looks after the meter |
| 05, 06 | `MeterBusy` | nobody: it is asked again |
| 0A | `NoPath` | who set the gateway up |
| 0B | `MeterSilent` | who looks after the meter: cable, power; or `unit` |
| none in {reply:g} s | `Unreachable` | who looks after the gateway |
| anything else | `UnexpectedReply` | something else stands at the address |

A gateway or meter that was silent is left alone for {first:g} s, then twice as long each time, up
to {last:g} s.
"""


def meters_page(made: str) -> str:
    """The page."""
    numbers = {
        "jump": limits.METER_JUMP_SHARE,
        "stuck": limits.METER_STUCK_INTERVALS,
        "least": limits.METER_BIAS_MIN,
        "most": limits.METER_BIAS_MAX,
        "reply": limits.METER_REPLY_DEADLINE_S,
        "first": limits.METER_BACKOFF_MIN_S,
        "last": limits.METER_BACKOFF_MAX_S,
    }
    qualities = [f"| `{one}` | {_QUALITIES[one].format(**numbers)} |" for one in Quality]
    ratios = [f"| {_RATIOS[one].format(**numbers)} | `{one}` | {WORDS[one]} |" for one in Suspicion]
    return "\n".join(
        [
            "# Meters\n",
            made,
            "[How to declare and read them](../how-to/meters.md)\n",
            "## Answers\n",
            _EXCEPTIONS.format(**numbers),
            "## Readings\n",
            (
                f"A reading is stale after {limits.METER_STALE_INTERVALS} intervals of its meter. One from "
                "the future counts as such.\n"
            ),
            "| quality | |\n| --- | --- |",
            "\n".join(qualities) + "\n",
            "## A meter against its devices\n",
            (
                "What flows through a meter less what is declared as unmanaged, over what the devices below\n"
                f"it say: within {limits.METER_BIAS_MIN:g} and {limits.METER_BIAS_MAX:g} it corrects their "
                f"sum, slowly ({limits.METER_BIAS_TAU_S:g} s). Outside somebody looks. Caps\n"
                "count the larger of meter and corrected sum. With more than "
                f"{limits.METER_DARK_SHARE:.0%} of the devices dark nothing is\ncompared. The first "
                "four ratios are those of the meter over all that should flow, unmanaged load too.\n"
            ),
            "| ratio | named | likely, and what to do |\n| --- | --- | --- |",
            "\n".join(ratios) + "\n",
            "## Register maps\n",
            (
                "By `model` of a declaration. Addresses are as on the wire, from 0. Each is read in as few "
                "requests as the\nmeter takes.\n"
            ),
            *(_map(one) for one in MAPS.values()),
        ]
    )


def _map(one: RegisterMap) -> str:
    rows = [f"| `{point.quantity}` | {_where(point)} | {_unit(point)} |" for point in one.points]
    asked = ", ".join(f"{block.start}-{block.start + block.count - 1}" for block in blocks(one))
    holds = "".join(f"; {address} has to hold {value}" for address, value in one.expects)
    return "\n".join(
        [
            f"### `{one.name}`\n",
            f"{one.title}. Function {one.function}, asks for {asked}{holds}.\n",
            "| quantity | registers | times |\n| --- | --- | --- |",
            *rows,
            f"\nSource: {one.source}.\n",
        ]
    )


def _where(point: Point) -> str:
    last = point.address + point.kind.size - 1
    span = f"{point.address}" if last == point.address else f"{point.address}-{last}"
    return f"{span}, {point.kind}"


def _unit(point: Point) -> str:
    scale = {1.0: "", 1 / 3: "1/3"}.get(point.scale, f"{point.scale:,.4g}")
    if point.quantity is Quantity.VOLTAGE_V and point.scale != 1.0:
        scale = "√3"
    power = "" if point.exponent is None else f"10 to the power in {point.exponent}"
    return " · ".join(part for part in (scale, power) if part)
