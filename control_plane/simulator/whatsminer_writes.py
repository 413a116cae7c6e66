"""What a WhatsMiner does with the commands that change something.

A handler reads its arguments, enters the write in the ledger with the draw that it would permit,
and acts, unless the unit disobeys. Meaning of the commands: WhatsMiner API v2.0.5 §3; what they
do to hashing: asic-devices reference §1 "WhatsMiner v2", after WMC.

`adjust_power_limit` boots the control board; the three mode commands act and never answer. Because
a boot also ends a `power_off`, setting a limit on a unit that was powered off raises its draw:
inferred from these two facts, not seen.

`update_firmware` (`upgrade_firmware` on older builds) is answered with `ready`; the image follows on the
same connection, four bytes of its size first, little-endian (v2.0.5; pyasic). That its fate is told there
once more is inferred.

`net_config` takes `param: dhcp`, or all of `ip`, `mask`, `gate`, `dns` (several with blanks between) and
`host` (pyasic, Tether's WhatsMiner worker). That the device boots for it, by itself, is told of v3's command
of the same purpose (apidoc.whatsminer.com) and taken over for v2: cautious, since a boot wakes a unit that
was powered off. What it refuses, with code 132, is ours.

Not simulated: factory reset, log download and preheating. They are understood and answered with code 132.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from control_plane.simulator.images import read_image
from control_plane.simulator.ipv4 import is_address, is_netmask
from control_plane.simulator.whatsminer_power import (
    LIMIT_FLOOR,
    UNLIMITED_W,
    UPFREQ_FASTEST,
    mode_step,
)
from control_plane.simulator.whatsminer_unit import SLOTS, Network, Pool, Unit

Arguments = Mapping[str, Any]
"""The members of the command's JSON object, as the client sent them."""

FAMILY = "whatsminer_v2"
OK, BAD_COMMAND, FAILED = 131, 14, 132
PERCENT_FAST_S = 1.0
PERCENT_GENTLE_S = 180.0
"""`set_power_pct` acts in about a second, `_v2` in minutes (WMC)."""
OFF_TAKES_S = 5.0
"""Wire seconds for which `power_off` with `respbefore` false keeps its answer back. Inferred."""
_SECRET = frozenset({"token", "cmd", "command", "passwd1", "passwd2", "passwd3", "old", "new"})
_PASSWORD = re.compile(r"[A-Za-z0-9_]{1,8}")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What goes back for a write that was understood."""

    code: int = OK
    after_s: float = 0.0
    silent: bool = False
    """The command acts, and the connection stays open without an answer."""
    awaits_image: bool = False
    """The connection stays open for an image."""


def _note(
    unit: Unit,
    kind: str,
    arguments: Arguments,
    *,
    asks_w: float | None = None,
    pools: tuple[str, ...] | None = None,
    honoured: bool = True,
) -> bool:
    """Enter a write in the ledger; whether to act on it."""
    acts = honoured and unit.machine.obeys
    told = " ".join(f"{key}={value}" for key, value in arguments.items() if key not in _SECRET)
    unit.machine.note(kind, told, asks_w=asks_w, pools=pools, honoured=acts)
    return acts


def refuse(unit: Unit, kind: str, arguments: Arguments) -> None:
    """Enter a write that was turned away before it was looked at."""
    _note(unit, kind, arguments, honoured=False)


def _update_pools(unit: Unit, kind: str, arguments: Arguments) -> Answer:
    slots = tuple(
        Pool(
            url=_text(arguments, f"pool{slot}"),
            worker=_text(arguments, f"worker{slot}"),
            password=_text(arguments, f"passwd{slot}"),
        )
        for slot in range(1, SLOTS + 1)
    )
    urls = tuple(pool.url for pool in slots if pool.url)
    complete = all(f"{key}1" in arguments for key in ("pool", "worker", "passwd"))
    if _note(unit, kind, arguments, pools=urls, honoured=complete):
        unit.set_pools(slots)
    return Answer() if complete else Answer(code=BAD_COMMAND)


def _power_off(unit: Unit, kind: str, arguments: Arguments) -> Answer:
    before = _text(arguments, "respbefore") or "true"
    if before not in {"true", "false"}:
        refuse(unit, kind, arguments)
        return Answer(code=BAD_COMMAND)
    if _note(unit, kind, arguments, asks_w=unit.machine.model.standby_w):
        unit.power_off()
    return Answer(after_s=0.0 if before == "true" else OFF_TAKES_S)


def _power_on(unit: Unit, kind: str, arguments: Arguments) -> Answer:
    if _note(unit, kind, arguments, asks_w=_full_w(unit)) and unit.machine.asleep:
        unit.restart()
    return Answer()


def _restart_btminer(unit: Unit, kind: str, arguments: Arguments) -> Answer:
    if _note(unit, kind, arguments, asks_w=_full_w(unit)):
        unit.restart()
    return Answer()


def _reboot(unit: Unit, kind: str, arguments: Arguments) -> Answer:
    if _note(unit, kind, arguments, asks_w=_full_w(unit)):
        unit.reboot()
    return Answer()


def _set_mode(unit: Unit, kind: str, arguments: Arguments) -> Answer:
    mode = kind.removeprefix("set_").removesuffix("_power")
    smooth = unit.fast_boot_is_active(unit.sample())
    after = replace(unit.power, mode=mode)
    if not smooth:
        after = replace(after, percent=100, percent_is_fast=False)
    if _note(unit, kind, arguments, asks_w=_asks(unit, unit.draw_under(after))):
        unit.set_mode(mode)
        unit.move(restart=not smooth)
    return Answer(silent=True)


def _adjust_power_limit(unit: Unit, kind: str, arguments: Arguments) -> Answer:
    watts = _whole(arguments, "power_limit", 0, UNLIMITED_W)
    model = unit.machine.model
    floor_w = LIMIT_FLOOR * mode_step(model, model.nominal).power_w
    if watts is None or 0 < watts < floor_w:
        refuse(unit, kind, arguments)
        return Answer(code=BAD_COMMAND if watts is None else FAILED)
    smooth = unit.fast_boot_is_active(unit.sample())
    limit_w = None if watts in {0, UNLIMITED_W} else watts
    after = replace(unit.power, limit_w=limit_w)
    if not smooth:
        after = replace(after, percent=100, percent_is_fast=False)
    full_w = unit.draw_under(after)
    if _note(unit, kind, arguments, asks_w=_asks(unit, full_w) if smooth else full_w):
        unit.power = after
        if smooth:
            unit.move(restart=False)
        else:
            unit.reboot()
    return Answer()


def _set_percent(unit: Unit, kind: str, arguments: Arguments) -> Answer:
    percent = _whole(arguments, "percent", 1, 100)
    if percent is None:
        refuse(unit, kind, arguments)
        return Answer(code=BAD_COMMAND)
    fast = kind == "set_power_pct"
    after = replace(unit.power, percent=percent, percent_is_fast=fast)
    if _note(unit, kind, arguments, asks_w=_asks(unit, unit.draw_under(after))):
        over_s = PERCENT_FAST_S if fast else PERCENT_GENTLE_S
        unit.set_percent(percent, fast=fast, over_s=over_s)
    return Answer()


def _restore_percent(unit: Unit, kind: str, arguments: Arguments) -> Answer:
    after = replace(unit.power, percent=100, percent_is_fast=False)
    if _note(unit, kind, arguments, asks_w=_asks(unit, unit.draw_under(after))):
        unit.set_percent(100, fast=False, over_s=PERCENT_GENTLE_S)
    return Answer()


def _set_target_freq(unit: Unit, kind: str, arguments: Arguments) -> Answer:
    percent = _whole(arguments, "percent", -100, 100)
    if percent is None:
        refuse(unit, kind, arguments)
        return Answer(code=BAD_COMMAND)
    after = replace(unit.power, freq_percent=percent, percent=100, percent_is_fast=False)
    if _note(unit, kind, arguments, asks_w=_asks(unit, unit.draw_under(after))):
        unit.power = after
        unit.move(restart=True)
    return Answer()


def _fast_boot(unit: Unit, kind: str, arguments: Arguments) -> Answer:
    if _note(unit, kind, arguments):
        unit.set_fast_boot(on=kind.startswith("enable"))
    return Answer()


def _upfreq_speed(unit: Unit, kind: str, arguments: Arguments) -> Answer:
    speed = _whole(arguments, "upfreq_speed", 0, UPFREQ_FASTEST)
    if speed is None:
        refuse(unit, kind, arguments)
        return Answer(code=BAD_COMMAND)
    if _note(unit, kind, arguments):
        unit.set_upfreq_speed(speed)
    return Answer()


def _set_led(unit: Unit, kind: str, arguments: Arguments) -> Answer:
    if _note(unit, kind, arguments):
        unit.led = "auto" if arguments.get("param") == "auto" else "manual"
    return Answer()


def _set_hostname(unit: Unit, kind: str, arguments: Arguments) -> Answer:
    name = _text(arguments, "hostname")
    if _note(unit, kind, arguments, honoured=bool(name)):
        unit.network = replace(unit.network, hostname=name)
    return Answer() if name else Answer(code=BAD_COMMAND)


def _net_config(unit: Unit, kind: str, arguments: Arguments) -> Answer:
    """Stand at another address, after a boot."""
    names = {"ip": "ip", "mask": "netmask", "gate": "gateway", "dns": "dns", "host": "hostname"}
    static = {field: _text(arguments, key) for key, field in names.items()}
    dhcp = arguments.get("param") == "dhcp"
    complete = dhcp or all(key in arguments for key in names)
    fits = dhcp or (
        all(map(is_address, (static["ip"], static["gateway"], *static["dns"].split())))
        and bool(static["dns"])
        and is_netmask(static["netmask"])
    )
    if _note(unit, kind, arguments, asks_w=_full_w(unit), honoured=complete and fits):
        unit.stand(
            replace(unit.network, proto="dhcp") if dhcp else Network(proto="static", **static)
        )
        if unit.machine.loses_network_answer:
            return Answer(silent=True)
    if not complete:
        return Answer(code=BAD_COMMAND)
    return Answer() if fits else Answer(code=FAILED)


def _update_pwd(unit: Unit, kind: str, arguments: Arguments) -> Answer:
    fits = _text(arguments, "old") == unit.machine.password
    fits = fits and _PASSWORD.fullmatch(_text(arguments, "new")) is not None
    if _note(unit, kind, arguments, honoured=fits):
        unit.set_password(_text(arguments, "new"))
        if unit.machine.loses_password_answer:
            return Answer(silent=True)
    return Answer() if fits else Answer(code=FAILED)


def _accept(unit: Unit, kind: str, arguments: Arguments) -> Answer:
    """Acknowledged; what it sets is outside this model."""
    _note(unit, kind, arguments)
    return Answer()


def _await_image(unit: Unit, kind: str, arguments: Arguments) -> Answer:
    """Nothing is written before the image is there; the ledger has it then."""
    del unit, kind, arguments
    return Answer(awaits_image=True)


def install(unit: Unit, data: bytes) -> bool:
    """Check an image that has arrived, and boot into it; whether it was good."""
    image = read_image(data)
    fits = image is not None and unit.flash.fits(image, FAMILY, None)
    told = image.version if image else f"{len(data)} bytes"
    acts = fits and unit.machine.obeys
    unit.machine.note("update_firmware", told, asks_w=_full_w(unit), honoured=acts)
    if acts and image is not None:
        unit.flash.write(image)
    return fits


def _not_simulated(unit: Unit, kind: str, arguments: Arguments) -> Answer:
    refuse(unit, kind, arguments)
    return Answer(code=FAILED)


WRITES: Mapping[str, Callable[[Unit, str, Arguments], Answer]] = {
    "update_pools": _update_pools,
    "restart_btminer": _restart_btminer,
    "power_off": _power_off,
    "power_on": _power_on,
    "set_low_power": _set_mode,
    "set_normal_power": _set_mode,
    "set_high_power": _set_mode,
    "adjust_power_limit": _adjust_power_limit,
    "set_power_pct": _set_percent,
    "set_power_pct_v2": _set_percent,
    "restore_power_pct": _restore_percent,
    "set_target_freq": _set_target_freq,
    "enable_btminer_fast_boot": _fast_boot,
    "disable_btminer_fast_boot": _fast_boot,
    "adjust_upfreq_speed": _upfreq_speed,
    "reboot": _reboot,
    "set_led": _set_led,
    "set_hostname": _set_hostname,
    "net_config": _net_config,
    "update_pwd": _update_pwd,
    "enable_web_pools": _accept,
    "disable_web_pools": _accept,
    "set_poweroff_cool": _accept,
    "set_fan_zero_speed": _accept,
    "set_temp_offset": _accept,
    "set_zone": _accept,
    "load_log": _accept,
    "update_firmware": _await_image,
    "upgrade_firmware": _await_image,
    "factory_reset": _not_simulated,
    "download_logs": _not_simulated,
    "pre_power_on": _not_simulated,
}


def _asks(unit: Unit, mining_w: float) -> float:
    """The draw that settings permit now: a unit that is off stays off."""
    return unit.machine.model.standby_w if unit.machine.asleep else mining_w


def _full_w(unit: Unit) -> float:
    """The draw after a restart: settings stay, the temporary percentage goes."""
    return unit.draw_under(replace(unit.power, percent=100, percent_is_fast=False))


def _text(arguments: Arguments, key: str) -> str:
    value = arguments.get(key)
    return value.strip() if isinstance(value, str) else ""


def _whole(arguments: Arguments, key: str, low: int, high: int) -> int | None:
    """A whole number within bounds; clients send it as text or as a number."""
    value = arguments.get(key)
    try:
        number = int(value) if isinstance(value, str | int) else None
    except ValueError:
        return None
    return number if number is not None and low <= number <= high else None
