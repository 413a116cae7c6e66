"""The config document of a stock Antminer: judged whole, changed in one place, sent whole. Pure.

`set_miner_conf.cgi` replaces the whole config, acknowledges what it does not understand, and reads
differently from how it writes. What is sent is therefore what was read, with these amendments:

* pools: always all three slots; an absent slot keeps its old pool, only a blank one is removed;
* work mode: under both keys; one alone is ignored by S21+ builds of February 2025 (ARS#310).
  `miner-mode` as an integer, since text is acknowledged and discarded (ARS#245); the other one in
  the type in which it was read;
* `bitmain-freq-level` is read, `freq-level` is written;
* null becomes "0", as the vendor's page sends it; with a null some builds discard the document;
* nothing is added that was not read: posting a default percentage resets a technician's underclock.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from control_plane.core.change import Change, SetPools, SetPowerMode, StartMining, StopMining
from control_plane.core.errors import UnexpectedReply
from control_plane.core.observation import PoolSetting
from control_plane.drivers.antminer_reads import CODES, NORMAL, SLEEP
from control_plane.drivers.driver import Reply, pool_url, pools_of, whole_of

SLOTS: Final = 3
_MODE_KEYS: Final = ("miner-mode", "bitmain-work-mode")
_NEW_PASSWORD: Final = "x"  # noqa: S105 — pools take any; stratum names the worker
_PLAIN: Final = (str, int, float, bool, type(None))


class Conf(NamedTuple):
    """A config document that was read whole."""

    document: Reply
    pools: tuple[PoolSetting, ...]
    mode: int


class Unwritable(Exception):
    """The change cannot be made from this config; `retryable` where another moment may differ."""

    def __init__(self, reason: str, *, retryable: bool) -> None:
        self.retryable = retryable
        super().__init__(reason)


def read_conf(document: Reply) -> Conf:
    """Judge `get_miner_conf.cgi`: whole, or not to be believed.

    Raises:
        UnexpectedReply: a part is missing or odd, as in a config that is half-booted.
    """
    slots = document.get("pools")
    if not isinstance(slots, list) or not 0 < len(slots) <= SLOTS:
        raise UnexpectedReply("the config has no list of pools")
    for slot in slots:
        if not isinstance(slot, dict) or not isinstance(slot.get("pass"), str):
            raise UnexpectedReply("the config has an odd pool slot")
    pools = pools_of((slot.get("url"), slot.get("user")) for slot in slots)
    if pools is None:
        raise UnexpectedReply("the config has an odd pool slot")
    modes = [document[key] for key in _MODE_KEYS if key in document]
    codes = {None if isinstance(mode, float) else whole_of(mode) for mode in modes}
    mode = codes.pop() if len(codes) == 1 else None
    if mode is None:
        raise UnexpectedReply("the config does not name one work mode")
    if not isinstance(document.get("bitmain-fan-ctrl"), bool) or "bitmain-fan-pwm" not in document:
        raise UnexpectedReply("the config does not tell its fans")
    if any(not isinstance(document[key], _PLAIN) for key in document if key != "pools"):
        raise UnexpectedReply("the config nests where it should not")
    return Conf(document, pools, mode)


def changed(conf: Conf, change: Change) -> bytes | None:
    """The document to post; `None` where the config is as the change wants it.

    Raises:
        Unwritable: nothing may be posted.
    """
    match change:
        case SetPools(pools=pools):
            wanted, mode = pools, conf.mode
        case StopMining():
            wanted, mode = conf.pools, SLEEP
        case StartMining(power_mode=name):
            wanted, mode = conf.pools, _code(name) if name else _awake(conf.mode)
        case SetPowerMode(power_mode=name):
            if conf.mode == SLEEP:
                raise Unwritable("it sleeps, and naming a mode would wake it", retryable=True)
            wanted, mode = conf.pools, _code(name)
        case _:
            raise Unwritable("stock firmware cannot do this", retryable=False)
    if not wanted:
        raise Unwritable(
            "the write would leave no pool", retryable=not isinstance(change, SetPools)
        )
    if len(wanted) > SLOTS:
        raise Unwritable(f"{len(wanted)} pools, and room for {SLOTS}", retryable=False)
    if (wanted, mode) == (conf.pools, conf.mode):
        return None
    return msgspec.json.encode(_document(conf, wanted, mode))


def _awake(mode: int) -> int:
    return NORMAL if mode == SLEEP else mode


def _code(power_mode: str) -> int:
    code = CODES.get(power_mode)
    if code is None:
        known = ", ".join(CODES)
        raise Unwritable(f"no work mode for '{power_mode}' (known: {known})", retryable=False)
    return code


def _document(conf: Conf, pools: tuple[PoolSetting, ...], mode: int) -> Reply:
    document = {
        key: "0" if value is None else value
        for key, value in conf.document.items()
        if key not in {"bitmain-freq-level", *_MODE_KEYS}
    }
    if "bitmain-freq-level" in conf.document:
        level = conf.document["bitmain-freq-level"]
        document["freq-level"] = "0" if level is None else level
    if pools != conf.pools:
        document["pools"] = _slots(conf, pools)
    document["miner-mode"] = mode
    as_read = conf.document.get("bitmain-work-mode")
    document["bitmain-work-mode"] = mode if isinstance(as_read, int) else str(mode)
    return document


def _slots(conf: Conf, pools: tuple[PoolSetting, ...]) -> list[Reply]:
    """All three slots. A pool keeps the password that the device has for its URL."""
    known = {pool_url(slot["url"]): slot["pass"] for slot in conf.document["pools"]}
    slots = [
        {"url": pool.url, "user": pool.worker, "pass": known.get(pool.url) or _NEW_PASSWORD}
        for pool in pools
    ]
    return slots + [{"url": "", "user": "", "pass": ""}] * (SLOTS - len(slots))
