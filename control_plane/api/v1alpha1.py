"""Inventory documents, version v1alpha1: the shape of each file, in `snake_case`.

The path decides which class a file is (see `DOCUMENTS`). Only the shape lives here; meaning
(unknown names, overlapping addresses, feeds over their rating) is checked by `control_plane.inventory`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

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
HostKey = Annotated[
    str,
    Meta(
        pattern=r"^(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|ssh-rsa) [A-Za-z0-9+/]{40,}=*( .*)?$",
        description="Public SSH host key, `ssh-ed25519 AAAA…`: pinned, never learned.",
    ),
]
FileName = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$", description="A file's name, no path.")
]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$", description="SHA-256, lower-case hex.")]
Ed25519Key = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9+/]{43}=$", description="Public Ed25519 key, base64.")
]
Ed25519Signature = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9+/]{86}==$", description="Ed25519 signature, base64.")
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
    previous: Annotated[
        tuple[SecretRef, ...],
        Meta(
            max_length=2,
            description="What machines may still have, until `secret_ref` was rotated in: "
            "the one in force first, then perhaps the maker's.",
        ),
    ] = ()


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
    firmware_keys: Annotated[
        dict[Name, Ed25519Key],
        Meta(
            description="Who signs firmware images. Where there is one, every image needs its signature."
        ),
    ] = {}


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


class GpuModelDoc(Document, frozen=True, kw_only=True):
    """The GPUs of a node, all of one model."""

    model: Annotated[Text, Meta(description="As the driver prints it, `NVIDIA H200`.")]
    memory_gib: Annotated[int, Meta(ge=1, le=4_096)]
    min_limit_w: Annotated[Watts, Meta(description="Lowest power limit that the driver takes.")]
    max_limit_w: Annotated[Watts, Meta(description="Highest one; what a GPU draws without any.")]


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
    gpu: GpuModelDoc | None = None
    source: Annotated[str, Meta(min_length=1, description="Where the ladder comes from.")]


# --- firmware/<id>.yaml ----------------------------------------------------------------------

Version = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        description="As a machine that runs it prints it, to the letter.",
    ),
]
Reported = Annotated[str, Meta(min_length=1, max_length=64)]


class FirmwareImageDoc(Document, frozen=True, kw_only=True):
    """One file that a machine takes. It lies in a store, never in the inventory."""

    file: FileName
    sha256: Sha256
    size_bytes: Annotated[int, Meta(ge=1, le=1_000_000_000)]
    control_boards: Annotated[
        tuple[Reported, ...], Meta(description="As machines print them; none: any.")
    ] = ()
    hardware_revisions: Annotated[
        tuple[Reported, ...], Meta(description="As machines print them; none: any.")
    ] = ()
    signed_by: Annotated[Name | None, Meta(description="One of `firmware_keys`.")] = None
    signature: Annotated[
        Ed25519Signature | None,
        Meta(description="Over `gridplane.dev/firmware-image/1`, a line feed and the SHA-256."),
    ] = None


class FirmwareReleaseDoc(Document, frozen=True, kw_only=True):
    """`firmware/<id>.yaml`: one version of a family that may be installed, and on what."""

    family: FamilyName
    version: Version
    device_types: Annotated[
        tuple[Name, ...], Meta(min_length=1, description="What it was approved for.")
    ]
    images: Annotated[tuple[FirmwareImageDoc, ...], Meta(min_length=1)]
    min_from_version: Annotated[
        Version | None, Meta(description="It is not installed over an older one.")
    ] = None
    flash_s: Annotated[
        float,
        Meta(
            ge=10,
            le=7_200,
            description="Seconds from the first byte until the machine answers again, at the longest.",
        ),
    ] = 900.0
    settle_s: Annotated[
        float,
        Meta(ge=60, le=86_400, description="Seconds until its hash speaks for or against it."),
    ] = 1_800.0
    can_roll_back: Annotated[
        bool, Meta(description="Whether a machine can go back to what it ran before.")
    ]
    voids_warranty: bool
    note: Annotated[str, Meta(max_length=1_000, description="On warranty, for people.")] = ""
    by_hand: Annotated[
        tuple[Text, ...],
        Meta(
            description="What a person does, step by step, to install it where another family runs."
        ),
    ] = ()


# --- profiles/<id>.yaml ----------------------------------------------------------------------


class FirmwareDoc(Document, frozen=True, kw_only=True):
    """Which firmware a device should run."""

    family: FamilyName
    version: Annotated[
        Version | None,
        Meta(
            description="What the machines should run, a release of `firmware/`; without it their "
            "firmware stays as it is."
        ),
    ] = None


DriverVersion = Annotated[
    str, Meta(pattern=r"^[0-9]{3,4}(\.[0-9]{1,3}){1,2}$", description="Version, `595.91.07`.")
]
MigProfile = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$",
        description="Profile of the operator's MIG manager, `all-disabled`, `all-1g.18gb`.",
    ),
]
Megahertz = Annotated[int, Meta(ge=1, le=20_000)]


class ClockRangeDoc(Document, frozen=True, kw_only=True):
    """Between which frequencies a clock is locked."""

    min_mhz: Megahertz
    max_mhz: Megahertz


class GpuProfileDoc(Document, frozen=True, kw_only=True):
    """What the GPUs of a node should run; what is left out is left to the driver, or to its operator."""

    driver: DriverVersion | None = None
    power_limit_w: (
        Annotated[int, Meta(ge=1, le=10_000, description="Of each GPU; no workload gets more.")]
        | None
    ) = None
    graphics_clock: ClockRangeDoc | None = None
    memory_clock: ClockRangeDoc | None = None
    persistence: bool | None = None
    ecc: Annotated[bool | None, Meta(description="A change is in force after a reboot.")] = None
    mig: MigProfile | None = None
    remedies: Annotated[
        Literal["tell", "act"],
        Meta(
            description="What gridplane does by itself for a node that fails. `tell`: it says what it "
            "would do. `act`: it drains the node, reboots and power cycles it by its BMC, and keeps it out "
            "of service or takes it back."
        ),
    ] = "tell"
    software: Annotated[
        Literal["leave", "waves"],
        Meta(
            description="How another `driver` or `mig` reaches the nodes. `leave`: the operator upgrades as "
            "its own policy says, and MIG is asked of nobody. `waves`: gridplane holds every node back from "
            "the operator's upgrades, and lets them go wave by wave, within the budgets of their failure "
            "domains."
        ),
    ] = "leave"


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
    gpu: GpuProfileDoc | None = None
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
    gateway: Annotated[
        Address | None, Meta(description="What machines are told with a static address.")
    ] = None
    dns: Annotated[
        tuple[Address, ...], Meta(max_length=2, description="The same of their name servers.")
    ] = ()


CertificatesPem = Annotated[
    str,
    Meta(
        pattern=r"^-----BEGIN CERTIFICATE-----\n[\sA-Za-z0-9+/=-]+-----END CERTIFICATE-----\n?$",
        max_length=65_536,
        description="Certificates, PEM. Nothing of them is secret.",
    ),
]


class BmcAccessDoc(Document, frozen=True, kw_only=True):
    """How the site's BMCs are reached: Redfish over HTTPS, by a certificate that is known before."""

    credentials: CredentialsDoc
    port: Port = 443
    authority: Annotated[
        CertificatesPem | None,
        Meta(
            description="Who signs the certificates of BMCs; that of one that signs its own stands beside it."
        ),
    ] = None


StoreUrl = Annotated[
    str,
    Meta(
        pattern=r"^http://[0-9]{1,3}(\.[0-9]{1,3}){3}(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*$",
        description="`http://ADDRESS[:PORT][/FOLDER]`, by address: a network policy lets Jobs there.",
    ),
]


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
    firmware_store: Annotated[
        StoreUrl | None,
        Meta(
            description="Where firmware Jobs find the images of the catalogue, by file name: any plain web "
            "server in a network that management hosts reach. Images are held against their digests."
        ),
    ] = None
    bmc: BmcAccessDoc | None = None
    budgets: BudgetsDoc | None = None


# --- sites/<site>/power.yaml -----------------------------------------------------------------


class PdusDoc(Document, frozen=True, kw_only=True):
    """Equal PDUs under one node: `<node>-p1` … `<node>-pN`."""

    count: Annotated[int, Meta(ge=1, le=200)]
    rating_kw: Kilowatts
    derate: Annotated[float, Meta(gt=0, le=1)] = 0.8


class TripPointDoc(Document, frozen=True, kw_only=True):
    """How long a breaker bears a load, at the least."""

    load: Annotated[float, Meta(gt=1, le=20, description="Times its rating.")]
    seconds: Annotated[float, Meta(gt=0, le=86_400)]


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
    emergency_kw: Annotated[
        Kilowatts | None,
        Meta(
            description="What it bears after a loss elsewhere, for as long as that lasts; `rating_kw` unless "
            "declared. Not derated."
        ),
    ] = None
    breaker: Annotated[
        tuple[TripPointDoc, ...],
        Meta(description="Its trip curve, load ascending; a cautious one unless declared."),
    ] = ()
    pdus: PdusDoc | None = None


class LossDoc(Document, frozen=True, kw_only=True):
    """Nodes that may go dark together: a bus section, a lane of cables, a transformer out for service."""

    name: Name
    lost: Annotated[tuple[Name, ...], Meta(min_length=1)]


class MeterDoc(Document, frozen=True, kw_only=True):
    """One power meter, read by Modbus TCP: itself (`address`), or behind a host (`gateway`)."""

    name: Annotated[Name, Meta(description="As nodes name it: `meter`.")]
    gateway: Annotated[
        Name | None,
        Meta(description="Host of role `meter_gateway`, on whose serial line it hangs."),
    ] = None
    address: Annotated[
        Address | None, Meta(description="Its own, in a network of purpose `metering`.")
    ] = None
    port: Port = 502
    unit: Annotated[int, Meta(ge=0, le=255, description="Modbus unit id.")] = 1
    model: Annotated[Name, Meta(description="A register map of docs/reference/meters.md.")]
    accuracy_class: Annotated[
        float, Meta(gt=0, le=5, description="Per cent of what it shows, by its nameplate.")
    ] = 0.5
    interval_s: Annotated[float, Meta(gt=0, description="Seconds between two looks.")] = 1.0
    scale: Annotated[
        float,
        Meta(
            gt=0,
            description="What its registers are multiplied by: a ratio of CT and VT that it lacks.",
        ),
    ] = 1.0
    range_kw: Annotated[
        Kilowatts | None,
        Meta(
            description="The most that its CTs can measure; left out: 1.25 times its node's rating."
        ),
    ] = None
    reversed: Annotated[bool, Meta(description="Its CTs are the other way round, and stay so.")] = (
        False
    )
    two_way: Annotated[bool, Meta(description="Power may flow back here.")] = False
    register_offset: Annotated[
        int, Meta(ge=-65_535, le=65_535, description="Added to every address of its map.")
    ] = 0


class PowerDoc(Document, frozen=True, kw_only=True):
    """`sites/<site>/power.yaml`: the feed tree, as a flat list, and its meters."""

    nodes: Annotated[tuple[FeedDoc, ...], Meta(min_length=1)]
    contingencies: Annotated[
        tuple[LossDoc, ...],
        Meta(description="That of each side of a pair, and of all above it, is looked at anyway."),
    ] = ()
    meters: tuple[MeterDoc, ...] = ()


# --- sites/<site>/hosts/*.yaml ---------------------------------------------------------------


class HostDoc(Document, frozen=True, kw_only=True):
    """A machine that runs gridplane or the cluster; never sheddable."""

    name: Name
    role: Literal["management", "control_plane", "meter_gateway"]
    address: Address
    feed: Name
    power_w: Watts = 500
    bmc: Address | None = None
    bmc_certificate: Annotated[
        Sha256 | None, Meta(description="Of the certificate in DER that its BMC shows.")
    ] = None
    host_key: HostKey | None = None
    pods: Annotated[
        Cidr | None, Meta(description="Network of its pods, where the site routes them.")
    ] = None


class HostsDoc(Document, frozen=True, kw_only=True):
    """`sites/<site>/hosts/*.yaml`."""

    hosts: tuple[HostDoc, ...]


# --- sites/<site>/cluster.yaml ---------------------------------------------------------------


class SshDoc(Document, frozen=True, kw_only=True):
    """How `pulumi up` logs in to machines that are to be nodes. The key itself is the operator's."""

    user: Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")] = "root"
    port: Port = 22


class ClusterDoc(Document, frozen=True, kw_only=True):
    """`sites/<site>/cluster.yaml`: the Kubernetes cluster that `<site>.cluster` makes of the site's hosts."""

    backend: Annotated[
        Literal["kubeadm", "rke2"],
        Meta(description="`kubeadm` is proven on real hosts, `rke2` against simulated ones only."),
    ] = "kubeadm"
    version: Annotated[
        str, Meta(pattern=r"^1\.[0-9]{1,3}\.[0-9]{1,3}$", description="Of Kubernetes, `1.36.3`.")
    ]
    endpoint: Annotated[
        Address | None,
        Meta(
            description="Where the API servers are found: an address that the site's own load balancer or "
            "VRRP holds. Without one it is the first server's, and there may be no second server."
        ),
    ] = None
    pods: Cidr = "10.244.0.0/16"
    services: Cidr = "10.96.0.0/16"
    cni: Annotated[
        Literal["routed", "external"],
        Meta(
            description="`routed`: each node's pods have a network that the site routes to it (`pods` of a "
            "host, `first_pods` of a GPU rack). `external`: the platform layer brings one, and nodes "
            "are not ready before."
        ),
    ] = "external"
    image_repository: Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9.:/_-]{0,250}[a-z0-9])?$")] = (
        "registry.k8s.io"
    )
    pause_image: Annotated[
        Text | None,
        Meta(description="containerd's sandbox image, where it is not its own default."),
    ] = None
    registry_mirrors: Annotated[
        dict[str, tuple[Annotated[str, Meta(pattern=r"^https?://[^\s\"\\]+$")], ...]],
        Meta(description="Registry → where containerd asks first, in order."),
    ] = {}
    ssh: SshDoc = SshDoc()
    on_removal: Annotated[
        Literal["release", "uninstall"],
        Meta(
            description="A node that is no longer declared: `release` leaves it running, unmanaged. "
            "`uninstall` drains it, deletes its Node and resets the host."
        ),
    ] = "release"
    kubelet: Annotated[
        dict[str, Any], Meta(description="Fields of KubeletConfiguration beside ours.")
    ] = {}
    kube_proxy: Annotated[
        dict[str, Any], Meta(description="Fields of KubeProxyConfiguration beside ours.")
    ] = {}
    cgroup_driver: Literal["systemd", "cgroupfs"] = "systemd"
    restrict_oom_score_adj: Annotated[
        bool, Meta(description="For hosts that may not lower the score of a process: containers.")
    ] = False
    ignore_preflight: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]+$")], ...],
        Meta(description="Checks of kubeadm that are not held against a host."),
    ] = ()


# --- sites/<site>/racks/*.yaml ---------------------------------------------------------------


class PreviousAddressingDoc(Document, frozen=True, kw_only=True):
    """Where the rack's devices may still be: exactly one of the two."""

    static_by_slot: Annotated[
        Address | None, Meta(description="Address of slot 1; each slot one more.")
    ] = None
    dhcp: Annotated[
        Cidr | None, Meta(description="Network in which the devices are looked for.")
    ] = None


class AddressingDoc(PreviousAddressingDoc, frozen=True, kw_only=True):
    """How the rack's devices get their addresses: exactly one of static_by_slot and dhcp."""

    previous: Annotated[
        PreviousAddressingDoc | None,
        Meta(
            description="Where devices may still be: they are given their static addresses in waves."
        ),
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
    bmc_certificates: Annotated[
        tuple[Sha256, ...],
        Meta(
            description="Of the certificate in DER that each node's BMC shows, in order of nodes."
        ),
    ] = ()
    first_pods: Annotated[
        Cidr | None,
        Meta(
            description="Network of the first node's pods, where the site routes them; each node the next."
        ),
    ] = None


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
    ("firmware/*.yaml", FirmwareReleaseDoc),
    ("profiles/*.yaml", ProfileDoc),
    ("sites/*/site.yaml", SiteDoc),
    ("sites/*/power.yaml", PowerDoc),
    ("sites/*/cluster.yaml", ClusterDoc),
    ("sites/*/hosts/*.yaml", HostsDoc),
    ("sites/*/racks/*.yaml", RacksDoc),
    ("sites/*/gpu/*.yaml", GpuRacksDoc),
)
"""Path below `inventory/` → the class of the file."""
