"""Declaration → simulated site: one machine for every device that is physically there.

`converged` is the floor on which a first plan finds nothing to do; `stock` is the floor that a new
manager meets: older worker names, a backup pool of last year, modes that somebody chose, machines
that nobody woke again. Which machine gets which depends on the seed and its names alone.
"""

from __future__ import annotations

import ipaddress
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

from msgspec.structs import replace

from control_plane.core.diff import permitted_w
from control_plane.core.fleet import Device, DeviceKind, DeviceType, Site, SlotState
from control_plane.core.observation import PoolSetting, Settings
from control_plane.core.power import Loads, Raise, admit, counted_w, efficiency
from control_plane.simulator import (
    antminer_builds,
    antminer_unit,
    luxos_unit,
    vnish_builds,
    vnish_conf,
    whatsminer_unit,
)
from control_plane.simulator.antminer import Antminer
from control_plane.simulator.antminer_conf import Pool as AntPool
from control_plane.simulator.floor import Floor
from control_plane.simulator.luxos import LuxOs
from control_plane.simulator.machine import Machine, Model, Step, World, mix, seed_of
from control_plane.simulator.meters import Flows, SimMeters
from control_plane.simulator.network import Network, Station
from control_plane.simulator.site import SimDevice, SimSite
from control_plane.simulator.vnish import Vnish
from control_plane.simulator.whatsminer import WhatsMiner
from control_plane.simulator.wire import SimClock

Start = Literal["converged", "stock"]
ANTMINER, WHATSMINER = "antminer_stock", "whatsminer_v2"
LUXOS, VNISH = "luxos", "vnish"
FAMILIES = frozenset({ANTMINER, WHATSMINER, LUXOS, VNISH})
"""Firmware families that have a simulator."""
FACTORY_PASSWORDS: Mapping[str, str] = {
    ANTMINER: "root",
    WHATSMINER: "admin",
    LUXOS: "",
    VNISH: "admin",
}
"""LuxOS has none."""

# How a new manager finds a site. Ours: made so that a first `apply` has visible work of every kind.
OLD_WORKER_RACKS = 0.17
OLD_BACKUP_RACKS = 0.30
"""Cumulative: up to here racks still have last year's backup pool."""
OTHER_MODE_RACKS = 0.12
ASLEEP_DEVICES = 0.02
FACTORY_POOL_DEVICES = 0.004
WRITES_OFF = 0.01
"""Share of WhatsMiners whose write API nobody switched on."""
_FACTORY_POOL = PoolSetting(url="stratum+tcp://ss.antpool.com:3333", worker="antminer_1")
_DAY_S = 86_400.0


class _Seat(NamedTuple):
    """Where a machine stands, and the network that dealt it its address."""

    address: str
    subnet: str | None
    """`None` where its address is static."""

    @property
    def on_dhcp(self) -> bool:
        return self.subnet is not None


def build_site(
    site: Site,
    *,
    clock: SimClock,
    seed: int = 0,
    floor: Floor | None = None,
    start: Start = "converged",
    passwords: Mapping[str, str] | None = None,
    epoch_s: float = 1_790_000_000.0,
) -> SimSite:
    """Build a site.

    Args:
        site: the declaration.
        clock: time of all machines.
        seed: chooses leases, ages and, for `stock`, what is different.
        floor: what stands otherwise than recorded.
        start: state of the machines' settings.
        passwords: by family; the factory's where not given.
        epoch_s: the calendar at device time 0.

    Raises:
        ValueError: the floor names an asset that the site has not; the floor's author acts.
    """
    floor = _checked(floor or Floor(), site)
    world = World(clock, epoch_s=epoch_s)
    known = {**FACTORY_PASSWORDS, **(passwords or {})}
    present, absent = _present(site)
    wanted = {
        device.asset: _stock(device, seed) if start == "stock" else device.desired()
        for device in present
    }
    for device in present:
        if device.rack in floor.outdated_racks:
            wanted[device.asset] = _outdated(device, wanted[device.asset])
    settings = _fed(site, wanted, floor)
    for foreign in floor.foreign_pools:
        if foreign.asset in settings:
            pools = (PoolSetting(url=foreign.url, worker=foreign.worker),)
            settings[foreign.asset] = replace(settings[foreign.asset], pools=pools)
    addresses, leases = _addresses(present, seed, start)
    for one, other in floor.swapped:
        if one in addresses and other in addresses:
            addresses[one], addresses[other] = addresses[other], addresses[one]
    network = Network()
    on_dhcp: dict[str, str] = {}
    stations: dict[str, Station] = {}
    models: dict[tuple[str, str], Model] = {}
    for device in present:
        if device.asset not in addresses:
            absent["without an address"] += 1
            continue
        key = (device.type.id, device.intent.family)
        model = models.setdefault(key, model_of(device.type, device.intent.family))
        address = addresses[device.asset]
        machine = _machine(device, model, settings[device.asset], world, seed=seed)
        machine.password = known[device.intent.family]
        make = _MAKERS[device.intent.family]
        seat = _Seat(address, leases.get(device.asset))
        made = make(device, machine, settings[device.asset], seed=seed, seat=seat)
        station = Station(device.asset, address, made)
        stations[device.asset] = station
        network.add(station)
        if seat.subnet is not None:
            on_dhcp[device.asset] = seat.subnet
        machine.readdress = _mover(network, station, on_dhcp, seat.subnet, seed)
    flows = Flows(site, clock.device_s, every_s=_SUMMED_EVERY_S)
    flows.sources.append(_drawn_by(site, stations))
    meters = SimMeters(site.meters.values(), world, flows, seed=seed)
    meters.join(network)
    return SimSite(
        id=site.id,
        world=world,
        network=network,
        stations=stations,
        places={d.asset: (d.rack, *(n.id for n in site.path(d.feed))) for d in present},
        leases=on_dhcp,
        absent=dict(absent),
        meters=meters,
        flows=flows,
    )


_SUMMED_EVERY_S: Final = 1.0
"""Device seconds: no meter of ours looks more often."""


def _drawn_by(site: Site, stations: Mapping[str, Station]) -> Callable[[], Mapping[str, float]]:
    """What machines draw, as physics has it, by feed."""
    feeds = {device.asset: device.feed for device in site.devices}
    below: dict[str, list[Machine]] = {}
    for asset, station in stations.items():
        if isinstance(station.device, SimDevice):
            below.setdefault(feeds[asset], []).append(station.device.machine)
    return lambda: {
        feed: sum(one.sample().drawn_w for one in there) for feed, there in below.items()
    }


def _checked(floor: Floor, site: Site) -> Floor:
    if set(floor.outdated_racks) - set(site.racks):
        msg = f"the floor of {site.id} names unknown racks: {', '.join(floor.outdated_racks)}"
        raise ValueError(msg)
    known = {device.asset for device in site.devices}
    named = {asset for pair in floor.swapped for asset in pair}
    named |= {foreign.asset for foreign in floor.foreign_pools}
    if named - known:
        msg = f"the floor of {site.id} names unknown assets: {', '.join(sorted(named - known))}"
        raise ValueError(msg)
    return floor


def _present(site: Site) -> tuple[list[Device], Counter[str]]:
    present = []
    absent: Counter[str] = Counter()
    for device in site.devices:
        if device.state is SlotState.VACANT:
            absent["vacant"] += 1
        elif device.type.kind is DeviceKind.GPU_NODE:
            continue  # `nodes`: they answer by their BMCs
        elif device.intent.family not in FAMILIES:
            absent[f"family {device.intent.family} (no simulator yet)"] += 1
        else:
            present.append(device)
    return present, absent


def model_of(kind: DeviceType, family: str) -> Model:
    """What all units of a type share, and the name under which they print themselves."""
    fans = 0 if kind.cooling != "air" else 2 if family == WHATSMINER else 4
    return Model(
        family=family,
        make=kind.make,
        model=_printed(kind, family),
        boards=kind.boards,
        chips_per_board=kind.chips_per_board,
        fans=fans,
        ladder=tuple(
            Step(name=m.name, hashrate_ths=m.hashrate_ths, power_w=m.power_w) for m in kind.ladder
        ),
        nominal=kind.nominal_mode,
        standby_w=kind.standby_w,
    )


def _printed(kind: DeviceType, family: str) -> str:
    """The model as the device prints it: one of the names under which the type is known."""
    name = kind.model
    if family != WHATSMINER:
        likely = [name if name.casefold().startswith("antminer") else f"Antminer {name}"]
    else:
        # A WhatsMiner prints its variant too: M60S_VK30.
        short = name.split()[-1]
        variants = [m for m in kind.reported_models if m.startswith(f"{short.casefold()}_v")]
        likely = [*(variant.upper() for variant in variants), short]
    known = {*kind.reported_models, name.casefold()}
    return next((told for told in likely if told.casefold() in known), name)


# -- settings --------------------------------------------------------------------------------------


def _draw(seed: int, name: str) -> float:
    return mix(seed_of(f"{seed}/{name}"), 0)


def _stock(device: Device, seed: int) -> Settings:
    """How a new manager finds a machine that is declared so."""
    settings = device.desired()
    pools = settings.pools or ()
    rack = _draw(seed, f"pools/{device.rack}")
    if pools and _draw(seed, f"factory/{device.asset}") < FACTORY_POOL_DEVICES:
        pools = (_FACTORY_POOL,)
    elif pools and rack < OLD_WORKER_RACKS:
        pools = _outdated(device, settings).pools or ()
    elif pools and rack < OLD_BACKUP_RACKS:
        pools = (*pools[: max(1, len(pools) - 1)], _old_backup(pools[0]))
    mode = settings.power_mode
    if _draw(seed, f"mode/{device.rack}") < OTHER_MODE_RACKS:
        mode = _other_mode(device, mode)
    mining = settings.mining
    if mining and _draw(seed, f"asleep/{device.asset}") < ASLEEP_DEVICES:
        mining = False
    return replace(settings, pools=pools or None, power_mode=mode, mining=mining)


def _outdated(device: Device, settings: Settings) -> Settings:
    pools = tuple(
        replace(pool, worker=_old_worker(device, pool.worker)) for pool in settings.pools or ()
    )
    return replace(settings, pools=pools or None)


def _old_worker(device: Device, worker: str) -> str:
    """The pattern before the last renaming: account, rack without its dashes, slot."""
    account = worker.partition(".")[0]
    return f"{account}.{device.rack.replace('-', '')}x{device.slot}"


def _old_backup(first: PoolSetting) -> PoolSetting:
    scheme, _, rest = first.url.partition("://")
    return PoolSetting(url=f"{scheme}://old-backup.{rest}", worker=first.worker)


def _other_mode(device: Device, mode: str | None) -> str | None:
    """The step below; at the bottom of the ladder the one above."""
    names = [step.name for step in device.type.ladder]
    place = names.index(mode) if mode in names else names.index(device.type.nominal.name)
    if len(names) == 1:
        return mode
    return names[place - 1] if place else names[1]


def _fed(site: Site, wanted: Mapping[str, Settings], floor: Floor) -> dict[str, Settings]:
    """The settings with everybody asleep whom the feeds could not carry: in the plan's own order.

    A machine that stands in another's slot draws from the feed of that slot.
    """
    stands = floor.standing()
    loads = Loads(site)
    wishes = []
    for device in site.devices:
        want = wanted.get(stands.get(device.asset, device.asset))
        if want is None or not device.is_managed:
            loads.count(device.asset, device.feed, counted_w(device, None))
            continue
        loads.count(device.asset, device.feed, device.type.standby_w)
        if want.mining is not False:
            wishes.append(
                Raise(
                    asset=device.asset,
                    feed=device.feed,
                    target_w=permitted_w(device.type, want),
                    j_per_th=efficiency(device, want),
                )
            )
    refused = {stands.get(slot, slot) for slot in admit(loads, wishes).refused}
    return {
        asset: replace(want, mining=False) if asset in refused else want
        for asset, want in wanted.items()
    }


# -- machines --------------------------------------------------------------------------------------


def _addresses(
    devices: list[Device], seed: int, start: Start
) -> tuple[dict[str, str], dict[str, str]]:
    """Asset → address, and asset → subnet of those on DHCP; on a `stock` floor nobody has moved yet."""
    places = {device.asset: _place(device, start) for device in devices}
    addresses = {asset: address for asset, (address, _) in places.items() if address is not None}
    taken = {*addresses.values(), *(d.address for d in devices if d.address is not None)}
    leases: dict[str, str] = {}
    waiting: dict[str, list[str]] = {}
    for asset, (address, subnet) in places.items():
        if address is None and subnet is not None:
            leases[asset] = subnet
            waiting.setdefault(subnet, []).append(asset)
    for subnet, assets in waiting.items():
        addresses |= deal(subnet, assets, taken, random.Random(f"{seed}/{subnet}"))
    return addresses, leases


def _mover(
    network: Network, station: Station, on_dhcp: dict[str, str], subnet: str | None, seed: int
) -> Callable[[str | None], str]:
    """Where a machine goes by its own settings: to a static address, or to a lease of its network."""

    def readdress(address: str | None) -> str:
        asset = station.asset
        if address is not None:
            on_dhcp.pop(asset, None)
        elif subnet is None:
            address = _NOWHERE
        elif asset in on_dhcp:
            return station.address
        else:
            on_dhcp[asset] = subnet
            taken = {other.address for other in network}
            address = deal(subnet, [asset], taken, random.Random(f"{seed}/{asset}"))[asset]
        network.move([(station, address)])
        return address

    return readdress


_NOWHERE = "0.0.0.0"  # noqa: S104 - nobody listens there
"""The address of a machine that asks for a lease where nobody deals any."""


def _place(device: Device, start: Start) -> tuple[str | None, str | None]:
    """The static address of a machine, and the network that it is on DHCP in."""
    moves = device.renumbering
    if moves is None or start == "converged":
        return device.address, device.subnet
    return moves.address, moves.subnet


def deal(subnet: str, assets: list[str], taken: set[str], rng: random.Random) -> dict[str, str]:
    """Lease an address of a subnet to each asset; the first host is the gateway's."""
    hosts = [str(host) for host in ipaddress.ip_network(subnet).hosts()][1:]
    free = [host for host in hosts if host not in taken]
    return dict(zip(assets, rng.sample(free, len(assets)), strict=True))


def _machine(
    device: Device, model: Model, settings: Settings, world: World, *, seed: int
) -> Machine:
    place = seed_of(device.asset)
    missing = device.missing_boards
    if device.state is SlotState.DEGRADED:
        missing = max(1, missing)
    machine = Machine(
        world=world,
        model=model,
        asset=device.asset,
        rack=device.rack,
        mac=device.mac or "02:" + ":".join(f"{b:02x}" for b in place.to_bytes(8, "big")[:5]),
        serial=device.serial or f"SIM{place % 10**12:012d}",
        password="",
        bin_share=device.bin_ths / device.type.nominal.hashrate_ths if device.bin_ths else 1.0,
        missing_boards=min(missing, model.boards - 1),
        asleep=settings.mining is False,
        mode=settings.power_mode,
        age_s=_DAY_S * (1.0 + 59.0 * _draw(seed, f"age/{device.asset}")),
        is_dead=device.state is SlotState.OUT_OF_SERVICE,
    )
    machine.is_off = device.state is SlotState.IN_REPAIR
    return machine


def _antminer(
    device: Device, machine: Machine, settings: Settings, *, seed: int, seat: _Seat
) -> SimDevice:
    del seed
    build = antminer_builds.build_of(machine)
    if device.intent.firmware:
        build = replace(build, compile_time=device.intent.firmware)
    return Antminer(
        machine,
        pools=tuple(AntPool(p.url, p.worker, "x") for p in settings.pools or ()),
        network=antminer_unit.Network(
            proto="DHCP" if seat.on_dhcp else "Static", ip=seat.address, hostname=device.asset
        ),
        build=build,
    )


def _whatsminer(
    device: Device, machine: Machine, settings: Settings, *, seed: int, seat: _Seat
) -> SimDevice:
    build = whatsminer_unit.build_of(machine)
    if device.intent.firmware:
        build = replace(build, firmware=device.intent.firmware)
    return WhatsMiner(
        machine,
        pools=tuple(whatsminer_unit.Pool(p.url, p.worker, "x") for p in settings.pools or ()),
        network=whatsminer_unit.Network(
            proto="dhcp" if seat.on_dhcp else "static", ip=seat.address, hostname=device.asset
        ),
        build=build,
        writes_enabled=_draw(seed, f"writes/{device.asset}") >= WRITES_OFF,
        limit_w=settings.power_limit_w,
    )


def _vnish(
    device: Device, machine: Machine, settings: Settings, *, seed: int, seat: _Seat
) -> SimDevice:
    del seed
    build = vnish_builds.build_of(machine)
    if device.intent.firmware:
        build = vnish_builds.BUILDS.get(device.intent.firmware) or replace(
            build, version=device.intent.firmware
        )
    return Vnish(
        machine,
        pools=tuple(
            vnish_conf.Pool(p.url.removeprefix("stratum+tcp://"), p.worker, "x")
            for p in settings.pools or ()
        ),
        network=vnish_conf.Network(
            dhcp=seat.on_dhcp, ip=seat.address, hostname=device.asset.lower()
        ),
        build=build,
    )


def _luxos(
    device: Device, machine: Machine, settings: Settings, *, seed: int, seat: _Seat
) -> SimDevice:
    del seed
    build = luxos_unit.build_of(machine)
    if device.intent.firmware:
        version, _, commit = device.intent.firmware.partition("-")
        build = replace(build, version=version, commit=commit or build.commit)
    return LuxOs(
        machine,
        pools=tuple(luxos_unit.Pool(p.url, p.worker, "x") for p in settings.pools or ()),
        network=luxos_unit.Network(dhcp=seat.on_dhcp, ip=seat.address, hostname=device.asset),
        build=build,
    )


_MAKERS: Mapping[str, Callable[..., SimDevice]] = {
    ANTMINER: _antminer,
    WHATSMINER: _whatsminer,
    LUXOS: _luxos,
    VNISH: _vnish,
}
