"""Declared: the one resolved graph that validate, plan, apply, stacks and the controller read.

Fleet ⊃ Site ⊃ (FeedNode tree, Rack ⊃ Device). Everything is immutable; devices share their `Intent`,
`DeviceType` and rack by reference, so that 300,000 of them fit in a few hundred megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from control_plane.core.catalogue import Release, Releases
from control_plane.core.findings import SourceRef
from control_plane.core.gpu import GpuSettings
from control_plane.core.meter import Meter
from control_plane.core.observation import Field, PoolSetting, Settings
from control_plane.core.trip_curve import TripCurve


class DeviceKind(StrEnum):
    """What kind of load a device is."""

    MINER = "miner"
    GPU_NODE = "gpu_node"


class SlotState(StrEnum):
    """The life of a slot. Some per cent of a real site is always not in service."""

    IN_SERVICE = "in_service"
    DEGRADED = "degraded"
    """Runs with a known defect (a missing board): managed, counted with less hash."""
    OUT_OF_SERVICE = "out_of_service"
    IN_REPAIR = "in_repair"
    VACANT = "vacant"


MANAGED_STATES = frozenset({SlotState.IN_SERVICE, SlotState.DEGRADED})


class Mode(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One step of a ladder: nameplate, until learned from the device."""

    name: str
    hashrate_ths: float
    power_w: float


class GpuModel(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The GPUs of a node, all of one model."""

    model: str
    """As the driver prints it."""
    memory_gib: int
    min_limit_w: float
    max_limit_w: float
    """What a GPU draws without a limit."""


class DeviceType(msgspec.Struct, frozen=True, kw_only=True):
    """Nameplate facts of one model, as data."""

    id: str
    kind: DeviceKind
    make: str
    model: str
    reported_models: tuple[str, ...]
    """Model strings that devices print, lower case; identity is checked against them."""
    families: frozenset[str]
    """Firmware families that exist for it; without a driver a device is planned as held."""
    boards: int
    chips_per_board: int
    phases: int
    cooling: str
    """`air`, `hydro` or `immersion`."""
    standby_w: float
    ladder: tuple[Mode, ...]
    """Ascending in watts. For a GPU node one step at its full draw."""
    nominal_mode: str
    gpus: int = 0
    gpu: GpuModel | None = None
    """`None` of a miner, and where nothing is known of the GPUs but their number."""
    source: str = ""
    """Where the ladder comes from."""

    def mode(self, name: str) -> Mode | None:
        """The step of that name, if the ladder has it."""
        for step in self.ladder:
            if step.name == name:
                return step
        return None

    @property
    def nominal(self) -> Mode:
        """The step that the nameplate prints."""
        for step in self.ladder:
            if step.name == self.nominal_mode:
                return step
        return self.ladder[-1]

    @property
    def max_w(self) -> float:
        """The highest step's watts: what an unknown device is counted at."""
        return self.ladder[-1].power_w


class OwnedPool(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry of an owner's pool list: the allow-list that plan and gate both check."""

    name: str
    url: str
    """Canonical, as `PoolSetting.url`."""
    worker: str
    """Pattern; `{asset}`, `{rack}`, `{slot}` and `{site}` are replaced per device."""


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Whose machines, and what they consented to."""

    id: str
    name: str
    pools: tuple[OwnedPool, ...]
    approvals: Mapping[Field, tuple[str, ...]] = {}
    """Who has to approve a change of a field; absent: the site's operator alone."""
    firmware_families: frozenset[str] = frozenset()
    """Families that the owner consents to; empty: those that the type ships with."""
    participation: str = "sheddable"
    """Curtailment: `sheddable`, `protected` or `locked`."""


class Tenure(msgspec.Struct, frozen=True, kw_only=True):
    """Whose site, and what its host lets us do."""

    kind: str
    """`owned` or `hosted_in`."""
    host: str | None = None
    host_actions: frozenset[Field] = frozenset()
    """Fields that only the host may change: planned as held with `host_action`."""


class FeedKind(StrEnum):
    """Levels of the feed tree, from the grid down."""

    UTILITY = "utility"
    CONTRACT = "contract"
    """At a host's: one number on paper, no metering of ours below it."""
    TRANSFORMER = "transformer"
    FEEDER = "feeder"
    PAD = "pad"
    CONTAINER = "container"
    HALL = "hall"
    PDU = "pdu"


class FeedNode(msgspec.Struct, frozen=True, kw_only=True):
    """One node of the feed tree; every device hangs on one."""

    id: str
    kind: FeedKind
    parent: str | None
    rating_w: float
    derate: float
    """0–1; continuous load on ordinary breakers: 0.8 (NEC 210.20), 1.0 where listed for 100 %."""
    unmanaged_w: float = 0.0
    """Fans, pumps and other load on this node that gridplane does not manage; above it, it is load."""
    meter: str | None = None
    pair: str | None = None
    """The other side of an A/B pair."""
    emergency_w: float | None = None
    """What it bears after a loss elsewhere; `None`: its rating."""
    breaker: TripCurve | None = None
    """`None`: nobody declared it, and `core.trip_curve.DEFAULT` stands in."""
    where: SourceRef

    @property
    def usable_w(self) -> float:
        """What everything below this node may draw together."""
        return self.rating_w * self.derate - self.unmanaged_w


class Contingency(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes of the feed tree that are dark together; whatever hangs below them is, too."""

    name: str
    lost: tuple[str, ...]


class Credentials(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A user and where the password is; never the password."""

    user: str
    secret_ref: str
    """`env:NAME` or `file:PATH`."""
    previous: tuple[str, ...] = ()
    """What machines may still have, until `secret_ref` was rotated in."""


class StaticNetwork(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a device is told of its network, once its address is static."""

    address: str
    netmask: str
    gateway: str
    dns: tuple[str, ...]
    """At least one."""


class Renumbering(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A device that is to get its static address: what it is told, and where it may still be."""

    network: StaticNetwork
    to: str
    """CIDR of the site's network that the address is of."""
    address: str | None = None
    """Its static address before; else it is in `subnet`."""
    subnet: str | None = None
    """CIDR in which DHCP dealt it one before."""


class GpuIntent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What the GPUs of a node should run."""

    settings: GpuSettings = GpuSettings()
    """`mig` follows from the profile below."""
    driver: str | None = None
    """Version; `None`: whichever the operator brings."""
    mig: str | None = None
    """Profile of the operator's MIG manager; `None`: nobody asks for one."""
    acts: bool = False
    """Whether a node that fails is remedied without a person; else it is told what would be done."""
    waves: bool = False
    """Whether another driver or MIG profile comes in waves; else it is the operator's, and people's."""


class Intent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a group of devices should be; shared by all devices of equal rack, owner, profile and override."""

    owner: str
    profile: str
    family: str
    """Declared firmware family."""
    firmware: str | None
    pools: tuple[OwnedPool, ...]
    """Rendered per device by `Device.desired()`."""
    mining: bool
    """False: declared asleep."""
    power_mode: str | None
    power_limit_w: int | None
    addressing: str | None
    credentials: Credentials | None
    curtailment_class: str
    gpu: GpuIntent | None = None
    """`None` of a miner, and where a profile says nothing of GPUs."""
    origins: Mapping[str, SourceRef]
    """Which line set each field (by `Field` value, plus `owner`, `profile`, `credentials`)."""


class Device(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One miner or GPU node in its slot."""

    asset: str
    """Its own id: survives a move, a re-flash, a new IP address and a control-board swap."""
    site: str
    rack: str
    slot: int
    feed: str
    type: DeviceType
    intent: Intent
    address: str | None = None
    """Declared address; `None` on DHCP: then it is located by MAC."""
    subnet: str | None = None
    """CIDR in which a DHCP device is looked for."""
    bmc: str | None = None
    """Address of its management controller; of GPU nodes alone."""
    bmc_sha256: str | None = None
    """Of the certificate in DER that it shows, hex; `None`: the site's authority signs it, or nobody."""
    renumbering: Renumbering | None = None
    """`None` where its rack names no addressing before."""
    mac: str | None = None
    serial: str | None = None
    bin_ths: float | None = None
    """Hashrate bin as sold: nameplate hash of this very unit."""
    state: SlotState = SlotState.IN_SERVICE
    state_reason: str = ""
    since: str = ""
    """ISO date of the record; the later record of an asset wins."""
    ticket: str = ""
    missing_boards: int = 0
    where: SourceRef

    @property
    def is_managed(self) -> bool:
        """Whether the engine looks at it and may write to it."""
        return self.state in MANAGED_STATES

    @property
    def searched(self) -> str | None:
        """CIDR in which it is looked for by who it is; `None` where its address is known."""
        return self.renumbering.subnet if self.renumbering else self.subnet

    def desired(self) -> Settings:
        """The declared settings, rendered for this device."""
        intent = self.intent
        return Settings(
            pools=tuple([self._render(pool) for pool in intent.pools]) or None,
            mining=intent.mining,
            power_mode=intent.power_mode,
            power_limit_w=intent.power_limit_w,
            firmware=intent.firmware,
            addressing=intent.addressing,
        )

    def _render(self, pool: OwnedPool) -> PoolSetting:
        worker = pool.worker
        if "{asset}" in worker:
            worker = worker.replace("{asset}", self.asset)
        if "{" in worker:
            worker = worker.replace("{rack}", self.rack)
            worker = worker.replace("{slot}", str(self.slot)).replace("{site}", self.site)
        return PoolSetting(pool.url, worker)

    def scale(self) -> float:
        """This unit's share of the type's nameplate hash: its bin and its missing boards."""
        share = self.bin_ths / self.type.nominal.hashrate_ths if self.bin_ths else 1.0
        if self.missing_boards and self.type.boards:
            share *= max(0, self.type.boards - self.missing_boards) / self.type.boards
        return share

    def hashrate_at(self, mode: str | None) -> float:
        """Nameplate TH/s of this unit in a mode; `None` stands for the nominal mode."""
        step = self.type.mode(mode) if mode else self.type.nominal
        return (step or self.type.nominal).hashrate_ths * self.scale()


class Rack(msgspec.Struct, frozen=True, kw_only=True):
    """Geometry that people edit."""

    id: str
    site: str
    feed: str
    slots: int
    switch: str | None
    kind: DeviceKind
    where: SourceRef


class BmcAccess(msgspec.Struct, frozen=True, kw_only=True):
    """How a site's BMCs are reached."""

    credentials: Credentials
    port: int
    authority_pem: str | None = None
    """Who signs their certificates; `None`: each is known by its own digest, or not at all."""


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that runs gridplane or the cluster: never sheddable."""

    name: str
    role: str
    address: str
    feed: str
    power_w: float
    bmc: str | None
    bmc_sha256: str | None = None
    """Of its BMC's certificate in DER, hex."""
    host_key: str | None
    where: SourceRef


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """The Kubernetes cluster that a site's hosts are to be. No revision has it: devices do not hear of it."""

    backend: str
    """`kubeadm` or `rke2`."""
    version: str
    endpoint: str | None
    """Address in front of all API servers; `None`: the first server's own."""
    pods: str
    services: str
    cni: str
    """`routed` or `external`."""
    pods_of: Mapping[str, str]
    """Host or GPU node → network of its pods, where the site routes them."""
    image_repository: str
    pause_image: str | None
    registry_mirrors: Mapping[str, tuple[str, ...]]
    ssh_user: str
    ssh_port: int
    on_removal: str
    """`release` or `uninstall`."""
    kubelet: Mapping[str, Any]
    kube_proxy: Mapping[str, Any]
    cgroup_driver: str
    restrict_oom_score_adj: bool
    ignore_preflight: tuple[str, ...]
    where: SourceRef


class Budgets(msgspec.Struct, frozen=True, kw_only=True):
    """How much may be in flight at once, and how much may change before a gate."""

    in_flight_per_rack: int
    in_flight_per_feed: int
    """Counted at every PDU, container and pad above the device."""
    in_flight_per_site: int


class Strategy(msgspec.Struct, frozen=True, kw_only=True):
    """How a revision reaches devices; Git declares only this, the engine makes the Rollout."""

    cohorts: tuple[float, ...]
    """Sizes of the waves, in order: from 1 up a count, below 1 a share; the rest comes last."""
    max_new_failure_share: float
    """Of a wave, above the control group's own rate, before the gate stops it."""


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """One site, resolved."""

    id: str
    name: str
    tenure: Tenure
    time_zone: str
    feeds: Mapping[str, FeedNode]
    """In file order; parents may follow children."""
    racks: Mapping[str, Rack]
    devices: tuple[Device, ...]
    """Sorted by asset id; vacant slots are devices in state `vacant` with an id of their slot."""
    hosts: tuple[Host, ...]
    owners: Mapping[str, Owner]
    types: Mapping[str, DeviceType]
    budgets: Budgets
    strategy: Strategy
    clusters: tuple[str, ...] = ()
    cluster: Cluster | None = None
    """`None` where the site declares none."""
    jump_host: str | None = None
    """The host through which the others are reached from outside."""
    firmware_store: str | None = None
    """Where firmware Jobs find images: `http://ADDRESS[:PORT][/FOLDER]`."""
    bmc: BmcAccess | None = None
    """`None`: no BMC of the site is asked anything."""
    contingencies: tuple[Contingency, ...] = ()
    """Losses that are declared, beside those that the pairs make (`core.contingency`)."""
    meters: Mapping[str, Meter] = {}
    """By name."""
    releases: Releases = {}
    """What the site's profiles ask for, of the catalogue."""

    def release_of(self, device: Device) -> Release | None:
        """What a device is to run; `None` where its profile leaves the firmware as it is."""
        intent = device.intent
        if intent.firmware is None:
            return None
        return self.releases.get((device.type.id, intent.family, intent.firmware))

    def path(self, feed: str) -> tuple[FeedNode, ...]:
        """The node and its ancestors, leaf first."""
        nodes: list[FeedNode] = []
        current: str | None = feed
        while current is not None:
            node = self.feeds[current]
            nodes.append(node)
            current = node.parent
        return tuple(nodes)


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """Every site of one inventory."""

    name: str
    sites: Mapping[str, Site]
    rings: tuple[tuple[str, ...], ...] = ()
    """Sites in promotion order: a shared file changes them ring by ring."""
