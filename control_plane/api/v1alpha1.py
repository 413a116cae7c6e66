"""Inventory documents, version v1alpha1: the shape of each file, in `snake_case`.

The path decides which class a file is (see `DOCUMENTS`). Only the shape lives here; meaning
(unknown names, overlapping addresses, feeds over their rating) is checked by `control_plane.inventory`.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

API_VERSION = "gridplane.dev/v1alpha1"

Name = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$",
        description="Lower-case name: letters, digits, dots and dashes, at most 63 characters.",
    ),
]
Text = Annotated[str, Meta(min_length=1, max_length=200)]
Watts = Annotated[float, Meta(ge=0, le=1_000_000, description="Watts.")]
Kilowatts = Annotated[float, Meta(gt=0, le=2_000_000, description="Kilowatts.")]
TeraHashes = Annotated[float, Meta(ge=0, le=100_000, description="TH/s.")]
Share = Annotated[float, Meta(ge=0, le=1)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Address = Annotated[
    str, Meta(pattern=r"^[0-9]{1,3}(\.[0-9]{1,3}){3}$", description="IPv4 address.")
]
Cidr = Annotated[
    str, Meta(pattern=r"^[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}$", description="IPv4 network.")
]
SecretRef = Annotated[
    str,
    Meta(
        pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$",
        description="Where the secret is: `env:NAME` or `file:PATH`. Never the secret itself.",
    ),
]
FamilyName = Annotated[
    str,
    Meta(pattern=r"^[a-z0-9_]{1,40}$", description="Firmware family, e.g. `antminer_stock`."),
]
FieldName = Literal["pools", "mining", "power_mode", "power_limit_w", "firmware", "addressing"]


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every document and part: unknown keys are refused."""


class CredentialsDoc(Document, frozen=True, kw_only=True):
    """How to log in to a family of devices."""

    user: Text
    secret_ref: SecretRef


# --- fleet.yaml ------------------------------------------------------------------------------


class BudgetsDoc(Document, frozen=True, kw_only=True):
    """How many devices may have a write in flight at once."""

    in_flight_per_rack: Annotated[int, Meta(ge=1)] = 8
    in_flight_per_feed: Annotated[int, Meta(ge=1)] = 200
    in_flight_per_site: Annotated[int, Meta(ge=1)] = 1000


class RolloutDoc(Document, frozen=True, kw_only=True):
    """How an accepted change reaches devices. The engine makes the waves; this is only the strategy."""

    cohorts: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?%?$")], ...],
        Meta(
            min_length=1,
            description="Cumulative sizes: `1`, `10`, `1%`, `5%`, `25%`; the rest follows.",
        ),
    ] = ("1", "10", "1%", "5%", "25%")
    max_new_failure_share: Share = 0.05


class RingDoc(Document, frozen=True, kw_only=True):
    """Sites that receive a shared change together, before the next ring."""

    name: Name
    sites: tuple[Name, ...]


class FleetDoc(Document, frozen=True, kw_only=True):
    """`fleet.yaml`: what holds for every site."""

    api_version: Literal["gridplane.dev/v1alpha1"]
    name: Name
    budgets: BudgetsDoc = BudgetsDoc()
    rollout: RolloutDoc = RolloutDoc()
    rings: tuple[RingDoc, ...] = ()


# --- owners/<id>.yaml ------------------------------------------------------------------------


class PoolDoc(Document, frozen=True, kw_only=True):
    """One pool that the owner's machines may work for."""

    host: Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$", max_length=253)]
    port: Port
    tls: bool = False
    protocol: Literal["stratum1", "stratum2"] = "stratum1"
    sv2_public_key: str | None = None
    worker: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=128,
            description="Worker name; `{asset}`, `{rack}`, `{slot}`, `{site}` are replaced per device.",
        ),
    ]


class OwnerDoc(Document, frozen=True, kw_only=True):
    """`owners/<id>.yaml`: whose machines, on which pools, and what they consent to."""

    name: Text
    pools: Annotated[dict[Name, PoolDoc], Meta(min_length=1)]
    approvals: Annotated[
        dict[FieldName, tuple[Text, ...]],
        Meta(
            description="Field → who approves a change of it.",
            extra_json_schema={"propertyNames": {"enum": list(get_args(FieldName))}},
        ),
    ] = {}
    firmware_families: tuple[FamilyName, ...] = ()
    participation: Literal["sheddable", "protected", "locked"] = "sheddable"


# --- device-types/<id>.yaml ------------------------------------------------------------------


class ModeDoc(Document, frozen=True, kw_only=True):
    """One step of the ladder."""

    name: Name
    hashrate_ths: TeraHashes = 0
    power_w: Watts


class DeviceTypeDoc(Document, frozen=True, kw_only=True):
    """`device-types/<id>.yaml`: nameplate facts of one model."""

    kind: Literal["miner", "gpu_node"]
    make: Text
    model: Text
    reported_models: tuple[Text, ...] = ()
    families: Annotated[tuple[FamilyName, ...], Meta(min_length=1)]
    boards: Annotated[int, Meta(ge=0, le=64)] = 0
    chips_per_board: Annotated[int, Meta(ge=0, le=2_000)] = 0
    phases: Literal[1, 3] = 1
    cooling: Literal["air", "hydro", "immersion"]
    standby_w: Watts
    modes: Annotated[tuple[ModeDoc, ...], Meta(min_length=1, description="Ascending in watts.")]
    nominal_mode: Name
    gpus: Annotated[int, Meta(ge=0, le=128)] = 0
    source: Annotated[str, Meta(min_length=1, description="Where the ladder comes from.")]


# --- profiles/<id>.yaml ----------------------------------------------------------------------


class FirmwareDoc(Document, frozen=True, kw_only=True):
    """Which firmware a device should run."""

    family: FamilyName
    version: str | None = None


class ProfileDoc(Document, frozen=True, kw_only=True):
    """`profiles/<id>.yaml`: what a class of devices should run."""

    kind: Literal["miner", "gpu_node"]
    description: str = ""
    firmware: FirmwareDoc
    pools: Annotated[
        tuple[Name, ...], Meta(max_length=3, description="Names in the owner's list, by priority.")
    ] = ()
    mining: bool = True
    power_mode: Name | None = None
    power_limit_w: Annotated[int, Meta(ge=0, le=200_000)] | None = None
    curtailment_class: Name = "default"
    credentials: CredentialsDoc | None = None


# --- sites/<site>/site.yaml ------------------------------------------------------------------


class TenureDoc(Document, frozen=True, kw_only=True):
    """Whose site, and what its host lets us do."""

    kind: Literal["owned", "hosted_in"]
    host: Text | None = None
    host_actions: Annotated[
        tuple[FieldName, ...],
        Meta(description="Fields that only the host may change; planned as held."),
    ] = ()


class LocationDoc(Document, frozen=True, kw_only=True):
    """Where on earth."""

    country: Annotated[str, Meta(pattern=r"^[A-Z]{2}$", description="ISO 3166-1 alpha-2.")]
    region: Text
    place: Text


class NetworkDoc(Document, frozen=True, kw_only=True):
    """One network of the site."""

    name: Name
    cidr: Cidr
    purpose: Literal["miners", "management", "gpu", "bmc", "metering", "pods"]
    vlan: Annotated[int, Meta(ge=1, le=4_094)] | None = None
    may_reach: tuple[Name, ...] = ()


class SiteDoc(Document, frozen=True, kw_only=True):
    """`sites/<site>/site.yaml`: one site."""

    name: Text
    tenure: TenureDoc
    location: LocationDoc
    time_zone: Annotated[
        str, Meta(pattern=r"^[A-Za-z]+(/[A-Za-z_+-]+)*$", description="IANA name.")
    ]
    networks: Annotated[tuple[NetworkDoc, ...], Meta(min_length=1)]
    clusters: tuple[Name, ...] = ()
    jump_host: Name | None = None
    budgets: BudgetsDoc | None = None


# --- sites/<site>/power.yaml -----------------------------------------------------------------


class PdusDoc(Document, frozen=True, kw_only=True):
    """Equal PDUs under one node: `<node>-p1` … `<node>-pN`."""

    count: Annotated[int, Meta(ge=1, le=200)]
    rating_kw: Kilowatts
    derate: Annotated[float, Meta(gt=0, le=1)] = 0.8


class FeedDoc(Document, frozen=True, kw_only=True):
    """One node of the feed tree."""

    id: Name
    kind: Literal["utility", "contract", "transformer", "feeder", "pad", "container", "hall", "pdu"]
    parent: Name | None = None
    rating_kw: Kilowatts
    derate: Annotated[float, Meta(gt=0, le=1, description="1.0 only where listed for 100 %.")] = 0.8
    unmanaged_kw: Annotated[float, Meta(ge=0)] = 0
    meter: Name | None = None
    pair: Name | None = None
    pdus: PdusDoc | None = None


class PowerDoc(Document, frozen=True, kw_only=True):
    """`sites/<site>/power.yaml`: the feed tree, as a flat list."""

    nodes: Annotated[tuple[FeedDoc, ...], Meta(min_length=1)]


# --- sites/<site>/hosts/*.yaml ---------------------------------------------------------------


class HostDoc(Document, frozen=True, kw_only=True):
    """A machine that runs gridplane or the cluster; never sheddable."""

    name: Name
    role: Literal["management", "control_plane", "meter_gateway"]
    address: Address
    feed: Name
    power_w: Watts = 500
    bmc: Address | None = None
    host_key: str | None = None


class HostsDoc(Document, frozen=True, kw_only=True):
    """`sites/<site>/hosts/*.yaml`."""

    hosts: tuple[HostDoc, ...]


# --- sites/<site>/racks/*.yaml ---------------------------------------------------------------


class AddressingDoc(Document, frozen=True, kw_only=True):
    """How the rack's devices get their addresses: exactly one of the two."""

    static_by_slot: Annotated[
        Address | None, Meta(description="Address of slot 1; each slot one more.")
    ] = None
    dhcp: Annotated[
        Cidr | None, Meta(description="Network in which the devices are looked for.")
    ] = None


class OverrideDoc(Document, frozen=True, kw_only=True):
    """Slots that differ from the rest of the rack."""

    slots: Annotated[
        str, Meta(pattern=r"^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$", description="`1-4,7`.")
    ]
    owner: Name | None = None
    type: Name | None = None
    profile: Name | None = None


class RackDoc(Document, frozen=True, kw_only=True):
    """One rack of miners."""

    id: Name
    feed: Name
    switch: Name | None = None
    slots: Annotated[int, Meta(ge=1, le=1_000)]
    owner: Name | None = None
    type: Name
    profile: Name
    addressing: AddressingDoc
    placement: Annotated[
        Literal["recorded", "by_slot"],
        Meta(
            description="`recorded`: every slot has a row in placement/*.csv. "
            "`by_slot`: asset ids are `<rack>-s<slot>`, identities are pinned by `gridplane trust`."
        ),
    ] = "recorded"
    overrides: tuple[OverrideDoc, ...] = ()


class RacksDoc(Document, frozen=True, kw_only=True):
    """`sites/<site>/racks/*.yaml`."""

    racks: Annotated[tuple[RackDoc, ...], Meta(min_length=1)]


# --- sites/<site>/gpu/*.yaml -----------------------------------------------------------------


class GpuRackDoc(Document, frozen=True, kw_only=True):
    """One rack of GPU nodes."""

    id: Name
    feed: Name
    switch: Name | None = None
    nodes: Annotated[int, Meta(ge=1, le=100)]
    owner: Name
    type: Name
    profile: Name
    first_address: Address
    first_bmc: Address


class GpuRacksDoc(Document, frozen=True, kw_only=True):
    """`sites/<site>/gpu/*.yaml`."""

    racks: Annotated[tuple[GpuRackDoc, ...], Meta(min_length=1)]


PLACEMENT_COLUMNS = (
    "asset", "rack", "slot", "serial", "mac", "type", "bin_ths",
    "state", "reason", "missing_boards", "since", "ticket",
)  # fmt: skip
"""Header of `sites/<site>/placement/*.csv`, the exported record of facts."""

DOCUMENTS: tuple[tuple[str, type[Document]], ...] = (
    ("fleet.yaml", FleetDoc),
    ("owners/*.yaml", OwnerDoc),
    ("device-types/*.yaml", DeviceTypeDoc),
    ("profiles/*.yaml", ProfileDoc),
    ("sites/*/site.yaml", SiteDoc),
    ("sites/*/power.yaml", PowerDoc),
    ("sites/*/hosts/*.yaml", HostsDoc),
    ("sites/*/racks/*.yaml", RacksDoc),
    ("sites/*/gpu/*.yaml", GpuRacksDoc),
)
"""Path below `inventory/` → the class of the file."""
