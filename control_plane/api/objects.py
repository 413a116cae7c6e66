"""Kubernetes objects of the group `gridplane.dev`, version v1alpha1, in `camelCase`.

A declaration enters a cluster as `FleetRevision` (immutable bytes) and `Site` (the pointer, the only knob).
All other kinds belong to the controller: what a person writes there is put back. What must survive the
loss of every status (rollouts, open irreversible work, pins) stands in `spec`. Telemetry is in no object.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from control_plane.api.v1alpha1 import API_VERSION, Address, FieldName, Name, Text

GROUP, VERSION = API_VERSION.split("/")


def _said(description: str, **more: Any) -> Meta:
    """A description, and what Kubernetes alone understands: keys of `more` begin with `x_kubernetes_`."""
    extra = {key.replace("_", "-"): value for key, value in more.items() if key.startswith("x_")}
    plain = {key: value for key, value in more.items() if not key.startswith("x_")}
    return Meta(description=description, extra_json_schema=extra or None, **plain)


def _rules(*rules: tuple[str, str]) -> list[dict[str, str]]:
    """CEL rules with the sentence that a refused writer reads."""
    return [{"rule": rule, "message": message} for rule, message in rules]


def _map_by(*keys: str) -> dict[str, Any]:
    """List of objects that are told apart by keys: server-side apply merges them one by one."""
    return {"x_kubernetes_list_type": "map", "x_kubernetes_list_map_keys": list(keys)}


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of every part of an object."""


Digest = Annotated[
    str, Meta(pattern=r"^[0-9a-f]{64}$", description="SHA-256 in hexadecimal digits.")
]
Time = Annotated[dt.datetime, Meta(tz=True)]
Count = Annotated[int, Meta(ge=0)]
Watts = Annotated[float, Meta(ge=0, description="Watts.")]
Reason = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Message = Annotated[str, Meta(max_length=1_024)]
Printed = Annotated[str, Meta(max_length=256)]
"""Something that a machine printed."""
AtLeastZero = Annotated[float, Meta(ge=0)]

IMMUTABLE = _rules(("self == oldSelf", "it never changes: make a new object"))


class Condition(Part, frozen=True, kw_only=True):
    """One condition, as the API conventions and kstatus read it."""

    type: Annotated[
        str, _said("`Ready`, `Reconciling`, `Stalled`, or one of this kind.", max_length=63)
    ]
    status: Annotated[Literal["True", "False", "Unknown"], _said("Whether it holds.")]
    reason: Annotated[str, _said("One word, for machines.", max_length=63)]
    message: Annotated[Message, _said("A sentence, for people.")] = ""
    observed_generation: Annotated[int, _said("Generation of the spec that this is about.", ge=0)]
    last_transition_time: Annotated[Time, _said("When the status last changed.")]


Conditions = Annotated[
    tuple[Condition, ...], _said("Where it stands.", max_length=16, **_map_by("type"))
]
ObservedGeneration = Annotated[
    int, _said("Generation that the rest of the status is about; written last.", ge=0)
]


class Status(Part, frozen=True, kw_only=True):
    """What every status begins with."""

    conditions: Conditions = ()
    observed_generation: ObservedGeneration = 0


class Counts(Part, frozen=True, kw_only=True):
    """Devices of a site or a rack."""

    declared: Annotated[Count, _said("Slots in the declaration.")] = 0
    managed: Annotated[Count, _said("In service, with a driver.")] = 0
    seen: Annotated[Count, _said("Answered at the last look.")] = 0
    converged: Annotated[Count, _said("Read as declared.")] = 0
    actionable: Annotated[Count, _said("With a write to come; zero is converged.")] = 0


class Exceptions(Part, frozen=True, kw_only=True):
    """Devices that are left as they are for one reason."""

    reason: Annotated[Reason, _said("As `gridplane explain` names it.")]
    devices: Annotated[Count, _said("How many.")]
    lost_ths: Annotated[float, _said("What they would hash as declared, TH/s.", ge=0)] = 0.0


KnownExceptions = Annotated[
    tuple[Exceptions, ...],
    _said("Devices that nothing will be done about by itself.", max_length=64, **_map_by("reason")),
]

# --- FleetRevision -------------------------------------------------------------------------------


class FleetRevisionSpec(Part, frozen=True, kw_only=True):
    """A site's slice of the inventory, as written."""

    site: Annotated[Name, _said("The site that it declares.")]
    format: Annotated[
        Literal["msgpack+zlib"],
        _said("How `data` holds the files: zlib over a msgpack map of path to bytes."),
    ]
    data: Annotated[
        bytes,
        _said(
            "The files. The object is named by the SHA-256 of these bytes.", max_length=1_400_000
        ),
    ]


class FindingPart(Part, frozen=True, kw_only=True):
    """One finding of the loader, as the command line shows it."""

    code: Annotated[str, _said("Stable code, `E0213`.", max_length=8)]
    where: Annotated[str, _said("`path:line:column`.", max_length=512)]
    what: Annotated[Message, _said("What is wrong.")]
    fix: Annotated[Message, _said("What to do.")] = ""


class FleetRevisionStatus(Status, frozen=True, kw_only=True):
    """Whether the controller understands it."""

    canonical_digest: Annotated[
        Digest | None, _said("Over what it means: equal digests make no rollout.")
    ] = None
    devices: Annotated[Count, _said("Slots that it declares.")] = 0
    findings: Annotated[
        tuple[FindingPart, ...],
        _said("Why it is not accepted.", max_length=50, x_kubernetes_list_type="atomic"),
    ] = ()


# --- Site ----------------------------------------------------------------------------------------


class ApprovalPart(Part, frozen=True, kw_only=True):
    """One approver's word on one field of one owner's machines."""

    owner: Annotated[Name, _said("Whose machines.")]
    field: Annotated[FieldName, _said("Which setting.")]
    by: Annotated[Text, _said("Who approves; has to be one of the owner's approvers.")]


class AcknowledgementsPart(Part, frozen=True, kw_only=True):
    """What was meant, although it looks like a mistake."""

    removals: Annotated[
        Count | None, _said("That exactly so many devices leave the declaration is meant.")
    ] = None


class SiteSpec(Part, frozen=True, kw_only=True):
    """Which revision is in force, and whether devices are written to: the only knob."""

    revision: Annotated[Digest, _said("Name of the `FleetRevision` to converge to.")]
    mode: Annotated[
        Literal["observe", "enforce"],
        _said(
            "`observe` writes to no device and shows what enforcing would change; adoption begins with it."
        ),
    ] = "observe"
    commit: Annotated[
        Annotated[str, Meta(max_length=64)] | None, _said("Commit that it comes from, for people.")
    ] = None
    approvals: Annotated[
        tuple[ApprovalPart, ...],
        _said("Words of owners' approvers.", max_length=256, **_map_by("owner", "field", "by")),
    ] = ()
    acknowledgements: Annotated[AcknowledgementsPart | None, _said("What was meant.")] = None


class SiteStatus(Status, frozen=True, kw_only=True):
    """The roll-up of a site."""

    accepted_revision: Annotated[
        Digest | None, _said("What devices are compared with; the last that was accepted.")
    ] = None
    rollout: Annotated[Annotated[str, Meta(max_length=253)] | None, _said("Its rollout.")] = None
    devices: Annotated[Counts | None, _said("How many devices stand where.")] = None
    progress: Annotated[str, _said("`converged/managed`, for the table.", max_length=32)] = ""
    exceptions: KnownExceptions = ()
    permitted_w: Annotated[Watts | None, _said("Sum of what settings permit, watts.")] = None
    usable_w: Annotated[Watts | None, _said("What the tightest root permits, watts.")] = None
    holds: Annotated[Count, _said("Holds and freezes in force.")] = 0
    incidents: Annotated[Count, _said("Open incidents.")] = 0


# --- Rack, Miner, GpuNode ----------------------------------------------------------------------------


class RackSpec(Part, frozen=True, kw_only=True):
    """Where a rack stands. Written by the controller."""

    site: Annotated[Name, _said("Its site.")]
    feed: Annotated[Name, _said("The feed node that it hangs on.")]
    slots: Annotated[Count, _said("How many.")] = 0


class RackStatus(Status, frozen=True, kw_only=True):
    """The roll-up of a rack."""

    devices: Annotated[Counts | None, _said("How many devices stand where.")] = None
    progress: Annotated[str, _said("`converged/managed`, for the table.", max_length=32)] = ""
    exceptions: KnownExceptions = ()
    held_by: Annotated[Annotated[str, Meta(max_length=253)] | None, _said("Who holds it.")] = None


class PinPart(Part, frozen=True, kw_only=True):
    """The machine that is the asset."""

    mac: Annotated[
        Annotated[str, Meta(pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")] | None,
        _said("As it tells it."),
    ] = None
    serial: Annotated[Annotated[str, Meta(max_length=64)] | None, _said("As it tells it.")] = None
    source: Annotated[str, _said("`placement`, or who trusted it.", max_length=253)]


SlotState = Literal["in_service", "degraded", "out_of_service", "in_repair", "vacant"]


class MinerSpec(Part, frozen=True, kw_only=True):
    """What must not be lost of a miner. Written by the controller."""

    site: Annotated[Name, _said("Its site.", x_kubernetes_validations=IMMUTABLE)]
    rack: Annotated[Name, _said("The rack that it stands in.")]
    slot: Annotated[int, _said("Its place there, from 1.", ge=1, le=1_000)]
    slot_state: Annotated[SlotState, _said("What the placement record says of the slot.")] = (
        "in_service"
    )
    pin: Annotated[
        PinPart | None,
        _said(
            "The machine that is this asset.",
            x_kubernetes_validations=_rules(
                ("has(self.mac) || has(self.serial)", "a pin has a MAC, a serial, or both")
            ),
        ),
    ] = None


class ExceptionPart(Part, frozen=True, kw_only=True):
    """One thing about one device that is left as it is."""

    reason: Annotated[Reason, _said("As `gridplane explain` names it.")]
    field: Annotated[FieldName | None, _said("The setting, where it is one.")] = None
    detail: Annotated[Message, _said("In words.")] = ""


class MinerStatus(Status, frozen=True, kw_only=True):
    """What a person or another controller acts on; written on change."""

    family: Annotated[Annotated[str, Meta(max_length=40)] | None, _said("Firmware family.")] = None
    firmware: Annotated[
        Annotated[str, Meta(max_length=128)] | None, _said("Version, as the device tells it.")
    ] = None
    operation: Annotated[
        Annotated[str, Meta(max_length=253)] | None, _said("The write that is under way.")
    ] = None
    exceptions: Annotated[
        tuple[ExceptionPart, ...],
        _said("What is left as it is.", max_length=16, x_kubernetes_list_type="atomic"),
    ] = ()


class PowerCapPart(Part, frozen=True, kw_only=True):
    """What the engine grants a GPU node; the agent on it may go lower by itself, never higher."""

    gpu_w: Annotated[Watts, _said("Limit of each GPU, watts.")]
    fence: Annotated[int, _said("Lease transition under which it was granted.", ge=0)]
    granted_until: Annotated[
        Time, _said("Without a newer grant the agent may only lower after this.")
    ]


class ClockRangePart(Part, frozen=True, kw_only=True):
    """Between which two frequencies a clock is locked."""

    min_mhz: Annotated[int, _said("The lower one.", ge=1, le=20_000)]
    max_mhz: Annotated[int, _said("The higher one.", ge=1, le=20_000)]


class GpuSettingsPart(Part, frozen=True, kw_only=True):
    """What each GPU of a node is declared to be; what is left out is the driver's business."""

    graphics_clock: Annotated[ClockRangePart | None, _said("Lock of the graphics clock.")] = None
    memory_clock: Annotated[ClockRangePart | None, _said("Lock of the memory clock.")] = None
    persistence: Annotated[bool | None, _said("Whether the driver stays with no client.")] = None
    ecc: Annotated[bool | None, _said("Error correction, in force after a reboot.")] = None


class GpuNodeSpec(Part, frozen=True, kw_only=True):
    """Where a GPU node stands, and what it is granted. Written by the controller."""

    site: Annotated[Name, _said("Its site.", x_kubernetes_validations=IMMUTABLE)]
    rack: Annotated[Name, _said("The rack that it stands in.")]
    node_name: Annotated[Annotated[str, Meta(max_length=253)] | None, _said("Its `Node`.")] = None
    bmc: Annotated[Address | None, _said("Address of its management controller.")] = None
    power_cap: Annotated[PowerCapPart | None, _said("What it is granted.")] = None
    gpus: Annotated[Count | None, _said("How many GPUs it has, as declared.")] = None
    ceiling_gpu_w: Annotated[
        Watts | None, _said("The site's ceiling of each GPU, watts. It does not end.")
    ] = None
    workload_gpu_w: Annotated[
        Watts | None, _said("What its workload asks each GPU to be kept to, watts.")
    ] = None
    settings: Annotated[
        GpuSettingsPart | None, _said("What each GPU is set to, beside its limit.")
    ] = None
    held_by: Annotated[
        Annotated[str, Meta(max_length=253)] | None,
        _said("Who holds it: then the agent lowers limits to the cap, and writes nothing else."),
    ] = None
    attention: Annotated[
        bool | None,
        _said("Somebody works on it, or its life waits for a look: the agent reports every 20 s."),
    ] = None


class GpuPart(Part, frozen=True, kw_only=True):
    """One GPU, as the agent on its node sees it."""

    index: Annotated[int, _said("As the driver numbers it.", ge=0, le=127)]
    pci: Annotated[Printed | None, _said("Bus address.")] = None
    uuid: Annotated[Printed | None, _said("Its own name.")] = None
    serial: Annotated[Printed | None, _said("Of the board.")] = None
    name: Annotated[Printed | None, _said("Model.")] = None
    lost: Annotated[bool, _said("It is gone from its bus.")] = False
    limit_w: Annotated[Watts | None, _said("The limit as asked for, watts.")] = None
    enforced_w: Annotated[
        Watts | None, _said("The limit in force, watts; lower where a BMC caps as well.")
    ] = None
    min_w: Annotated[Watts | None, _said("The lowest limit it takes, watts.")] = None
    max_w: Annotated[Watts | None, _said("The highest limit it takes, watts.")] = None
    cap: Annotated[Reason | None, _said("Why its limit is as it is.")] = None
    remap: Annotated[
        Literal["none", "pending", "failed"] | None,
        _said("Whether rows of its memory wait to be remapped, or could not be."),
    ] = None
    fabric: Annotated[
        Reason | None, _said("Its registration with the NVLink fabric: `completed`, or what else.")
    ] = None


class AlertPart(Part, frozen=True, kw_only=True):
    """One thing that is wrong with a node's GPUs."""

    kind: Annotated[Reason, _said("What; docs/reference/gpu.md has them.")]
    rung: Annotated[Reason, _said("The least that helps: `observe`, `drain`, `reset_gpu` ...")]
    since: Annotated[Time, _said("When it was first seen.")]
    gpu: Annotated[Printed | None, _said("Bus address; none where it is of the node.")] = None
    xid: Annotated[Count | None, _said("Number of the Xid.")] = None
    detail: Annotated[Message, _said("In words.")] = ""
    asks: Annotated[bool, _said("A person decides.")] = False
    final: Annotated[bool, _said("No lower rung can help.")] = False


class GpuNodeStatus(Status, frozen=True, kw_only=True):
    """What the agent and the controller see of it."""

    life: Annotated[
        Reason | None,
        _said("How far it has come: `declared` ... `ready`, `degraded`, `draining`, `repair` ..."),
    ] = None
    operation: Annotated[
        Reason | None,
        _said(
            "What goes on around it: `idle`, `held`, `acting`, `waiting_budget`, `waiting_human`;"
            " `stuck`: its life stands still for too long."
        ),
    ] = None
    driver: Annotated[
        Annotated[str, Meta(max_length=64)] | None, _said("Version of the GPU driver.")
    ] = None
    enforced_gpu_w: Annotated[Watts | None, _said("Limit that the GPUs enforce, watts.")] = None
    gpus: Annotated[
        tuple[GpuPart, ...],
        _said("What the agent sees, by index.", max_length=128, x_kubernetes_list_type="atomic"),
    ] = ()
    alerts: Annotated[
        tuple[AlertPart, ...],
        _said("What the agent finds wrong.", max_length=64, x_kubernetes_list_type="atomic"),
    ] = ()
    processes: Annotated[
        Count | None,
        _said(
            "Compute processes on its GPUs, as of `reportedAt`: 0 also where none can be seen and their"
            " memory is free; left out where it is unknown."
        ),
    ] = None
    reported_at: Annotated[
        Time | None,
        _said(
            "When the agent looked, of what it wrote last: on change, and every five minutes; under"
            " attention, or with an alert that calls for more than a look, every 20 s."
        ),
    ] = None
    exceptions: Annotated[
        tuple[ExceptionPart, ...],
        _said("What is left as it is.", max_length=16, x_kubernetes_list_type="atomic"),
    ] = ()


# --- Rollout, DeviceOperation, PowerEvent -----------------------------------------------------------


class GatePart(Part, frozen=True, kw_only=True):
    """What one gate saw."""

    wave: Annotated[Count, _said("Index of the wave.")]
    at: Annotated[Time, _said("When it judged.")]
    passed: Annotated[bool, _said("Whether the next wave was let open.")]
    treated: Annotated[Count, _said("Devices that the wave wrote to.")] = 0
    treated_failed: Annotated[Count, _said("Of these, failed since.")] = 0
    control: Annotated[Count, _said("Devices that no wave had touched.")] = 0
    control_failed: Annotated[Count, _said("Of these, failed in the same time.")] = 0
    detail: Annotated[Message, _said("In words.")] = ""


class BehindPart(Part, frozen=True, kw_only=True):
    """Devices that a superseded rollout had not reached, and what they stand on."""

    revision: Annotated[
        Digest | None, _said("The revision; without one, devices that none has reached yet.")
    ] = None
    assets: Annotated[
        tuple[Name, ...],
        _said("Which.", min_length=1, max_length=15_000, x_kubernetes_list_type="atomic"),
    ]


class RolloutSpec(Part, frozen=True, kw_only=True):
    """One revision, or one firmware, on its way to the devices, as its controller shows it."""

    site: Annotated[Name, _said("Its site.", x_kubernetes_validations=IMMUTABLE)]
    to: Annotated[
        Digest,
        _said(
            "The revision; of firmware the bundle; of GPU software what is wanted.",
            x_kubernetes_validations=IMMUTABLE,
        ),
    ]
    origin: Annotated[Digest | None, _said("The one that later waves stay on.")] = None
    waves: Annotated[
        tuple[Count, ...],
        _said(
            "Cumulative sizes over the cohort order; a wave that changed nothing does not count.",
            max_length=64, x_kubernetes_list_type="atomic",
            x_kubernetes_validations=_rules(
                (
                    (
                        "self.size() == 0 || oldSelf.size() == 0 ? self == oldSelf"
                        " : self[self.size() - 1] == oldSelf[oldSelf.size() - 1]"
                    ),
                    "a rollout has its devices for good: make a new one",
                )
            ),
        ),
    ]  # fmt: skip
    behind: Annotated[
        tuple[BehindPart, ...],
        _said(
            "Devices that do not stand on `origin`.",
            max_length=16, x_kubernetes_list_type="atomic",
        ),
    ] = ()  # fmt: skip
    wave: Annotated[
        int,
        _said(
            "Index of the open wave.",
            ge=0,
            x_kubernetes_validations=_rules(
                ("self >= oldSelf", "a rollout goes forward: roll back by a new one")
            ),
        ),
    ] = 0
    kind: Annotated[
        Literal["settings", "firmware", "gpu_software"],
        _said("What it brings.", x_kubernetes_validations=IMMUTABLE),
    ] = "settings"
    version: Annotated[
        Printed | None,
        _said("Of firmware: as machines print it; of GPU software: driver and MIG profile."),
    ] = None
    model: Annotated[
        Printed | None, _said("Of firmware: for which; of GPU software: the profile of the nodes.")
    ] = None
    released: Annotated[Count, _said("Of firmware: waves that a person has let go.")] = 0
    state: Annotated[
        Literal["running", "soaking", "waiting", "installing", "halted", "done", "superseded"],
        _said("Where it stands."),
    ] = "running"
    since: Annotated[Time | None, _said("When the open wave opened.")] = None
    soak_until: Annotated[Time | None, _said("When its gate may judge.")] = None
    gates: Annotated[
        tuple[GatePart, ...],
        _said("Every gate so far.", max_length=128, x_kubernetes_list_type="atomic"),
    ] = ()


class MachinePart(Part, frozen=True, kw_only=True):
    """What became of one machine under one grant of firmware."""

    asset: Annotated[Name, _said("The device.")]
    operation: Annotated[str, _said("Its grant and journal.", max_length=253)]
    purpose: Annotated[Literal["wave", "sweep_up", "roll_back"], _said("What it was granted for.")]
    step: Annotated[str, _said("How far it has come.", max_length=32)]
    before: Annotated[Printed | None, _said("What it told before.")] = None
    after: Annotated[Printed | None, _said("What it tells since.")] = None
    image: Annotated[Digest | None, _said("SHA-256 of what left for it.")] = None
    hash_before_ths: Annotated[AtLeastZero | None, _said("What it hashed before, TH/s.")] = None
    hash_after_ths: Annotated[
        AtLeastZero | None, _said("What it hashed when it was found well, TH/s.")
    ] = None
    j_per_th_before: Annotated[
        AtLeastZero | None, _said("What it took before, J/TH at the device.")
    ] = None
    j_per_th_after: Annotated[
        AtLeastZero | None, _said("What it takes since, J/TH at the device.")
    ] = None
    committed_at: Annotated[Time | None, _said("When the first byte was about to leave.")] = None
    booted_at: Annotated[Time | None, _said("When it first told the new version.")] = None
    detail: Annotated[Message, _said("In words.")] = ""


class RolloutStatus(Status, frozen=True, kw_only=True):
    """For people."""

    progress: Annotated[str, _said("`wave/waves`, for the table.", max_length=32)] = ""
    machines: Annotated[
        tuple[MachinePart, ...],
        _said(
            "Of firmware: what became of each machine, those that need a person first. All of them: "
            "`gridplane rollout show`, or the DeviceOperations.",
            max_length=200, x_kubernetes_list_type="atomic",
        ),
    ] = ()  # fmt: skip


_FINAL = "['done', 'rolled_back', 'quarantined']"


class OperationEntry(Part, frozen=True, kw_only=True):
    """One device of an operation, as whoever grants it knows it."""

    asset: Annotated[Name, _said("The device.")]
    address: Annotated[
        Annotated[str, Meta(pattern=r"^[0-9]{1,3}(\.[0-9]{1,3}){3}$")] | None,
        _said("Where it was found, if its address is not declared."),
    ] = None
    pin: Annotated[PinPart | None, _said("Who it is, if the declaration does not say.")] = None


class OperationStep(Part, frozen=True, kw_only=True):
    """How far one device has come. Kept by who executes, before what follows from it is done."""

    asset: Annotated[Name, _said("The device.")]
    step: Annotated[
        Literal[
            "pending", "committing", "rebooting", "verifying", "done", "rolled_back", "quarantined",
        ],
        _said("From `committing` on, nothing is ever sent to it again by this operation."),
    ] = "pending"  # fmt: skip
    attempt: Annotated[int, _said("How often something irreversible left for it.", ge=0, le=1)] = 0
    before: Annotated[Printed | None, _said("What it told before.")] = None
    after: Annotated[Printed | None, _said("What it tells since.")] = None
    image: Annotated[Digest | None, _said("SHA-256 of what left for it.")] = None
    hash_before_ths: Annotated[AtLeastZero | None, _said("What it hashed before, TH/s.")] = None
    power_before_w: Annotated[Watts | None, _said("What it drew before, as it told, watts.")] = None
    hash_after_ths: Annotated[
        AtLeastZero | None, _said("What it hashed when it was found well, TH/s.")
    ] = None
    power_after_w: Annotated[
        Watts | None, _said("What it drew when it was found well, as it told, watts.")
    ] = None
    committed_at: Annotated[Time | None, _said("When the first byte was about to leave.")] = None
    booted_at: Annotated[Time | None, _said("When it first told the new version.")] = None
    detail: Annotated[Message, _said("In words.")] = ""


class DeviceOperationSpec(Part, frozen=True, kw_only=True):
    """Irreversible work on devices: the grant of whoever executes it. Its journal is the status."""

    site: Annotated[Name, _said("Its site.", x_kubernetes_validations=IMMUTABLE)]
    kind: Annotated[
        Literal["install_firmware", "set_credentials", "set_network", "bmc"],
        _said("What is done.", x_kubernetes_validations=IMMUTABLE),
    ]
    digest: Annotated[
        Digest,
        _said(
            "Over what is written: image, credential reference, address plan.",
            x_kubernetes_validations=IMMUTABLE,
        ),
    ]
    fence: Annotated[
        int,
        _said(
            "Lease transition of the engine that granted it.",
            ge=0,
            x_kubernetes_validations=_rules(
                ("self >= oldSelf", "an older leader may not take it back")
            ),
        ),
    ]
    rollout: Annotated[
        str,
        _said(
            "Id of the firmware rollout that it belongs to.",
            max_length=63,
            x_kubernetes_validations=IMMUTABLE,
        ),
    ] = ""
    purpose: Annotated[
        Literal["wave", "sweep_up", "roll_back"],
        _said("What it is granted for.", x_kubernetes_validations=IMMUTABLE),
    ] = "wave"
    wave: Annotated[
        int, _said("Of the rollout, from 0.", ge=0, x_kubernetes_validations=IMMUTABLE)
    ] = 0
    round: Annotated[
        int, _said("Of the wave, from 0.", ge=0, x_kubernetes_validations=IMMUTABLE)
    ] = 0
    budget: Annotated[int, _said("Devices at the same time.", ge=1, le=500)]
    deadline: Annotated[Time, _said("Nothing is begun after this.")]
    entries: Annotated[
        tuple[OperationEntry, ...],
        _said("The devices.", min_length=1, max_length=500, **_map_by("asset")),
    ]


class DeviceOperationStatus(Status, frozen=True, kw_only=True):
    """The journal. Who may write it may not touch the grant: that is the spec."""

    progress: Annotated[str, _said("`ended/devices`, for the table.", max_length=32)] = ""
    entries: Annotated[
        tuple[
            Annotated[
                OperationStep,
                Meta(
                    extra_json_schema={
                        "x-kubernetes-validations": _rules(
                            (
                                f"!(oldSelf.step in {_FINAL}) || self.step == oldSelf.step",
                                "a device whose work has ended stays as it ended: make a new operation",
                            )
                        )
                    }
                ),
            ],
            ...,
        ],
        _said("How far each device has come.", max_length=500, **_map_by("asset")),
    ] = ()


class PowerEventSpec(Part, frozen=True, kw_only=True):
    """Less (or a moved) power below one node, for a time."""

    site: Annotated[Name, _said("Its site.", x_kubernetes_validations=IMMUTABLE)]
    node: Annotated[Name, _said("Feed node that it is about.")]
    kind: Annotated[
        Literal["curtailment", "ballast", "pivot"],
        _said(
            "Curtail, hold a sum, or move power between mining and AI.",
            x_kubernetes_validations=IMMUTABLE,
        ),
    ]
    start: Annotated[Time, _said("From when.")]
    end: Annotated[Time | None, _said("Until when; without it, until it is deleted.")] = None
    target_w: Annotated[Watts, _said("What the node may draw, watts.")]
    reason: Annotated[Text, _said("Why, for people.")]


class PowerEventStatus(Status, frozen=True, kw_only=True):
    """What came of it."""

    shed_w: Annotated[Watts | None, _said("Lowered by our writes, watts.")] = None
    confirmed_w: Annotated[Watts | None, _said("Seen at the meter, watts.")] = None


# --- Overlay, Order: what people say -----------------------------------------------------------------


class OverlaySpec(Part, frozen=True, kw_only=True):
    """A hold or a freeze. To delete the object releases nothing: an `Order` does."""

    site: Annotated[Name, _said("Its site.")]
    kind: Annotated[
        Literal["safety", "maintenance", "freeze"],
        _said("A safety hold is released by its owner alone; a freeze lets lowering go on."),
    ]
    node: Annotated[Name, _said("Device, rack, switch, feed node or site: with all below it.")]
    owner: Annotated[Text, _said("Who says it.")]
    reason: Annotated[Text, _said("Why, for people.")]
    since: Annotated[Time, _said("From when.")]
    expires: Annotated[
        Time | None, _said("When a freeze ends, and when a maintenance hold begins to page.")
    ] = None
    assets: Annotated[
        tuple[Name, ...],
        _said(
            "What it covered when it was said, and covers from then on.",
            max_length=15_000, x_kubernetes_list_type="atomic",
        ),
    ] = ()  # fmt: skip


class OverlayStatus(Status, frozen=True, kw_only=True):
    """`Ready` once whoever acts on the site goes by it."""


class OrderSpec(Part, frozen=True, kw_only=True):
    """A person's word to whoever acts on the site; obeyed once."""

    site: Annotated[Name, _said("Its site.")]
    kind: Annotated[
        Literal[
            "release",
            "trust",
            "override",
            "contested",
            "stuck",
            "rollout",
            "incident",
            "unplugged",
            "firmware",
            "credentials",
            "repaired",
            "approve",
            "breaker",
            "emergency",
            "break_glass",
            "end",
            "rma",
            "accept",
            "login",
        ],
        _said("What is to be ended, approved of or taken for granted."),
    ]
    target: Annotated[
        str,
        _said(
            "Id of an overlay, a device, a rollout, an incident, or a failure domain "
            "(`rack/ga-g1-r001`); with `emergency` and `break_glass` a name of your own for it.",
            min_length=1,
            max_length=253,
        ),
    ]
    by: Annotated[Text, _said("Who says it.")]
    at: Annotated[Time, _said("When.")]
    pin: Annotated[
        PinPart | None, _said("With `trust`: the machine that is the asset from now on.")
    ] = None
    through: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        _said("Of waves: the last that is let go, from 1; without it, the open one."),
    ] = None
    reason: Annotated[Text | None, _said("With every word on GPU nodes: why, for people.")] = None
    until: Annotated[
        Time | None, _said("With `approve`, `emergency` and `break_glass`: until when.")
    ] = None
    up_to: Annotated[
        Literal["reset_gpu", "reload_driver", "reboot", "power_cycle", "repair"] | None,
        _said("With `approve`: the rung of the ladder that a node may be taken to."),
    ] = None
    serial: Annotated[
        Annotated[str, Meta(min_length=1, max_length=64)] | None,
        _said("With `rma`: of the machine that leaves for its maker."),
    ] = None
    emergency: Annotated[
        Literal["thermal", "leak", "feeder", "grid"] | None, _said("With `emergency`: its class.")
    ] = None
    domains: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=253)], ...],
        _said(
            "With `emergency`: the failure domains that it is in.",
            max_length=64, x_kubernetes_list_type="atomic",
        ),
    ] = ()  # fmt: skip
    nodes: Annotated[
        tuple[Name, ...],
        _said(
            "With `break_glass`: the GPU nodes that it is for.",
            max_length=512, x_kubernetes_list_type="atomic",
        ),
    ] = ()  # fmt: skip


class OrderStatus(Status, frozen=True, kw_only=True):
    """`Ready` once it was obeyed and that is durable; `Stalled` where it was refused."""


# --- StateShard: the controller's memory -----------------------------------------------------------------


class StateShardSpec(Part, frozen=True, kw_only=True):
    """One part of the durable state of a site, under the fence of whoever wrote it last."""

    site: Annotated[Name, _said("Its site.", x_kubernetes_validations=IMMUTABLE)]
    fence: Annotated[
        int,
        _said(
            "Lease transition of the leader that wrote it.",
            ge=0,
            x_kubernetes_validations=_rules(
                ("self >= oldSelf", "an older leader may not take it back")
            ),
        ),
    ]
    holder: Annotated[str, _said("The process that wrote it last.", max_length=253)]
    sequence: Annotated[
        int,
        _said(
            "Grows with each write.",
            ge=0,
            x_kubernetes_validations=_rules(("self >= oldSelf", "it only grows")),
        ),
    ]
    version: Annotated[int, _said("Of the records in `data`; a release reads older ones.", ge=1)]
    data: Annotated[
        bytes,
        _said("zlib over JSON: table, then key, then record.", max_length=1_400_000),
    ]


class StateShardStatus(Status, frozen=True, kw_only=True):
    """Nothing: it is read by the controller alone."""


# --- what the API server is told of each ---------------------------------------------------------------


class Column(msgspec.Struct, frozen=True):
    """A column of `kubectl get`."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of object."""

    name: str
    plural: str
    short: tuple[str, ...]
    spec: type[Part]
    status: type[Status]
    spec_rules: tuple[tuple[str, str], ...] = ()
    columns: tuple[Column, ...] = ()
    selectable: tuple[str, ...] = ()
    """Fields of the spec by which `--field-selector` finds objects."""


def _condition(kind: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].status'


_READY = Column("Ready", _condition("Ready"))
_MESSAGE = Column("Message", '.status.conditions[?(@.type=="Ready")].message', wide=True)

KINDS: tuple[Kind, ...] = (
    Kind(
        name="FleetRevision", plural="fleetrevisions", short=("fr",),
        spec=FleetRevisionSpec, status=FleetRevisionStatus,
        spec_rules=(("self == oldSelf", "a revision never changes: make a new one"),),
        columns=(
            Column("Site", ".spec.site"),
            Column("Accepted", _condition("Accepted")),
            Column("Devices", ".status.devices", "integer"),
        ),
        selectable=("site",),
    ),
    Kind(
        name="Site", plural="sites", short=(), spec=SiteSpec, status=SiteStatus,
        columns=(
            _READY,
            Column("Mode", ".spec.mode"),
            Column("Converged", ".status.progress"),
            Column("To do", ".status.devices.actionable", "integer"),
            Column("Rollout", ".status.rollout"),
            Column("Holds", ".status.holds", "integer"),
            Column("Incidents", ".status.incidents", "integer"),
            _MESSAGE,
        ),
    ),
    Kind(
        name="Rack", plural="racks", short=(), spec=RackSpec, status=RackStatus,
        columns=(
            _READY,
            Column("Converged", ".status.progress"),
            Column("Feed", ".spec.feed"),
            Column("Held by", ".status.heldBy"),
            _MESSAGE,
        ),
        selectable=("feed",),
    ),
    Kind(
        name="Miner", plural="miners", short=(), spec=MinerSpec, status=MinerStatus,
        columns=(
            _READY,
            Column("State", ".spec.slotState"),
            Column("Rack", ".spec.rack"),
            Column("Firmware", ".status.firmware"),
            Column("Operation", ".status.operation"),
            _MESSAGE,
        ),
        selectable=("rack", "slotState"),
    ),
    Kind(
        name="GpuNode", plural="gpunodes", short=(), spec=GpuNodeSpec, status=GpuNodeStatus,
        columns=(
            _READY,
            Column("Life", ".status.life"),
            Column("Node", ".spec.nodeName"),
            Column("Rack", ".spec.rack"),
            Column("Cap W", ".spec.powerCap.gpuW", "number"),
            Column("Enforced W", ".status.enforcedGpuW", "number"),
            _MESSAGE,
        ),
        selectable=("rack", "nodeName"),
    ),
    Kind(
        name="Rollout", plural="rollouts", short=(), spec=RolloutSpec, status=RolloutStatus,
        columns=(
            Column("Site", ".spec.site"),
            Column("State", ".spec.state"),
            Column("Wave", ".status.progress"),
            _MESSAGE,
        ),
        selectable=("site", "state"),
    ),
    Kind(
        name="DeviceOperation", plural="deviceoperations", short=("devop",),
        spec=DeviceOperationSpec, status=DeviceOperationStatus,
        spec_rules=(
            (
                "self.entries.map(e, e.asset) == oldSelf.entries.map(e, e.asset)",
                "no device joins or leaves an operation",
            ),
        ),
        columns=(
            Column("Kind", ".spec.kind"),
            Column("Done", ".status.progress"),
            Column("Deadline", ".spec.deadline", "date"),
            _MESSAGE,
        ),
        selectable=("site", "kind"),
    ),
    Kind(
        name="Overlay", plural="overlays", short=("ov",), spec=OverlaySpec, status=OverlayStatus,
        spec_rules=(("self == oldSelf", "what was said stays as it was said: say another one"),),
        columns=(
            Column("Kind", ".spec.kind"),
            Column("Node", ".spec.node"),
            Column("Owner", ".spec.owner"),
            Column("In force", _condition("Ready")),
            Column("Expires", ".spec.expires", "date"),
            Column("Reason", ".spec.reason", wide=True),
        ),
        selectable=("site", "node"),
    ),
    Kind(
        name="Order", plural="orders", short=(), spec=OrderSpec, status=OrderStatus,
        spec_rules=(("self == oldSelf", "what was said stays as it was said: say another one"),),
        columns=(
            Column("Kind", ".spec.kind"),
            Column("Target", ".spec.target"),
            Column("By", ".spec.by"),
            Column("Done", _condition("Ready")),
            _MESSAGE,
        ),
        selectable=("site",),
    ),
    Kind(
        name="StateShard", plural="stateshards", short=(),
        spec=StateShardSpec, status=StateShardStatus,
        columns=(
            Column("Site", ".spec.site"),
            Column("Fence", ".spec.fence", "integer"),
            Column("Holder", ".spec.holder", wide=True),
            Column("Sequence", ".spec.sequence", "integer"),
        ),
        selectable=("site",),
    ),
    Kind(
        name="PowerEvent", plural="powerevents", short=("pev",),
        spec=PowerEventSpec, status=PowerEventStatus,
        spec_rules=(
            ("!has(self.end) || self.end > self.start", "it ends after it starts"),
        ),
        columns=(
            _READY,
            Column("Kind", ".spec.kind"),
            Column("Node", ".spec.node"),
            Column("Target W", ".spec.targetW", "number"),
            Column("Start", ".spec.start", "date"),
            Column("End", ".spec.end", "date"),
        ),
        selectable=("site", "node"),
    ),
)  # fmt: skip
