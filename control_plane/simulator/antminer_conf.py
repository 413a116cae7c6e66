"""The config document of Bitmain's stock firmware: how it is read, and what a write makes of it.

Derived from: the CGI scripts named in `antminer_builds`. `set_miner_conf.cgi` takes each pool field
that is absent from what is stored, so a shorter pool list leaves the old trailing pools standing;
only a blank string removes one. It answers `M000 OK!` whether or not it understood anything.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import replace

from control_plane.simulator.antminer_builds import HIGH, LOW, NORMAL, SLEEP, Build
from control_plane.simulator.json_in import object_in

_NUMBER = re.compile(r"[0-9]{1,9}")

SLOTS = 3
CODES = frozenset({NORMAL, SLEEP, HIGH, LOW})


class Pool(msgspec.Struct, frozen=True):
    """One of the three slots; blank where unused."""

    url: str = ""
    user: str = ""
    password: str = ""


BLANK = Pool()


class Conf(msgspec.Struct, frozen=True, kw_only=True):
    """What the device's flash holds."""

    pools: tuple[Pool, Pool, Pool] = (BLANK, BLANK, BLANK)
    fan_ctrl: bool = False
    fan_pwm: str = "100"
    mode: int = NORMAL
    freq_level: int = 100
    """Per cent of the frequency; read as `bitmain-freq-level`, written as `freq-level`."""
    hashrate_percent: int = 100
    """Per cent of the hash rate: a technician's underclock."""

    def live_pools(self) -> tuple[Pool, ...]:
        """The slots that name a pool."""
        return tuple(pool for pool in self.pools if pool.url)

    def share(self) -> float:
        """Share of the step's hash and dynamic watts that both percentages leave."""
        return self.freq_level * self.hashrate_percent / 10_000


FACTORY = Conf()


def read_document(conf: Conf, build: Build) -> dict[str, Any]:
    """`get_miner_conf.cgi`: mode and percentages as text, three pool slots always."""
    document: dict[str, Any] = {
        "pools": [
            {"url": pool.url, "user": pool.user, "pass": pool.password} for pool in conf.pools
        ]
    }
    if not build.filtered_read:
        document |= {
            "api-listen": True,
            "api-network": True,
            "api-groups": "A:stats:pools:devs:summary:version",
            "api-allow": "A:0/0,W:*",
        }
    document |= {"bitmain-fan-ctrl": conf.fan_ctrl, "bitmain-fan-pwm": conf.fan_pwm}
    if not build.filtered_read:
        document |= {
            "bitmain-use-vil": True,
            "bitmain-freq": "675",
            "bitmain-voltage": "1260",
            "bitmain-ccdelay": "0",
            "bitmain-pwth": "0",
        }
    document["bitmain-work-mode"] = str(conf.mode)
    if not build.hides_percent:
        document["bitmain-hashrate-percent"] = str(conf.hashrate_percent)
    if build.filtered_read:
        document["bitmain-user-ip-cat"] = None  # the script names it; the file does not have it
    else:
        document["bitmain-freq-level"] = str(conf.freq_level)
    return document


class Verdict(StrEnum):
    """What became of a posted document. The client cannot tell the first two apart."""

    HONOURED = "honoured"
    DISCARDED = "discarded"
    ILLEGAL = "illegal"
    """Not JSON: answered `M001 Illegal request!`."""


def merge(
    conf: Conf, body: bytes, *, content_type: str, build: Build
) -> tuple[Verdict, Conf, int | None]:
    """What `set_miner_conf.cgi` makes of a posted document.

    Returns:
        the verdict, the config afterwards, and the mode code that was asked for by any key.
    """
    posted = object_in(body)
    if posted is None:
        return Verdict.ILLEGAL, conf, None
    asked = _asked_mode(posted)
    if _is_ignored(posted, content_type, build):
        return Verdict.DISCARDED, conf, asked
    mode = _honoured_mode(posted, build)
    if asked is not None and mode is None and "pools" not in posted:
        return Verdict.DISCARDED, conf, asked
    merged = replace(
        conf,
        pools=_merge_pools(conf, posted.get("pools")),
        fan_ctrl=bool(_given(posted, "bitmain-fan-ctrl", conf.fan_ctrl)),
        fan_pwm=str(_given(posted, "bitmain-fan-pwm", conf.fan_pwm)),
        mode=conf.mode if mode is None else mode,
        freq_level=_percent(posted.get("freq-level"), conf.freq_level),
        hashrate_percent=_percent(posted.get("bitmain-hashrate-percent"), conf.hashrate_percent),
    )
    return Verdict.HONOURED, merged, asked


def _is_ignored(posted: dict[str, Any], content_type: str, build: Build) -> bool:
    if build.plain_text_only and not content_type.lower().startswith("text/plain"):
        return True
    if build.null_discards and any(value is None for value in posted.values()):
        return True
    needed = {"pools", "bitmain-fan-ctrl", "bitmain-fan-pwm"}
    return build.whole_only and not (needed <= posted.keys() and build.mode_keys & posted.keys())


def _code(value: object) -> int | None:
    """A mode code as `jq -r` and a shell comparison see it."""
    if isinstance(value, bool):
        return None
    value = _number(value)
    return value if isinstance(value, int) and value in CODES else None


def _number(value: object) -> object:
    """A number that is sent as text; all else as it is: `²` is a digit to Python, and no number."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    return value


def _asked_mode(posted: dict[str, Any]) -> int | None:
    for key in ("miner-mode", "bitmain-work-mode"):
        code = _code(posted.get(key))
        if code is not None:
            return code
    return None


def _honoured_mode(posted: dict[str, Any], build: Build) -> int | None:
    values = [posted[key] for key in sorted(build.mode_keys, reverse=True) if key in posted]
    if build.needs_both_keys and len(values) < len(build.mode_keys):
        return None
    for value in values:
        if build.integer_only and not isinstance(value, int):
            continue
        code = _code(value)
        unknown = LOW if build.efficient_is_2 else None
        if code is not None and code != unknown:
            return code
    return None


def _merge_pools(conf: Conf, posted: object) -> tuple[Pool, Pool, Pool]:
    if not isinstance(posted, list):
        return conf.pools
    slots = list(conf.pools)
    for index, entry in enumerate(posted[:SLOTS]):
        if isinstance(entry, dict):
            old = slots[index]
            slots[index] = Pool(
                str(_given(entry, "url", old.url)),
                str(_given(entry, "user", old.user)),
                str(_given(entry, "pass", old.password)),
            )
    return slots[0], slots[1], slots[2]


def _given(posted: dict[str, Any], key: str, old: object) -> object:
    value = posted.get(key)
    return old if value is None else value


def _percent(value: object, old: int) -> int:
    value = _number(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 100:  # noqa: PLR2004 — per cent
        return value
    return old
