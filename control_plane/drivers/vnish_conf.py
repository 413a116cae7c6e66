"""The settings of VNish: judged, and changed in one place. Pure.

`POST /settings` takes any part of the document and keeps the rest, so what is sent is the part that is
changed and nothing from memory. Traps (asic-devices reference, §1 and §2):

* pools: the list is replaced as a whole, so all three slots go; URLs are stored without `stratum+tcp://`,
  another scheme stays; a pool keeps the password that the device has for its URL;
* preset: a name off the ladder is a 400 on some builds and forgotten on others, so it is not sent;
* `preset_switcher` moves between two presets by temperature, up to `top_preset` whatever is configured.
  What the settings permit is therefore the higher of the two, and both are lowered together.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from control_plane.core.errors import UnexpectedReply
from control_plane.core.observation import PoolSetting
from control_plane.drivers.driver import Reply, clean, number_of, pool_url, pools_of, rows, text_of

SLOTS: Final = 3
DISABLED: Final = "disabled"
"""Printed as the preset of a unit that runs on its own frequency and voltage."""
_SCHEME: Final = "stratum+tcp://"
_NEW_PASSWORD: Final = "x"  # noqa: S105 — pools take any; stratum names the worker


class Conf(NamedTuple):
    """What `/settings` says, as far as it is written here."""

    pools: tuple[PoolSetting, ...]
    slots: tuple[Reply, ...]
    """As the device has them."""
    preset: str
    switcher: Reply | None
    """Where it is switched on, as the device has it."""

    @property
    def top(self) -> str | None:
        """The highest preset that the switcher goes to by itself; `None` where nothing bounds it."""
        return None if self.switcher is None else text_of(self.switcher.get("top_preset"))

    @property
    def is_unbounded(self) -> bool:
        """Whether the switcher may go to the highest preset of all."""
        return self.switcher is not None and self.top is None


class Ladder(NamedTuple):
    """What `/autotune/presets` says."""

    names: tuple[str, ...]
    """All presets, ascending in watts; without `disabled`."""
    tuned: frozenset[str]


def read_conf(document: Reply) -> Conf:
    """Judge `/settings`: whole, or not to be believed.

    Raises:
        UnexpectedReply: a part is missing or odd.
    """
    miner = document.get("miner")
    overclock = miner.get("overclock") if isinstance(miner, dict) else None
    if not isinstance(miner, dict) or not isinstance(overclock, dict):
        raise UnexpectedReply("the settings have no miner or no overclock")
    listed = miner.get("pools")
    slots = rows(listed)
    if not isinstance(listed, list) or len(slots) != len(listed) or len(slots) > SLOTS:
        raise UnexpectedReply("the settings have no list of pools")
    pools = pools_of((slot.get("url"), slot.get("user")) for slot in slots)
    if pools is None:
        raise UnexpectedReply("the settings have an odd pool slot")
    preset = text_of(overclock.get("preset"))
    if preset is None:
        raise UnexpectedReply("the settings name no preset")
    switcher = overclock.get("preset_switcher")
    is_on = False if switcher is None else None
    if isinstance(switcher, dict) and isinstance(switcher.get("enabled"), bool):
        is_on = switcher["enabled"]
    if is_on is None:
        raise UnexpectedReply("the settings tell not whether the preset switcher is on")
    return Conf(pools, tuple(slots), preset, switcher if is_on else None)


def read_ladder(listed: object) -> Ladder:
    """Read the presets: a list, or a list under `presets` (pyasic).

    Raises:
        UnexpectedReply: neither.
    """
    if isinstance(listed, dict):
        listed = listed.get("presets")
    if not isinstance(listed, list):
        raise UnexpectedReply("no list of presets")
    found = [(name, row) for row in rows(listed) if (name := text_of(row.get("name")))]
    steps = [(name, row) for name, row in found if name != DISABLED]
    steps.sort(key=lambda step: watts_of(step[0]) or 0.0)
    return Ladder(
        tuple([name for name, _ in steps]),
        frozenset([name for name, row in steps if row.get("status") == "tuned"]),
    )


def watts_of(preset: str | None) -> float | None:
    """Watts by a preset's name, which is the figure for all that ship with the firmware."""
    return None if preset is None else number_of(preset)


def permitted(conf: Conf, ladder: Ladder | None) -> str | None:
    """The highest preset that the settings let it run at; `None` where that cannot be told.

    Args:
        conf: the settings.
        ladder: the presets; needed where the switcher is unbounded.
    """
    if conf.switcher is None:
        return conf.preset
    top = conf.top
    if top is None:
        top = ladder.names[-1] if ladder is not None and ladder.names else None
    here, high = watts_of(conf.preset), watts_of(top)
    if here is None or high is None:
        return None
    return top if high > here else conf.preset


def with_pools(conf: Conf, pools: tuple[PoolSetting, ...]) -> bytes:
    """The document that replaces the pools."""
    known = {pool_url(slot["url"]): slot.get("pass") for slot in conf.slots}
    slots = []
    for pool in pools:
        kept = known.get(pool.url)
        slots.append(
            {
                "url": pool.url.removeprefix(_SCHEME),
                "user": pool.worker,
                "pass": kept if isinstance(kept, str) and kept else _NEW_PASSWORD,
            }
        )
    slots += [{"url": "", "user": "", "pass": ""}] * (SLOTS - len(slots))
    return msgspec.json.encode({"miner": {"pools": slots}})


def with_preset(conf: Conf, preset: str) -> bytes:
    """The document that lets it run at a preset and no higher."""
    overclock: Reply = {"preset": preset}
    if conf.switcher is not None:
        switcher = {**conf.switcher, "top_preset": preset}
        least, wanted = watts_of(text_of(switcher.get("min_preset"))), watts_of(preset)
        if least is not None and wanted is not None and least > wanted:
            switcher["min_preset"] = preset
        overclock["preset_switcher"] = switcher
    return msgspec.json.encode({"miner": {"overclock": overclock}})


def no_such_preset(preset: str, ladder: Ladder) -> str:
    """Why a preset cannot be set, in words."""
    return f"no preset {clean(preset)!r}: it has {', '.join(ladder.names) or 'none'}"
