"""What LuxOS's replies mean. Pure: rows in, values out.

Keys and units: the Luxor documentation, and what pyasic, asic-rs, the luxos package and bitcap-ipr read.
What is missing or odd is `None`.

A power mode is a way from the unit's own nameplate: `normal` is its default profile, `under-4` the
fourth below, `over-2` the second above. Names of profiles would not do: they hold megahertz, and the
nameplate differs from unit to unit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from control_plane.core.observation import Activity, Board, Identity, Telemetry
from control_plane.drivers.driver import mac_of, positive_of, text_of, whole_of
from control_plane.drivers.luxos_replies import (
    AtmRow,
    ChipsRow,
    ConfigRow,
    DevRow,
    FanRow,
    ProfileRow,
    SummaryRow,
)

FAMILY: Final = "luxos"
NORMAL: Final = "normal"
DEFAULT: Final = "default"
"""The profile at the nameplate."""
STARTING_S: Final = 120.0
"""From a start of luxminer until its boards are found and ramp; no source, ours."""

_GHS: Final = 1e-3
_MHS: Final = 1e-6
_MAX_BOARDS: Final = 16
_MAX_FANS: Final = 16
_MAX_PROFILES: Final = 256
_WORD: Final = re.compile(r"(under|over)-([1-9][0-9]?)")
_STEP: Final = re.compile(r"[+-]?[0-9]{1,3}")
_SLEEPS: Final[Mapping[str, bool]] = {"none": True, "sleep": False}
"""`CurtailMode` → whether settings permit hashing."""


# -- profiles ------------------------------------------------------------------------------------------


def step_of(mode: str) -> int | None:
    """The step that a power mode names; `None` where it names none."""
    if mode == NORMAL:
        return 0
    found = _WORD.fullmatch(mode)
    if found is None:
        return None
    return -int(found[2]) if found[1] == "under" else int(found[2])


def mode_of(step: int) -> str:
    """The power mode of a step."""
    if step == 0:
        return NORMAL
    return f"under-{-step}" if step < 0 else f"over-{step}"


class Ladder(NamedTuple):
    """One unit's own profiles."""

    names: Mapping[int, str]
    """By step."""
    steps: Mapping[str, int]
    """By name."""


NO_LADDER: Final = Ladder({}, {})


def read_ladder(found: Sequence[ProfileRow]) -> Ladder:
    """Read `profiles`; profiles without a step (a person's own) are left out."""
    names: dict[int, str] = {}
    for row in found[:_MAX_PROFILES]:
        name, step = text_of(row.name), _step(row.step)
        if name is not None and step is not None:
            names[step] = name
    return Ladder(names, {name: step for step, name in names.items()})


def _step(value: object) -> int | None:
    """A step, which comes as text or as a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < 1000 else None  # noqa: PLR2004 — three digits, as below
    if isinstance(value, str) and _STEP.fullmatch(value):
        return int(value)
    return None


# -- config --------------------------------------------------------------------------------------------


def read_identity(row: ConfigRow) -> Identity:
    """Who answers, from `config`."""
    model = text_of(row.model)
    return Identity(
        mac=mac_of(row.mac),
        serial=text_of(row.serial),
        make="Bitmain" if model is not None and model.lower().startswith("antminer") else None,
        model=model,
        family=FAMILY,
    )


class Config(NamedTuple):
    """What `config` tells of settings."""

    mining: bool | None
    profile: str | None
    """The name of the profile in force."""
    step: int | None
    """Its way from the nameplate; `None` where this build does not tell, or a person made it."""
    has_atm: bool | None
    """Whether its own controller may move the profile."""
    addressing: str | None


def read_config(row: ConfigRow) -> Config:
    """Read `config`."""
    profile, step = text_of(row.profile), _step(row.step)
    curtailed, atm, dhcp = row.curtailed, row.has_atm, row.dhcp
    return Config(
        mining=_SLEEPS.get(curtailed.lower()) if isinstance(curtailed, str) else None,
        profile=profile,
        step=0 if step is None and profile == DEFAULT else step,
        has_atm=atm if isinstance(atm, bool) else None,
        addressing=("dhcp" if dhcp else "static") if isinstance(dhcp, bool) else None,
    )


class Atm(NamedTuple):
    """What its own controller may do. A bound that is `None` cannot be read."""

    enabled: bool
    lowest: int | None
    highest: int | None


def read_atm(found: Sequence[AtmRow], ladder: Ladder) -> Atm | None:
    """Read `atm`; unbounded reads as the ends of the ladder. `None` where it cannot be understood."""
    if not found or not isinstance(found[0].enabled, bool):
        return None
    row = found[0]
    ends = (min(ladder.names, default=None), max(ladder.names, default=None))
    return Atm(
        enabled=row.enabled,
        lowest=_bound(row.lowest, row.lowest_step, ladder, ends[0]),
        highest=_bound(row.highest, row.highest_step, ladder, ends[1]),
    )


def _bound(name: object, told_step: object, ladder: Ladder, end: int | None) -> int | None:
    if not isinstance(name, str):
        return None
    name = name.strip()
    if not name:
        return end
    step = _step(told_step)
    if step is not None:
        return step
    # Builds before 2025 tell the name alone; a bound may have been set as `+1`.
    return ladder.steps.get(name, _step(name))


def power_mode(config: Config, atm: Atm | None, ladder: Ladder) -> str | None:
    """The power mode that the settings permit.

    With ATM on that is its ceiling, or the profile in force where that is higher: below the ceiling
    the device goes by itself, for heat, and that is no setting.
    """
    step = config.step
    if step is None and config.profile is not None:
        step = ladder.steps.get(config.profile)
    if step is None:
        # A profile that a person made: it is on no ladder, so it is nothing that is ever declared.
        made = config.profile is not None and bool(ladder.names)
        return f"profile {config.profile}" if made else None
    if config.has_atm is False:
        return mode_of(step)
    if atm is None:
        return None
    if not atm.enabled:
        return mode_of(step)
    return None if atm.highest is None else mode_of(max(step, atm.highest))


# -- telemetry -----------------------------------------------------------------------------------------


def read_telemetry(
    row: SummaryRow,
    *,
    mining: bool | None,
    devs: Sequence[DevRow],
    fans: Sequence[FanRow],
    watts: object,
    chips: Mapping[int, int],
) -> Telemetry:
    """Read `summary`, and what came along with it; `mining` is what settings permit."""
    rate = _scaled(row.rate_ghs, _GHS)
    elapsed = positive_of(row.elapsed_s)
    boards = []
    hottest, ramps, errors = None, False, []
    for place, dev in enumerate(devs[:_MAX_BOARDS]):
        board = _board(place, dev, chips)
        boards.append(board)
        board_c = board.temperature_c
        if board_c is not None and (hottest is None or board_c > hottest):
            hottest = board_c
        ramps = ramps or dev.is_ramping is True
        if dev.status != "Alive" or dev.is_shut_down is True:
            errors += _errors(place, dev)
    return Telemetry(
        hashrate_ths=rate,
        power_w=positive_of(watts),
        temperature_c=hottest,
        fan_rpm=tuple(
            [rpm for rpm in [whole_of(fan.rpm) for fan in fans[:_MAX_FANS]] if rpm is not None]
        ),
        boards=tuple(boards),
        mining_uptime_s=elapsed,
        activity=_activity(rate, elapsed, mining=mining, ramps=ramps),
        errors=tuple(errors),
        accepted=whole_of(row.accepted),
        rejected=whole_of(row.rejected),
    )


def read_chips(found: Sequence[ChipsRow]) -> dict[int, int]:
    """Chips that answer, by board, from `devdetails`."""
    told = {}
    for row in found[:_MAX_BOARDS]:
        slot, chips = whole_of(row.slot), whole_of(row.chips)
        if slot is not None and chips is not None:
            told[slot] = chips
    return told


def _board(place: int, row: DevRow, chips: Mapping[int, int]) -> Board:
    told_slot = whole_of(row.slot)
    slot = place if told_slot is None else told_slot
    return Board(
        slot=slot,
        hashrate_ths=_scaled(row.rate_mhs, _MHS),
        chips=chips.get(slot),
        # A board without a sensor prints 0. These are of the board: LuxOS estimates no chips.
        temperature_c=positive_of(row.board_c) or None,
    )


def _errors(place: int, row: DevRow) -> list[str]:
    """What a board that is not just alive says of itself."""
    status = text_of(row.status)
    if status is not None and status.lower() not in {"alive", "initializing"}:
        return [f"board {place}: {status}"]
    if row.is_shut_down is True:
        return [f"board {place}: shut down by hand"]
    return []


def _scaled(value: object, scale: float) -> float | None:
    number = positive_of(value)
    return None if number is None else number * scale


def _activity(
    rate: float | None, elapsed: float | None, *, mining: bool | None, ramps: bool
) -> Activity | None:
    """What it does by its own evidence: hash decides over settings, and a ramp over hash."""
    if rate is None:
        return None
    if ramps and mining is not False:
        return Activity.STARTING
    if rate > 0.0:
        return Activity.HASHING
    if mining is False:
        return Activity.SLEEPING
    if elapsed is not None and elapsed < STARTING_S:
        return Activity.STARTING
    return None if mining is None else Activity.IDLE
