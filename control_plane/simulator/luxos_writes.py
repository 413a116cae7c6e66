"""What LuxOS does with the commands that change something.

Two kinds. Pools and groups are cgminer's own commands and ask for nothing, from nobody: whoever reaches
the port may point the unit at his pool (`api.json` of the luxos package: `logon_required` is false).
The others want a session as their first parameter. A session is no password: `logon` asks for none, the
living id is told to anyone who asks for it, and it only keeps two writers apart.

Codes and texts of 300 and more that the Luxor documentation has are marked; those below are cgminer's;
the rest is ours, and readers may not rely on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from control_plane.simulator.luxos_network import read_network
from control_plane.simulator.luxos_reads import Answer
from control_plane.simulator.luxos_unit import Atm, Group, Pool, Unit
from control_plane.simulator.luxos_update import ACTIONS, Settings

Values = Sequence[str]
"""The comma-separated parameter; of a privileged command, what follows the session."""

OLD_BOARD_IDS = frozenset({"0", "1", "2", "3"})
"""A profile named so is taken for the board of an older form of `profileset` (Luxor documentation)."""
_SELECTOR = re.compile(r"(\d+(?:\.\d+)?)(THs|kW|W)")
_RELATIVE = re.compile(r"[+-]\d{1,2}")
_MINUTES_MAX = 24 * 60


class Refusal(msgspec.Struct, frozen=True):
    """It understood, and says no."""

    code: int
    message: str


Outcome = Answer | Refusal | None
"""`None`: it acted, and the connection breaks before that is said."""


def note(
    unit: Unit,
    kind: str,
    summary: str,
    *,
    asks_w: float | None = None,
    pools: tuple[str, ...] | None = None,
    honoured: bool = True,
) -> bool:
    """Enter a write in the ledger; whether to act on it."""
    acts = honoured and unit.machine.obeys
    unit.machine.note(kind, summary, asks_w=asks_w, pools=pools, honoured=acts)
    return acts


def _no(unit: Unit, kind: str, values: Values, code: int, message: str) -> Refusal:
    note(unit, kind, ",".join(values), honoured=False)
    return Refusal(code, message)


# -- pools and groups: no session ----------------------------------------------------------------------


def _addpool(unit: Unit, kind: str, values: Values) -> Outcome:
    if len(values) not in {3, 4} or not values[0] or not values[1]:
        return _no(unit, kind, values[:2], 53, "Invalid addpool details")
    group = _number(values[3]) if len(values) == 4 else 0  # noqa: PLR2004 — the documented form
    if group is None or group >= len(unit.kept.groups):
        return _no(unit, kind, values[:2], 400, "Invalid group id")
    pool = Pool(values[0], values[1], values[2], group)
    after = (*unit.pools, pool)
    if note(unit, kind, f"{pool.url},{pool.worker},{group}", pools=_urls(after)):
        unit.set_pools(after)
    return Answer(55, f"Added pool {len(unit.pools) - 1}: '{pool.url}'", {})


def _removepool(unit: Unit, kind: str, values: Values) -> Outcome:
    place = _pool_at(unit, values)
    if place is None:
        return _no(unit, kind, values, 26, _range(unit))
    pool = unit.pools[place]
    if len(unit.pools) == 1:
        return _no(unit, kind, values, 66, f"Cannot remove last pool {place}:'{pool.url}'")
    if place in unit.active_pools():
        return _no(unit, kind, values, 67, f"Cannot remove active pool {place}:'{pool.url}'")
    after = (*unit.pools[:place], *unit.pools[place + 1 :])
    if note(unit, kind, f"{place} {pool.url},{pool.worker}", pools=_urls(after)):
        unit.set_pools(after)
    return Answer(68, f"Removed pool {place}:'{pool.url}'", {})


def _switchpool(unit: Unit, kind: str, values: Values) -> Outcome:
    """To the top of its group, and in use."""
    place = _pool_at(unit, values)
    if place is None:
        return _no(unit, kind, values, 26, _range(unit))
    pool = replace(unit.pools[place], disabled=False)
    rest = [other for number, other in enumerate(unit.pools) if number != place]
    first = next((n for n, other in enumerate(rest) if other.group == pool.group), len(rest))
    after = (*rest[:first], pool, *rest[first:])
    if note(unit, kind, f"{place} {pool.url},{pool.worker}", pools=_urls(after)):
        unit.set_pools(after)
    return Answer(27, f"Switching to pool {place}:'{pool.url}'", {})


def _turn_pool(unit: Unit, kind: str, values: Values) -> Outcome:
    place = _pool_at(unit, values)
    if place is None:
        return _no(unit, kind, values, 26, _range(unit))
    on = kind == "enablepool"
    pool = replace(unit.pools[place], disabled=not on)
    after = (*unit.pools[:place], pool, *unit.pools[place + 1 :])
    if note(unit, kind, f"{place} {pool.url},{pool.worker}", pools=_urls(after)):
        unit.set_pools(after)
    word = "Enabling" if on else "Disabling"
    return Answer(47 if on else 48, f"{word} pool {place}:'{pool.url}'", {})


def _addgroup(unit: Unit, kind: str, values: Values) -> Outcome:
    quota = _figure(values[1]) if len(values) == 2 else None  # noqa: PLR2004 — name and quota
    if quota is None or not values[0]:
        return _no(unit, kind, values, 400, "Invalid group details")
    if note(unit, kind, ",".join(values)):
        groups = (*unit.kept.groups, Group(values[0], quota))
        unit.keep(replace(unit.kept, groups=groups))
    number = len(unit.kept.groups) - 1
    return Answer(325, "Group added", {"GROUP": [{"GROUP": number, "Name": values[0]}]})


def _removegroup(unit: Unit, kind: str, values: Values) -> Outcome:
    """The group and its pools; groups after it move up. The last one may go too (asic-rs does that)."""
    number = _number(values[0]) if len(values) == 1 else None
    groups = unit.kept.groups
    if number is None or number >= len(groups):
        return _no(unit, kind, values, 400, "Invalid group id")
    after = tuple(
        replace(pool, group=pool.group - (pool.group > number))
        for pool in unit.pools
        if pool.group != number
    )
    if note(unit, kind, ",".join(values), pools=_urls(after)):
        left = (*groups[:number], *groups[number + 1 :])
        unit.keep(replace(unit.kept, groups=left))
        unit.set_pools(after)
    return Answer(326, "Group removed", {})


def _groupquota(unit: Unit, kind: str, values: Values) -> Outcome:
    numbers = [_figure(value) for value in values]
    number = _number(values[0]) if len(values) == 2 else None  # noqa: PLR2004 — id and quota
    if number is None or numbers[1] is None or number >= len(unit.kept.groups):
        return _no(unit, kind, values, 400, "Invalid group details")
    if note(unit, kind, ",".join(values)):
        groups = list(unit.kept.groups)
        groups[number] = replace(groups[number], quota=numbers[1])
        unit.keep(replace(unit.kept, groups=tuple(groups)))
    return Answer(327, "Group quota set", {})


OPEN: Mapping[str, Callable[[Unit, str, Values], Outcome]] = {
    "addpool": _addpool,
    "removepool": _removepool,
    "switchpool": _switchpool,
    "enablepool": _turn_pool,
    "disablepool": _turn_pool,
    "addgroup": _addgroup,
    "removegroup": _removegroup,
    "groupquota": _groupquota,
}
"""Writes that want no session."""


# -- with a session --------------------------------------------------------------------------------------


def _curtail(unit: Unit, kind: str, values: Values) -> Outcome:
    action, *options = values or ("",)
    sleeps = unit.machine.asleep
    if action == "sleep":
        if sleeps:
            return _no(unit, kind, values, 436, "Already in sleep mode")
        if note(unit, kind, ",".join(values), asks_w=unit.machine.model.standby_w):
            unit.sleep()
        return Answer(335, "Curtailment command sent", {"CURTAIL": [{"Action": "sleep mode"}]})
    if action != "wakeup":
        return _no(unit, kind, values, 400, "Invalid action")
    if not sleeps:
        return _no(unit, kind, values, 437, "Already awake")
    if note(unit, kind, ",".join(values), asks_w=unit.profile.watts):
        unit.wake(unsafe="mode=unsafe" in options)
    # Code and text are documented, for both actions.
    return Answer(335, "Curtailment command sent", {"CURTAIL": [{"Action": "wake up"}]})


def _profileset(unit: Unit, kind: str, values: Values) -> Outcome:
    """By name, by a figure with its unit, or by the way from the profile in force."""
    if values and values[0] in OLD_BOARD_IDS:
        values = values[1:]
    step = step_by(unit, values[0]) if values else None
    if step is None:
        return _no(unit, kind, values, 412, "Profile not found")
    sleeps = unit.machine.asleep
    asks_w = unit.machine.model.standby_w if sleeps else unit.profiles[step].watts
    if note(unit, kind, ",".join(values), asks_w=asks_w):
        unit.set_profile(step)
    # Acknowledged by the name that was asked for, whatever comes of it.
    row = {
        "Board": 0,
        "FrequencyStep": 5,
        "Profile": unit.profiles[step].name,
        "VoltageStep": 0.05,
    }
    return Answer(321, "Profile Set", {"PROFILE": [row]})  # Documented.


def step_by(unit: Unit, selector: str) -> int | None:
    """The step of the profile that is meant: a name, `3000W`, `3.05kW`, `104.5THs`, `+1`, `-2`."""
    for step, profile in unit.profiles.items():
        if profile.name == selector:
            return step
    if _RELATIVE.fullmatch(selector):
        step = unit.kept.step + int(selector)
        return step if step in unit.profiles else None
    found = _SELECTOR.fullmatch(selector)
    if found is None:
        return None
    wanted, what = float(found[1]), found[2]
    if what == "THs":
        below = [s for s, p in unit.profiles.items() if p.hashrate_ths <= wanted]
    else:
        watts = wanted * 1000.0 if what == "kW" else wanted
        below = [s for s, p in unit.profiles.items() if p.watts <= watts]
    return max(below, default=None)


def _atmset(unit: Unit, kind: str, values: Values) -> Outcome:
    before = unit.kept.atm
    after: Atm | None = before
    for value in values:
        after = None if after is None else _atm_with(unit, after, value)
    if after is None or not values:
        return _no(unit, kind, values, 400, "Invalid parameter")
    if note(unit, kind, ",".join(values)):
        unit.keep(replace(unit.kept, atm=after))
    row = {"Enabled": after.enabled}
    return Answer(340, "ATM configuration values set", {"ATM": [row]})  # The code is documented.


def _atm_with(unit: Unit, atm: Atm, setting: str) -> Atm | None:
    key, _, value = setting.partition("=")
    match key:
        case "enabled" | "prevent_oc" if value in {"true", "false"}:
            return replace(atm, enabled=value == "true") if key == "enabled" else atm
        case "startup_minutes" | "post_ramp_minutes":
            minutes = _number(value)
            if minutes is None or minutes > _MINUTES_MAX:
                return None
            return replace(atm, **{key: minutes})
        case "temp_window":
            window_c = _figure(value)
            return None if window_c is None else replace(atm, temp_window_c=window_c)
        case "min_profile" | "max_profile":
            # Empty is unbounded. A relative one counts from the default, as its `MaxProfileStep` does.
            relative = _RELATIVE.fullmatch(value) is not None
            step = int(value) if relative else step_by(unit, value)
            if value and step not in unit.profiles:
                return None
            return replace(atm, **{f"{key[:3]}_step": step if value else None})
        case _:
            return None


def _rebootdevice(unit: Unit, kind: str, values: Values) -> Outcome:
    if note(unit, kind, ",".join(values), asks_w=unit.machine.permitted_w()):
        unit.reboot()
    return Answer(317, "Device reboot scheduled", {})


def _resetminer(unit: Unit, kind: str, values: Values) -> Outcome:
    if note(unit, kind, ",".join(values), asks_w=unit.machine.permitted_w()):
        unit.restart()
    return Answer(328, "Restarting LUXminer", {})


def _ledset(unit: Unit, kind: str, values: Values) -> Outcome:
    if len(values) != 2 or values[0] not in {"red", "green"}:  # noqa: PLR2004 — colour and state
        return _no(unit, kind, values, 400, "Invalid led")
    if note(unit, kind, ",".join(values)):
        unit.led = values[1]
    return Answer(331, "Led set", {"LED": [{"Color": values[0], "State": values[1]}]})


def _netset(unit: Unit, kind: str, values: Values) -> Outcome:
    """Stand at another address from then on; see `luxos_network`."""
    network = read_network(unit.network, values)
    if network is None:
        return _no(unit, kind, values, 400, "Invalid parameter")
    if note(unit, kind, ",".join(values)):
        unit.stand(network)
        if unit.machine.loses_network_answer:
            return None
    return Answer(341, "Network configuration set", {})


def _updateset(unit: Unit, kind: str, values: Values) -> Outcome:
    after: Settings | None = unit.update.settings
    for value in values:
        after = None if after is None else _update_with(after, value)
    if after is None or not values:
        return _no(unit, kind, values, 400, "Invalid parameter")
    if note(unit, kind, ",".join(values)):
        unit.update.settings = after
    return Answer(342, "Update settings set", {})


def _update_with(settings: Settings, setting: str) -> Settings | None:
    key, _, value = setting.partition("=")
    match key:
        case "source":
            return replace(settings, source=value)
        case "on_startup" | "on_timeout" | "on_user" if value in ACTIONS:
            return replace(settings, **{key: value})
        case "timeout" if _number(value):
            return replace(settings, timeout_minutes=int(value))
        case _:
            return None


def _updaterun(unit: Unit, kind: str, values: Values) -> Outcome:
    """Code and text of both answers are documented."""
    if not unit.update.is_running:
        return _no(unit, kind, values, 334, "Unable to locate luxupdate process")
    if note(unit, kind, unit.update.settings.source):
        unit.update.begin(unit.machine)
    return Answer(333, "Update check triggered", {})


def _accept(unit: Unit, kind: str, values: Values) -> Outcome:
    """Acknowledged; what it sets is outside this model."""
    note(unit, kind, ",".join(values))
    return Answer(300, f"{kind} done", {})


def _not_simulated(unit: Unit, kind: str, values: Values) -> Outcome:
    return _no(unit, kind, values, 499, "Not supported")


PRIVILEGED: Mapping[str, Callable[[Unit, str, Values], Outcome]] = {
    "curtail": _curtail,
    "profileset": _profileset,
    "atmset": _atmset,
    "rebootdevice": _rebootdevice,
    "resetminer": _resetminer,
    "ledset": _ledset,
    "netset": _netset,
    "updateset": _updateset,
    "updaterun": _updaterun,
    **dict.fromkeys(
        (
            "autotunerset",
            "fanset",
            "hashboardoptsset",
            "healthchipset",
            "healthctrlset",
            "tempctrlset",
            "tempsensorset",
            "tunableswitch",
            "tunerswitch",
        ),
        _accept,
    ),
    **dict.fromkeys(
        (
            "disableboard",
            "enableboard",
            "frequencyset",
            "frequencystop",
            "immersionswitch",
            "profilenew",
            "profilerem",
            "profilerestore",
            "reboot",
            "resetconfig",
            "uninstallluxos",
            "voltageset",
        ),
        _not_simulated,
    ),
}
"""Writes that want a session."""


def _urls(pools: Sequence[Pool]) -> tuple[str, ...]:
    return tuple(pool.url for pool in pools)


def _range(unit: Unit) -> str:
    return f"Invalid pool id - range is 0 - {len(unit.pools) - 1}"


def _pool_at(unit: Unit, values: Values) -> int | None:
    place = _number(values[0]) if len(values) == 1 else None
    return place if place is not None and place < len(unit.pools) else None


def _number(text: str) -> int | None:
    """A whole number of zero or more, of at most six digits."""
    return int(text) if re.fullmatch(r"[0-9]{1,6}", text) else None


def _figure(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[0-9]{1,6}(?:\.[0-9]{1,6})?", text) else None
