"""The settings of VNish: what `GET /settings` prints, and what a posted document makes of them.

Every part of a posted document is optional and what it leaves out stays; so do nulls. A list of pools
replaces the list. Pool URLs are stored without `stratum+tcp://` (pyasic and asic-rs add and strip it);
another scheme stays. Names: swagger document; kinds as `bitcap-ipr` and pyasic read them. That an address,
a mask, a gateway or a server that is none is refused is ours.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from control_plane.simulator.ipv4 import is_address, is_netmask

SLOTS = 3
DISABLED = "disabled"
"""The preset of a unit that runs on its own frequency and voltage."""
_SCHEME = "stratum+tcp://"
_MAX_TEXT = 256

Part = TypeVar("Part", bound=msgspec.Struct)


class Rejected(Exception):
    """The document is refused: a 400, and nothing of it is kept."""


class Pool(msgspec.Struct, frozen=True):
    """One slot as it is stored; blank where unused."""

    url: str = ""
    user: str = ""
    password: str = ""


class Switcher(msgspec.Struct, frozen=True, kw_only=True):
    """`preset_switcher`: moves between two presets by temperature. Defaults: an S19 on 1.2.6."""

    enabled: bool = False
    top_preset: str | None = None
    min_preset: str | None = None
    decrease_temp: int = 75
    rise_temp: int = 55
    check_time: int = 300
    autochange_top_preset: bool = False
    ignore_fan_speed: bool = False
    power_delta: int = 0


class Misc(msgspec.Struct, frozen=True, kw_only=True):
    """`misc`: how the firmware protects itself. The defaults are ours."""

    restart_hashrate: int = 50
    """Per cent of the preset's hash below which mining is restarted; 0 is never."""
    restart_temp: int = 95
    """Chip temperature at which mining is restarted."""
    max_restart_attempts: int = 3
    remain_stopped_on_reboot: bool = False
    quiet_mode: bool = False
    quick_start: bool = False


class Cooling(msgspec.Struct, frozen=True, kw_only=True):
    """`cooling`."""

    mode: str = "auto"
    """`auto`, `manual` or `immers`; `/summary` prints the last one as `immersion`."""
    param: int | None = 60
    fan_min_count: int = 4
    fan_min_duty: int = 10
    fan_max_duty: int = 100
    min_startup_water_temp: int | None = None
    """Hydro only: mining does not start with colder water (asic-rs)."""


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """`network`."""

    dhcp: bool = True
    ip: str = ""
    netmask: str = "255.255.0.0"
    gateway: str = ""
    dns: tuple[str, ...] = ("9.9.9.9",)
    hostname: str = "antminer"


class Conf(msgspec.Struct, frozen=True, kw_only=True):
    """What the flash holds, but for the password."""

    pools: tuple[Pool, ...] = (Pool(),) * SLOTS
    preset: str = DISABLED
    freq: int = 675
    volt: int = 1380
    switcher: Switcher = Switcher()
    misc: Misc = Misc()
    cooling: Cooling = Cooling()

    def live_pools(self) -> tuple[Pool, ...]:
        """The slots that name a pool."""
        return tuple(pool for pool in self.pools if pool.url)


def document(conf: Conf, network: Network) -> dict[str, Any]:
    """`GET /settings`."""
    cooling = conf.cooling
    mode = {"name": cooling.mode}
    told_cooling: dict[str, Any] = {
        "mode": mode if cooling.param is None else {**mode, "param": cooling.param},
        "fan_min_count": cooling.fan_min_count,
        "fan_min_duty": cooling.fan_min_duty,
        "fan_max_duty": cooling.fan_max_duty,
    }
    if cooling.min_startup_water_temp is not None:
        told_cooling["min_startup_water_temp"] = cooling.min_startup_water_temp
    return {
        "miner": {
            "cooling": told_cooling,
            "misc": {"asic_boost": True, **msgspec.structs.asdict(conf.misc)},
            "overclock": {
                "modded_psu": False,
                "preset": conf.preset,
                "globals": {"freq": conf.freq, "volt": conf.volt},
                "chains": [],
                "preset_switcher": msgspec.structs.asdict(conf.switcher),
            },
            "pools": [
                {"url": pool.url, "user": pool.user, "pass": pool.password} for pool in conf.pools
            ],
        },
        "network": {
            "hostname": network.hostname,
            "dhcp": network.dhcp,
            "ipaddress": network.ip,
            "netmask": network.netmask,
            "gateway": network.gateway,
            "dnsservers": list(network.dns),
        },
        "regional": {"timezone": {"current": "GMT"}},
        "ui": {"theme": "auto", "locale": "en", "dark_side_pane": False},
    }


def merge(conf: Conf, miner: object, *, presets: Collection[str], refuses: bool) -> Conf:
    """The settings after `miner` of a posted document.

    Args:
        conf: as they are.
        miner: the client's JSON, whatever it is.
        presets: names that it has.
        refuses: a preset that it has not is refused; else only that part is forgotten.

    Raises:
        Rejected: a value of the wrong kind, or a preset that it has not.
    """
    part = _object(miner, "miner")
    if part.get("pools") is not None:
        conf = replace(conf, pools=_pools(part["pools"]))
    overclock = _object(part.get("overclock"), "overclock")
    preset = _taken(overclock, "preset", str, conf.preset)
    if preset in presets or preset == DISABLED:
        conf = replace(conf, preset=preset)
    elif refuses:
        raise Rejected(f"Preset {preset[:40]} not found")
    globals_ = _object(overclock.get("globals"), "globals")
    switcher = _object(overclock.get("preset_switcher"), "preset_switcher")
    for name in ("top_preset", "min_preset"):
        if switcher.get(name) is not None and switcher[name] not in presets:
            raise Rejected(f"{name} not found")
    cooling = _object(part.get("cooling"), "cooling")
    mode = _object(cooling.get("mode"), "mode")
    return replace(
        conf,
        freq=_taken(globals_, "freq", int, conf.freq),
        volt=_taken(globals_, "volt", int, conf.volt),
        switcher=_merged(conf.switcher, switcher),
        misc=_merged(conf.misc, _object(part.get("misc"), "misc")),
        cooling=replace(
            _merged(conf.cooling, {k: v for k, v in cooling.items() if k not in {"mode", "param"}}),
            mode=_mode(mode, conf.cooling.mode),
            param=_taken(mode, "param", int, conf.cooling.param),
        ),
    )


def merge_network(network: Network, posted: object) -> Network:
    """The network settings after `network` of a posted document.

    Raises:
        Rejected: a value of the wrong kind, or a static address that is none.
    """
    part = _object(posted, "network")
    after = replace(
        network,
        dhcp=_taken(part, "dhcp", bool, network.dhcp),
        ip=_taken(part, "ipaddress", str, network.ip),
        netmask=_taken(part, "netmask", str, network.netmask),
        gateway=_taken(part, "gateway", str, network.gateway),
        hostname=_taken(part, "hostname", str, network.hostname),
        dns=_servers(part.get("dnsservers"), network.dns),
    )
    if after.dhcp or after == network:
        return after
    if not all(map(is_address, (after.ip, *filter(None, (after.gateway,)), *after.dns))):
        raise Rejected("Json deserialize error: network: invalid IP address syntax")
    if not is_netmask(after.netmask):
        raise Rejected("Json deserialize error: network: invalid netmask")
    return after


def _servers(posted: object, old: tuple[str, ...]) -> tuple[str, ...]:
    if posted is None:
        return old
    if not isinstance(posted, list) or len(posted) > SLOTS:
        raise Rejected("Json deserialize error: network.dnsservers: invalid type")
    return tuple(_taken({"dnsservers": server}, "dnsservers", str, "") for server in posted)


def _object(value: object, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Rejected(f"Json deserialize error: invalid type: expected struct {name}")
    return value


def _taken(part: dict[str, Any], name: str, kind: type, old: Any) -> Any:
    value = part.get(name)
    if value is None:
        return old
    if type(value) is not kind or (isinstance(value, str) and len(value) > _MAX_TEXT):
        raise Rejected(f"Json deserialize error: miner.{name}: invalid type")
    if isinstance(value, int) and not 0 <= value < 1 << 31:
        raise Rejected(f"Json deserialize error: miner.{name}: out of range")
    return value


def _merged(old: Part, posted: dict[str, Any]) -> Part:
    """Fields of a part that were posted, the others as they were; unknown ones are left aside."""
    taken: dict[str, Any] = {}
    for name in old.__struct_fields__:
        was = getattr(old, name)
        kind = type(was) if was is not None else str if name.endswith("preset") else int
        taken[name] = _taken(posted, name, kind, was)
    return replace(old, **taken)


def _mode(posted: dict[str, Any], old: str) -> str:
    name: str = _taken(posted, "name", str, old)
    if name not in {"auto", "manual", "immers"}:
        raise Rejected("Json deserialize error: unknown variant of mode")
    return name


def _pools(posted: object) -> tuple[Pool, ...]:
    if not isinstance(posted, list) or len(posted) > SLOTS:
        raise Rejected("Json deserialize error: miner.pools")
    slots = []
    for row in posted:
        entry = _object(row, "Pool")
        url = _taken(entry, "url", str, "")
        bare = url[len(_SCHEME) :] if url.lower().startswith(_SCHEME) else url
        slots.append(Pool(bare, _taken(entry, "user", str, ""), _taken(entry, "pass", str, "")))
    return (*slots, *(Pool(),) * SLOTS)[:SLOTS]
