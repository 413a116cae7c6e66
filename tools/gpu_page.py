"""The reference page on GPU nodes: what is read, what is written, what is wrong, and the table of Xids."""

from __future__ import annotations

from control_plane.core import limits
from control_plane.core.gpu import AlertKind
from control_plane.core.xid import AS_OF, FACTS, Weight, XidFact

_READ = """\
`gridplane node-agent` reads these each {look:g} s, through NVML; what a GPU, its mode or an older driver does not
tell is unknown, and nothing is written from it.

| of a GPU | NVML | |
| --- | --- | --- |
| limit, enforced limit, default, range | `PowerManagementLimit`, `EnforcedPowerLimit`, `…DefaultLimit`, `…LimitConstraints` | \
asked for, in force, and what it takes; enforced is lower where a BMC caps too |
| draw, energy | `PowerUsage`, `TotalEnergyConsumption` | energy since the driver was loaded: where it falls, that was just now |
| temperature, graphics clock, reasons | `Temperature`, `ClockInfo`, `CurrentClocksEventReasons` | power cap, slowdown, heat, power brake |
| persistence, ECC, MIG | `PersistenceMode`, `EccMode`, `MigMode` | ECC now, and after the next reboot |
| uncorrected errors, remapped rows | `TotalEccErrors`, `RemappedRows` | rows are not told while it is partitioned |
| NVLinks, fabric | `NvLinkState`, `GpuFabricInfoV` | with any link up, all that it has should be |
| what the driver asks for | field 230 | 0 to 4; above that, values mean another thing in each driver branch: a person |
| compute processes | `ComputeRunningProcesses_v3` | none is a fact only in the host's own PID namespace: elsewhere \
the driver leaves out those of others |
| memory in use | `MemoryInfo_v2` | total less reserved and free, rounded up to MiB: everybody's, whoever asks; not while \
it is partitioned, and not of version 1, where what is reserved counts as used |
| Xids | `EventSetWait_v2` | those since the look before; none from before the first |

**Written**, and only from the node's `GpuNode`: power limit, persistence, locked clocks, ECC mode. MIG is written by
the GPU operator's manager alone. Limits, clocks and persistence are lost whenever the driver is unloaded, which a
reboot does too; the next look writes them again.
"""  # noqa: E501 - rows of a table

_STATES = """\
A limit's cap is the least of the site's ceiling (`spec.ceilingGpuW`), the engine's grant (`spec.powerCap`) and what
the workload asks for (`spec.workloadGpuW`), within the GPU's range. `status.gpus[].cap` says how it stands:

| | |
| --- | --- |
| `as_capped` | at its cap |
| `no_cap` | nothing limits it: left as it is |
| `no_fresh_grant` | lower than it might be; without a grant that is in force nothing is raised |
| `lower_by_other` | somebody else set it lower: a workload's wish, which stays |
| `unreadable` | its limit cannot be read: none is written |
| `lost` | the GPU is gone |
"""  # noqa: E501 - sentences of a page

_ALERTS: dict[AlertKind, tuple[str, str]] = {
    AlertKind.UNREADABLE: (
        "nothing could be read: no library, driver not loaded, versions that differ, broken, hung",
        "watched for {unreadable:,.0f} s (a driver may be upgraded); then drain, reload or reboot",
    ),
    AlertKind.GPU_LOST: ("the driver says that it is gone", "reboot"),
    AlertKind.GPU_MISSING: ("fewer answer than are declared", "reboot"),
    AlertKind.XID: (
        "an Xid, until the GPU was reset or the host rebooted; one that asks for a look alone, for a day",
        "as the table below",
    ),
    AlertKind.RECOVERY_ACTION: (
        "the driver asks for something (field 230)",
        "what it asks for; of values above 4 drain, and a person",
    ),
    AlertKind.REMAP_PENDING: ("a row is replaced at the next reset", "reset"),
    AlertKind.REMAP_FAILED: ("no spare row is left", "repair, and nothing lower helps"),
    AlertKind.ECC_UNCORRECTED: ("errors since the driver was loaded", "observe"),
    AlertKind.LINK_DOWN: ("an NVLink that should be up is not", "reset, and a person"),
    AlertKind.FABRIC: (
        "not registered with the NVLink fabric for {fabric:,.0f} s, or degraded",
        "reload, and a person",
    ),
    AlertKind.THERMAL: (
        "slowed by heat for {after:,.0f} s; over {lasts:,.0f} s after the last time",
        "observe",
    ),
    AlertKind.POWER_BRAKE: ("slowed by the power brake, as long", "observe: look at the feed"),
    AlertKind.CAP_NOT_ENFORCED: (
        "more is enforced than allowed, for {cap:,.0f} s",
        "observe, and a person",
    ),
    AlertKind.SECOND_WRITER: (
        "somebody raised a limit {raises} times in {within:,.0f} s; it is lowered each time",
        "observe, and a person",
    ),
    AlertKind.UNKNOWN: (
        "something that only a newer agent knows; the controller alone has it",
        "drain, or observe where the agent asked for no more; and a person",
    ),
    AlertKind.HANDED_OVER: (
        "[NVSentinel handed it over](../how-to/repair-gpu-nodes.md#nvsentinel-hands-a-node-over); no agent",
        "what it asks for: a restart, repair, or a drain and a person",
    ),
}

_CONDITIONS = """\
The agent's conditions are `GpusReadable`, `GpusHealthy` and `GpusAsDeclared`; `Ready` is the controller's. It writes
when something changed, and every {report:,.0f} s that it lives. While an alert of its own calls for more than a look, or
the controller works on the node (`spec.attention`), it writes every {attention:,.0f} s: what it saw counts as evidence
for {evidence:,.0f} s. `status.reportedAt` is when it looked, of what it wrote last.

`status.processes` is how many compute processes were on the GPUs at that look, one that uses several counted on each;
left out where none was seen and not every GPU could tell. It alone makes the agent write only where zero was told and is not so any more,
or at most every {attention:,.0f} s where it became known, unknown or zero.

In a pod no process of others is seen, so memory tells: a GPU with less than {idle} MiB in use has none. One with more is
unknown, even where none was counted: somebody holds it. So is one that is partitioned, and one that the agent is not
let open. A GPU that is lost is left out; where all are, nothing is known.
"""  # noqa: E501 - sentences of a page

_WEIGHTS = {
    Weight.ACT: "one is enough",
    Weight.COUNT: "counted",
    Weight.TELL: "nothing itself",
}


def gpu_page(made: str) -> str:
    """The page."""
    numbers = {
        "look": limits.GPU_LOOK_S,
        "unreadable": limits.GPU_UNREADABLE_GRACE_S,
        "fabric": limits.GPU_FABRIC_GRACE_S,
        "after": limits.GPU_THROTTLED_AFTER_S,
        "lasts": limits.GPU_THROTTLED_FOR_S,
        "cap": limits.GPU_CAP_GRACE_S,
        "raises": limits.GPU_RAISES_BY_OTHERS,
        "within": limits.GPU_RAISES_WITHIN_S,
        "report": limits.GPU_REPORT_S,
        "attention": limits.GPU_ATTENTION_S,
        "evidence": limits.GPU_EVIDENCE_TTL_S,
        "idle": limits.GPU_IDLE_MIB,
    }
    alerts = [
        f"| `{kind}` | {what.format(**numbers)} | {rung.format(**numbers)} |"
        for kind, (what, rung) in _ALERTS.items()
    ]
    xids = [_row(fact) for fact in FACTS.values()]
    return "\n".join(
        [
            "# GPU nodes\n",
            made,
            "[How to run them](../how-to/run-gpu-nodes.md) · [tried on](hardware-tried.md)\n",
            "## What is read and written\n",
            _READ.format(**numbers),
            "## Caps\n",
            _STATES,
            "## Alerts\n",
            _CONDITIONS.format(**numbers),
            "| alert | what is so | the least that helps |\n| --- | --- | --- |",
            "\n".join(alerts) + "\n",
            "## Xids\n",
            (
                f"From NVIDIA's Xid catalogue as of {AS_OF} (Ampere to Blackwell). One that is not here\n"
                "asks a person and takes the node from nobody. *Counted*: "
                f"{limits.XIDS_COUNTED_MAX} in a day on one GPU, and at\n"
                "most half as many on each other GPU of its node, on which the same work runs.\n"
            ),
            "| Xid | what | | the least that helps | note |\n| ---: | --- | --- | --- | --- |",
            "\n".join(xids) + "\n",
        ]
    )


def _row(fact: XidFact) -> str:
    rung = "" if fact.weight is Weight.TELL else fact.rung.name.lower().replace("_", " ")
    asked = f"{rung}, and a person" if fact.asks else rung
    return f"| {fact.xid} | {fact.name} | {_WEIGHTS[fact.weight]} | {asked} | {fact.note} |"
