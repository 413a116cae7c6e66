"""Documents that were found good → the resolved `Site`. Pure; it relies on what the checks established."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from control_plane.api.v1alpha1 import (
    BmcAccessDoc,
    BudgetsDoc,
    CredentialsDoc,
    DeviceTypeDoc,
    FeedDoc,
    FirmwareReleaseDoc,
    FleetDoc,
    GpuRackDoc,
    NetworkDoc,
    OwnerDoc,
    PoolDoc,
    PowerDoc,
    PreviousAddressingDoc,
    ProfileDoc,
    RackDoc,
)
from control_plane.core.catalogue import Image, Release, Releases
from control_plane.core.findings import SourceRef
from control_plane.core.fleet import (
    BmcAccess,
    Budgets,
    Cluster,
    Contingency,
    Credentials,
    Device,
    DeviceKind,
    DeviceType,
    FeedKind,
    FeedNode,
    Host,
    Intent,
    Mode,
    OwnedPool,
    Owner,
    Rack,
    Renumbering,
    Site,
    StaticNetwork,
    Strategy,
    Tenure,
)
from control_plane.core.observation import Field, Settings
from control_plane.core.trip_curve import TripCurve, TripPoint
from control_plane.inventory.choices import Choice, RackSource, choices_of
from control_plane.inventory.expand_gpu import gpu_intent, gpu_model
from control_plane.inventory.expand_meters import meters_of
from control_plane.inventory.placement import Row, Table
from control_plane.inventory.shape import File
from control_plane.inventory.source import Source, Spot
from control_plane.inventory.tree import SiteTree, Tree

W_PER_KW = 1_000.0


class Shared(NamedTuple):
    """What every site uses."""

    owners: Mapping[str, Owner]
    types: Mapping[str, DeviceType]
    profiles: Mapping[str, File[ProfileDoc]]
    releases: Releases
    fleet: FleetDoc


def shared_of(tree: Tree, fleet: FleetDoc) -> Shared:
    """The shared documents, as the core knows them."""
    return Shared(
        owners={name: owner(name, f.data) for name, f in tree.owners.items() if f},
        types={name: device_type(name, f.data) for name, f in tree.types.items() if f},
        profiles={name: f for name, f in tree.profiles.items() if f},
        releases={
            (kind, f.data.family, f.data.version): release(name, f.data)
            for name, f in tree.firmware.items()
            if f
            for kind in f.data.device_types
        },
        fleet=fleet,
    )


# --- shared files ----------------------------------------------------------------------------


def device_type(name: str, doc: DeviceTypeDoc) -> DeviceType:
    """A model, as the core knows it."""
    return DeviceType(
        id=name,
        kind=DeviceKind(doc.kind),
        make=doc.make,
        model=doc.model,
        reported_models=tuple(model.casefold() for model in doc.reported_models),
        families=frozenset(doc.families),
        boards=doc.boards,
        chips_per_board=doc.chips_per_board,
        phases=doc.phases,
        cooling=doc.cooling,
        standby_w=doc.standby_w,
        ladder=tuple(
            Mode(name=m.name, hashrate_ths=m.hashrate_ths, power_w=m.power_w) for m in doc.modes
        ),
        nominal_mode=doc.nominal_mode,
        gpus=doc.gpus,
        gpu=gpu_model(doc.gpu),
        source=doc.source,
    )


def release(name: str, doc: FirmwareReleaseDoc) -> Release:
    """A release of the catalogue, as the core knows it."""
    return Release(
        id=name,
        family=doc.family,
        version=doc.version,
        types=frozenset(doc.device_types),
        images=tuple(
            Image(
                file=image.file,
                sha256=image.sha256,
                size_bytes=image.size_bytes,
                control_boards=tuple(board.casefold() for board in image.control_boards),
                hardware_revisions=tuple(r.casefold() for r in image.hardware_revisions),
            )
            for image in doc.images
        ),
        min_from_version=doc.min_from_version,
        flash_s=doc.flash_s,
        settle_s=doc.settle_s,
        can_roll_back=doc.can_roll_back,
        voids_warranty=doc.voids_warranty,
        note=doc.note,
        by_hand=doc.by_hand,
    )


def owner(name: str, doc: OwnerDoc) -> Owner:
    """An owner, as the core knows him."""
    return Owner(
        id=name,
        name=doc.name,
        pools=tuple(
            OwnedPool(name=pool, url=pool_url(one), worker=one.worker)
            for pool, one in doc.pools.items()
        ),
        approvals={Field(field): who for field, who in doc.approvals.items()},
        firmware_families=frozenset(doc.firmware_families),
        participation=doc.participation,
    )


def pool_url(doc: PoolDoc) -> str:
    """The canonical form, as devices' own are brought into."""
    host = doc.host.casefold()
    if doc.protocol == "stratum2":
        return f"stratum2+tcp://{host}:{doc.port}/{doc.sv2_public_key}"
    return f"stratum+{'ssl' if doc.tls else 'tcp'}://{host}:{doc.port}"


def declared(profile: ProfileDoc) -> Settings:
    """What a profile declares, without pools: enough to tell the permitted watts."""
    return Settings(
        mining=profile.mining,
        power_mode=profile.power_mode,
        power_limit_w=profile.power_limit_w,
    )


def cohort(text: str) -> float:
    """A count (1 and more) or a share (below 1)."""
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


# --- feeds -----------------------------------------------------------------------------------


def feed_nodes(power: File[PowerDoc]) -> Iterator[FeedNode]:
    """The nodes of the tree, with PDUs expanded."""
    for index, node in enumerate(power.data.nodes):
        where = power.doc.ref(power.doc.spot("nodes", index))
        yield FeedNode(
            id=node.id,
            kind=FeedKind(node.kind),
            parent=node.parent,
            rating_w=node.rating_kw * W_PER_KW,
            derate=node.derate,
            unmanaged_w=node.unmanaged_kw * W_PER_KW,
            meter=node.meter,
            pair=node.pair,
            emergency_w=node.emergency_kw * W_PER_KW if node.emergency_kw else None,
            breaker=_trip_curve(node),
            where=where,
        )
        if node.pdus:
            at = power.doc.ref(power.doc.spot("nodes", index, "pdus"))
            for number in range(1, node.pdus.count + 1):
                yield FeedNode(
                    id=f"{node.id}-p{number}",
                    kind=FeedKind.PDU,
                    parent=node.id,
                    rating_w=node.pdus.rating_kw * W_PER_KW,
                    derate=node.pdus.derate,
                    where=at,
                )


def _trip_curve(node: FeedDoc) -> TripCurve | None:
    points = tuple(TripPoint(load=p.load, seconds=p.seconds) for p in node.breaker)
    return TripCurve(points=points) if points else None


def contingencies(power: File[PowerDoc]) -> tuple[Contingency, ...]:
    """The losses that are declared."""
    return tuple(Contingency(name=c.name, lost=c.lost) for c in power.data.contingencies)


# --- a site ----------------------------------------------------------------------------------


def expand(tree: SiteTree, shared: Shared) -> Site | None:
    """The site; `None` where a document that it cannot be without is missing."""
    if tree.site is None or tree.power is None:
        return None
    doc = tree.site.data
    rows = rows_by_rack(tree)
    racks: dict[str, Rack] = {}
    devices: list[Device] = []
    for source in rack_sources(tree):
        rack = source.rack
        racks[rack.id] = _rack(tree.name, source, rack.slots, DeviceKind.MINER)
        devices += _miners(tree.name, source, rows.get(rack.id, {}), shared, doc.networks)
    for gpu in gpu_sources(tree):
        racks[gpu.rack.id] = _rack(tree.name, gpu, gpu.rack.nodes, DeviceKind.GPU_NODE)
        devices += _gpu_nodes(tree.name, gpu, shared)
    devices.sort(key=lambda device: device.asset)
    budgets = doc.budgets or shared.fleet.budgets
    rollout = shared.fleet.rollout
    return Site(
        id=tree.name,
        name=doc.name,
        tenure=Tenure(
            kind=doc.tenure.kind,
            host=doc.tenure.host,
            host_actions=frozenset(Field(field) for field in doc.tenure.host_actions),
        ),
        time_zone=doc.time_zone,
        feeds={node.id: node for node in feed_nodes(tree.power)},
        racks=racks,
        devices=tuple(devices),
        hosts=tuple(_hosts(tree)),
        meters=meters_of(tree),
        owners=shared.owners,
        types=shared.types,
        budgets=_budgets(budgets),
        strategy=Strategy(
            cohorts=tuple(cohort(text) for text in rollout.cohorts),
            max_new_failure_share=rollout.max_new_failure_share,
        ),
        clusters=doc.clusters,
        cluster=_cluster(tree),
        jump_host=doc.jump_host,
        bmc=_bmc_access(doc.bmc),
        contingencies=contingencies(tree.power),
        firmware_store=doc.firmware_store,
        releases=_asked_for(devices, shared.releases),
    )


def _asked_for(devices: list[Device], releases: Releases) -> Releases:
    """Only these are part of the site's declaration: a release that nobody runs changes nothing."""
    wanted = {(d.type.id, d.intent.family, d.intent.firmware) for d in devices}
    return {key: one for key, one in sorted(releases.items()) if key in wanted}


def rack_sources(tree: SiteTree) -> Iterator[RackSource[RackDoc]]:
    """Every rack of miners, with where it stands."""
    for file in tree.racks:
        for index, rack in enumerate(file.data.racks):
            yield RackSource(file.doc, index, rack)


def gpu_sources(tree: SiteTree) -> Iterator[RackSource[GpuRackDoc]]:
    """Every rack of GPU nodes, with where it stands."""
    for file in tree.gpu:
        for index, rack in enumerate(file.data.racks):
            yield RackSource(file.doc, index, rack)


def rows_by_rack(tree: SiteTree) -> dict[str, dict[int, tuple[Table, Row]]]:
    """Rack → slot → its record; of two records of a slot the first."""
    racks: dict[str, dict[int, tuple[Table, Row]]] = {}
    for table in tree.placement:
        for row in table.rows:
            slots = racks.get(row.rack)
            if slots is None:
                slots = racks[row.rack] = {}
            if row.slot not in slots:
                slots[row.slot] = (table, row)
    return racks


def _rack(
    site: str, source: RackSource[RackDoc | GpuRackDoc], slots: int, kind: DeviceKind
) -> Rack:
    rack = source.rack
    return Rack(
        id=rack.id,
        site=site,
        feed=rack.feed,
        slots=slots,
        switch=rack.switch,
        kind=kind,
        where=source.ref(),
    )


def _miners(
    site: str,
    source: RackSource[RackDoc],
    rows: Mapping[int, tuple[Table, Row]],
    shared: Shared,
    networks: Iterable[NetworkDoc],
) -> Iterator[Device]:
    rack = source.rack
    addressing = "static" if rack.addressing.static_by_slot else "dhcp"
    addressing_at = source.ref("addressing")
    intents: dict[Choice, Intent] = {}
    for choice in set(choices_of(source)):
        if choice.owner is not None:
            intents[choice] = _intent(source, choice, shared, addressing, addressing_at)
    first, before = rack.addressing.static_by_slot, rack.addressing.previous
    base = int(ipaddress.IPv4Address(first)) if first else None
    network = network_around(first, networks) if first and before else None
    rack_at = source.ref()
    for slot, choice in enumerate(choices_of(source), 1):
        address = _dotted(base + slot - 1) if base is not None else None
        moves = _renumbering(address, slot, before, network) if address and before else None
        table, row = rows.get(slot, (None, None))
        if row is None or table is None:
            yield Device(
                asset=f"{rack.id}-s{slot}",
                site=site,
                rack=rack.id,
                slot=slot,
                feed=rack.feed,
                type=shared.types[choice.type],
                intent=intents[choice],
                address=address,
                subnet=rack.addressing.dhcp,
                renumbering=moves,
                where=rack_at,
            )
            continue
        yield Device(
            asset=row.asset,
            site=site,
            rack=rack.id,
            slot=slot,
            feed=rack.feed,
            type=shared.types[row.type or choice.type],
            intent=intents[choice],
            address=address,
            subnet=rack.addressing.dhcp,
            renumbering=moves,
            mac=row.mac or None,
            serial=row.serial or None,
            bin_ths=row.bin_ths,
            state=row.state,
            state_reason=row.reason,
            since=row.since,
            ticket=row.ticket,
            missing_boards=row.missing_boards,
            where=SourceRef(table.path, row.line, 1),
        )


def network_around(address: str, networks: Iterable[NetworkDoc]) -> NetworkDoc | None:
    """The site's network that an address is of, where it is one; they do not overlap."""
    try:
        place = ipaddress.IPv4Address(address)
    except ValueError:
        return None  # a finding says so
    return next((n for n in networks if place in ipaddress.IPv4Network(n.cidr)), None)


def _renumbering(
    address: str, slot: int, before: PreviousAddressingDoc, network: NetworkDoc | None
) -> Renumbering | None:
    if network is None or network.gateway is None:
        return None  # a finding says so
    first = before.static_by_slot
    return Renumbering(
        network=StaticNetwork(
            address=address,
            netmask=str(ipaddress.IPv4Network(network.cidr).netmask),
            gateway=network.gateway,
            dns=network.dns or (network.gateway,),
        ),
        to=network.cidr,
        address=_dotted(int(ipaddress.IPv4Address(first)) + slot - 1) if first else None,
        subnet=before.dhcp,
    )


def _gpu_nodes(site: str, source: RackSource[GpuRackDoc], shared: Shared) -> Iterator[Device]:
    rack = source.rack
    choice = Choice(rack.owner, rack.type, rack.profile)
    intent = _intent(source, choice, shared, None, source.ref())
    base = int(ipaddress.IPv4Address(rack.first_address))
    first_bmc = int(ipaddress.IPv4Address(rack.first_bmc))
    where = source.ref()
    for number in range(1, rack.nodes + 1):
        yield Device(
            asset=f"{rack.id}-n{number}",
            site=site,
            rack=rack.id,
            slot=number,
            feed=rack.feed,
            type=shared.types[rack.type],
            intent=intent,
            address=_dotted(base + number - 1),
            bmc=_dotted(first_bmc + number - 1),
            bmc_sha256=rack.bmc_certificates[number - 1] if rack.bmc_certificates else None,
            where=where,
        )


def _dotted(number: int) -> str:
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


_ORIGINS = (
    "pools", "mining", "power_mode", "power_limit_w", "firmware", "gpu", "credentials",
)  # fmt: skip
"""Keys of a profile whose line is kept."""


def _intent(
    source: RackSource[RackDoc | GpuRackDoc],
    choice: Choice,
    shared: Shared,
    addressing: str | None,
    addressing_at: SourceRef,
) -> Intent:
    doc, profile = shared.profiles[choice.profile]
    owner_id = choice.owner or ""
    pools = {pool.name: pool for pool in shared.owners[owner_id].pools}
    origins = {field: doc.ref(doc.spot(field)) for field in _ORIGINS if field in doc.value}
    origins["owner"] = source.ref(*choice.owner_path)
    origins["profile"] = source.ref(*choice.profile_path)
    if addressing is not None:
        origins["addressing"] = addressing_at
    return Intent(
        owner=owner_id,
        profile=choice.profile,
        family=profile.firmware.family,
        firmware=profile.firmware.version,
        pools=tuple(pools[name] for name in profile.pools),
        mining=profile.mining,
        power_mode=profile.power_mode,
        power_limit_w=profile.power_limit_w,
        addressing=addressing,
        credentials=_credentials(profile.credentials),
        curtailment_class=profile.curtailment_class,
        gpu=gpu_intent(profile.gpu),
        origins=origins,
    )


def _credentials(given: CredentialsDoc | None) -> Credentials | None:
    if given is None:
        return None
    return Credentials(user=given.user, secret_ref=given.secret_ref, previous=given.previous)


def _bmc_access(given: BmcAccessDoc | None) -> BmcAccess | None:
    if given is None:
        return None
    credentials = _credentials(given.credentials)
    assert credentials is not None  # noqa: S101 - a BMC's are required
    return BmcAccess(credentials=credentials, port=given.port, authority_pem=given.authority)


def _hosts(tree: SiteTree) -> Iterator[Host]:
    for file in tree.hosts:
        for index, host in enumerate(file.data.hosts):
            yield Host(
                name=host.name,
                role=host.role,
                address=host.address,
                feed=host.feed,
                power_w=host.power_w,
                bmc=host.bmc,
                bmc_sha256=host.bmc_certificate,
                host_key=host.host_key,
                where=file.doc.ref(file.doc.spot("hosts", index)),
            )


def _cluster(tree: SiteTree) -> Cluster | None:
    if tree.cluster is None:
        return None
    doc = tree.cluster.data
    return Cluster(
        backend=doc.backend,
        version=doc.version,
        endpoint=doc.endpoint,
        pods=doc.pods,
        services=doc.services,
        cni=doc.cni,
        pods_of={name: str(network) for name, network, *_ in pod_networks(tree)},
        image_repository=doc.image_repository,
        pause_image=doc.pause_image,
        registry_mirrors=doc.registry_mirrors,
        ssh_user=doc.ssh.user,
        ssh_port=doc.ssh.port,
        on_removal=doc.on_removal,
        kubelet=doc.kubelet,
        kube_proxy=doc.kube_proxy,
        cgroup_driver=doc.cgroup_driver,
        restrict_oom_score_adj=doc.restrict_oom_score_adj,
        ignore_preflight=doc.ignore_preflight,
        where=tree.cluster.doc.ref(tree.cluster.doc.spot()),
    )


class PodNetwork(NamedTuple):
    """Where a node's pods are."""

    node: str
    network: ipaddress.IPv4Network
    source: Source
    spot: Spot


def pod_networks(tree: SiteTree) -> Iterator[PodNetwork]:
    """The pod network of each host and GPU node that has one; those that are no networks are left out."""
    for file in tree.hosts:
        for index, host in enumerate(file.data.hosts):
            if host.pods is not None and (network := _network(host.pods)) is not None:
                yield PodNetwork(
                    host.name, network, file.doc, file.doc.spot("hosts", index, "pods")
                )
    for gpu in gpu_sources(tree):
        first = gpu.rack.first_pods
        if first is None or (network := _network(first)) is None:
            continue
        for number in range(gpu.rack.nodes):
            place = int(network.network_address) + number * network.num_addresses
            if place < 1 << 32:
                one = ipaddress.IPv4Network((place, network.prefixlen))
                yield PodNetwork(
                    f"{gpu.rack.id}-n{number + 1}", one, gpu.doc, gpu.spot("first_pods")
                )


def _network(text: str) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(text)
    except ValueError:
        return None


def _budgets(doc: BudgetsDoc) -> Budgets:
    return Budgets(
        in_flight_per_rack=doc.in_flight_per_rack,
        in_flight_per_feed=doc.in_flight_per_feed,
        in_flight_per_site=doc.in_flight_per_site,
    )
