"""Every limit, once, with its unit and source. `docs/reference/limits.md` is generated from here.

A limit that a site may choose is in its declaration; what stands here cannot be switched off.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

T = TypeVar("T", int, float)


class Limit(msgspec.Struct, frozen=True):
    """One limit as documentation reads it."""

    name: str
    value: float
    unit: str
    source: str


REGISTER: Final[list[Limit]] = []


def _limit(name: str, value: T, unit: str, source: str) -> T:
    REGISTER.append(Limit(name, value, unit, source))
    return value


REPLY_MAX_BYTES: Final = _limit(
    "REPLY_MAX_BYTES",
    256 * 1024,
    "bytes",
    "control S9: an honest reply of any family is below 64 KiB",
)
REPLY_MAX_DEPTH: Final = _limit("REPLY_MAX_DEPTH", 32, "levels", "control S9")
REPLY_DEADLINE_S: Final = _limit(
    "REPLY_DEADLINE_S", 5.0, "wire s", "control S9; asic-devices, hot-path budget"
)
CONNECT_DEADLINE_S: Final = _limit(
    "CONNECT_DEADLINE_S",
    3.0,
    "wire s",
    "a loaded control board accepts within 1 s; a dead one must not hold a slot for long",
)
POLL_INTERVAL_S: Final = _limit(
    "POLL_INTERVAL_S", 10.0, "wire s", "figure C2: every device each 10 s"
)
FACTORY_LOGIN_EVERY_S: Final = _limit(
    "FACTORY_LOGIN_EVERY_S",
    86_400.0,
    "s",
    "ours: VNish locks out after too many wrong passwords in a while, and nobody tells how many",
)
FACTORY_LOGINS_AT_ONCE: Final = _limit(
    "FACTORY_LOGINS_AT_ONCE", 50, "devices", "ours: a person waits for it, no device is asked twice"
)
POLL_CONCURRENCY: Final = _limit(
    "POLL_CONCURRENCY",
    500,
    "connections",
    "asic-devices §5: 14,000 devices in 7.4 s without errors at 500",
)
POOLS_EVERY_POLLS: Final = _limit(
    "POOLS_EVERY_POLLS", 1, "polls", "control S2: a hijack is seen within 10 s, contained within 30"
)
FULL_EVERY_POLLS: Final = _limit(
    "FULL_EVERY_POLLS", 360, "polls", "asic-devices §5: identity and config hourly or on change"
)
WRITE_ACCESS_RETRY_S: Final = _limit(
    "WRITE_ACCESS_RETRY_S",
    3600.0,
    "device s",
    "asic-devices §1: a write interface that is off is no failure to retry; a person may switch it on",
)
DEAD_BACKOFF_MAX_S: Final = _limit(
    "DEAD_BACKOFF_MAX_S", 120.0, "wire s", "dead hosts must not hold poll slots"
)
TELEMETRY_TTL_S: Final = _limit(
    "TELEMETRY_TTL_S",
    60.0,
    "wire s",
    "invariant I6: six missed polls; nothing is decided from older telemetry",
)
WRITE_READ_TTL_S: Final = _limit(
    "WRITE_READ_TTL_S",
    30.0,
    "wire s",
    "reconciler rule 1: all but a stop leaves within this after the look it was decided from",
)
VERIFY_FLOOR_S: Final = _limit(
    "VERIFY_FLOOR_S",
    10.0,
    "wire s",
    "two accepts of a loaded board and a look: no verdict is sooner, however fast a simulation runs",
)
MAX_ATTEMPTS: Final = _limit(
    "MAX_ATTEMPTS", 3, "writes", "reconciler rule 5: after that the device is stuck"
)
REDRIFT_WINDOW_S: Final = _limit(
    "REDRIFT_WINDOW_S",
    86_400.0,
    "policy s",
    "design §3: two re-drifts of a field in 24 h are a contest",
)
REDRIFTS_TO_CONTEST: Final = _limit("REDRIFTS_TO_CONTEST", 2, "re-drifts", "design §3")
PERSISTENT_WRITES_PER_DAY: Final = _limit(
    "PERSISTENT_WRITES_PER_DAY",
    12,
    "writes per device",
    "asic-devices: no vendor endurance figure; config writes wear NAND",
)
STORM_SHARE: Final = _limit(
    "STORM_SHARE",
    0.01,
    "share of site",
    "control S2: more than 1 % off-list at once is an alarm, not a rewrite storm",
)
STORM_FLOOR: Final = _limit(
    "STORM_FLOOR", 100, "devices", "below that a share of a small site is not a storm: one rack is"
)
CORRELATED_SHARE: Final = _limit(
    "CORRELATED_SHARE",
    0.5,
    "share of node",
    "design §8: half of a PDU, rack or switch lost together is one incident",
)
CORRELATED_FLOOR: Final = _limit(
    "CORRELATED_FLOOR", 5, "devices", "smaller groups are single faults"
)
CORRELATED_WINDOW_S: Final = _limit("CORRELATED_WINDOW_S", 60.0, "wire s", "six polls")
SHRINK_MAX_SHARE: Final = _limit(
    "SHRINK_MAX_SHARE",
    0.05,
    "share of site",
    "design §4: a revision that drops more devices is not accepted",
)
SHRINK_DOMAIN_SHARE: Final = _limit(
    "SHRINK_DOMAIN_SHARE",
    0.5,
    "share of node",
    "a rack, PDU or feed that loses half at once is a decommissioning, or a file that was cut off",
)
SHRINK_DOMAIN_FLOOR: Final = _limit(
    "SHRINK_DOMAIN_FLOOR", 5, "devices", "fewer go out of a rack on any day for repair"
)
HASH_EVIDENCE_SHARE: Final = _limit(
    "HASH_EVIDENCE_SHARE", 0.5, "of nameplate", "hashing means at least half of the nameplate hash"
)
SLEEP_EVIDENCE_SHARE: Final = _limit(
    "SLEEP_EVIDENCE_SHARE",
    0.5,
    "of nominal draw",
    "Proto Fleet: curtailed is ≤ 0.5 of baseline watts",
)
MODE_EVIDENCE_SHARE: Final = _limit(
    "MODE_EVIDENCE_SHARE",
    0.25,
    "of nameplate hash",
    "bins, bias and temperature move hash at a mode by less",
)
FAILURE_HASH_SHARE: Final = _limit(
    "FAILURE_HASH_SHARE", 0.8, "of baseline", "a gate counts a device as failed below that"
)
D3_SHARE: Final = _limit("D3_SHARE", 0.05, "of site watts", "danger class D3")
MASS_SHARE: Final = _limit("MASS_SHARE", 0.05, "of site devices", "danger class D5: mass removal")
SITE_READY_MIN_SHARE: Final = _limit(
    "SITE_READY_MIN_SHARE",
    0.9,
    "of managed devices",
    "a `Site` is Ready from there on: some per cent of a real site is always broken, and is named",
)
HOLD_EFFECT_S: Final = _limit(
    "HOLD_EFFECT_S",
    2.0,
    "wire s",
    "a hold is in force in the gate within this, or `hold` says that it is not yet",
)
LEASE_DURATION_S: Final = _limit(
    "LEASE_DURATION_S",
    12.0,
    "wire s",
    "failover within 15 s leaves 3 for the take-over; LEASE_RENEW_S and then REPLY_DEADLINE_S, in which"
    " the last write of a holder ends",
)
LEASE_RENEW_S: Final = _limit(
    "LEASE_RENEW_S",
    7.0,
    "wire s",
    "a holder writes nothing beyond it; an API server may be away for 4 s, as at a restart",
)
LEASE_RETRY_S: Final = _limit(
    "LEASE_RETRY_S",
    2.0,
    "wire s",
    "Kubernetes' own; half of it after a try that failed: five before the deadline",
)
LEASE_CALL_S: Final = _limit(
    "LEASE_CALL_S", 2.0, "wire s", "a call that hangs leaves time for another before the deadline"
)
WATCH_SILENT_S: Final = _limit(
    "WATCH_SILENT_S",
    70.0,
    "wire s",
    "an API server sends a bookmark each minute: without one the connection is dead",
)
WATCH_TURN_S: Final = _limit(
    "WATCH_TURN_S", 300.0, "wire s", "kubernetes-controller §3: after that the server ends a watch"
)
RELIST_S: Final = _limit(
    "RELIST_S",
    3600.0,
    "wire s",
    "heals what no watch tells (a restored store, a lost event) for 2.4 CPU s per 15,000 objects",
)
API_BACKOFF_MIN_S: Final = _limit(
    "API_BACKOFF_MIN_S", 0.8, "wire s", "client-go's reflector begins there"
)
API_BACKOFF_MAX_S: Final = _limit(
    "API_BACKOFF_MAX_S", 30.0, "wire s", "client-go's reflector: found again soon after an outage"
)
RETRY_AFTER_MAX_S: Final = _limit(
    "RETRY_AFTER_MAX_S", 120.0, "wire s", "no server is obeyed for longer than that at once"
)
EVICTION_RETRY_MIN_S: Final = _limit(
    "EVICTION_RETRY_MIN_S", 5.0, "wire s", "kubectl drain asks a budget again after 5 s"
)
EVICTION_RETRY_MAX_S: Final = _limit(
    "EVICTION_RETRY_MAX_S", 60.0, "wire s", "a budget that stays spent is not asked more often"
)
DRAIN_FORCED_S: Final = _limit(
    "DRAIN_FORCED_S",
    600.0,
    "policy s past the deadline",
    "pods that were ended past their budgets have their own grace; then a person looks",
)
DRAIN_EVIDENCE_S: Final = _limit(
    "DRAIN_EVIDENCE_S",
    30.0,
    "policy s",
    "gpu-nodes §14.7: stale evidence holds; an act on a drained node leans on a look as old as that",
)
MIG_LASTS_S: Final = _limit(
    "MIG_LASTS_S",
    1_800.0,
    "policy s",
    "gpu-operator's mig-manager with a reboot: a server of eight GPUs boots in 10 to 15 minutes",
)
GPU_SOFTWARE_SOAK_S: Final = _limit(
    "GPU_SOFTWARE_SOAK_S",
    900.0,
    "policy s",
    "three reports of an agent (GPU_REPORT_S) of each node that a wave has treated",
)
NODE_CONDITION_BEAT_S: Final = _limit(
    "NODE_CONDITION_BEAT_S",
    3_600.0,
    "wire s",
    "ours: a status write costs an API server 7 to 10 ms, and an unchanged condition is no news",
)
NODES_LABELLED_AT_ONCE: Final = _limit(
    "NODES_LABELLED_AT_ONCE",
    8,
    "nodes in a round",
    "ours: labels are in no hurry, and each write of a node is told to everybody who watches nodes",
)
NODE_LABELS_AGAIN_S: Final = _limit(
    "NODE_LABELS_AGAIN_S",
    60.0,
    "policy s",
    "ours: who writes over a label as often as that is not outrun, but told",
)
HAND_OVERS_LOOK_S: Final = _limit(
    "HAND_OVERS_LOOK_S",
    600.0,
    "wire s",
    "ours: who installs NVSentinel does not have it hand nodes over within minutes",
)
HAND_OVERS_AGAIN_S: Final = _limit(
    "HAND_OVERS_AGAIN_S", 60.0, "wire s", "ours: what an API server refuses it refuses a while"
)
RECONCILE_WORKERS: Final = _limit(
    "RECONCILE_WORKERS", 64, "keys at once", "kubernetes-controller §2: as in the measured skeleton"
)
RECONCILE_BACKOFF_MIN_S: Final = _limit(
    "RECONCILE_BACKOFF_MIN_S",
    0.5,
    "wire s",
    "most failures are a conflict, gone with the next look",
)
RECONCILE_BACKOFF_MAX_S: Final = _limit(
    "RECONCILE_BACKOFF_MAX_S", 120.0, "wire s", "as DEAD_BACKOFF_MAX_S"
)
STATUS_WRITES_PER_S: Final = _limit(
    "STATUS_WRITES_PER_S",
    20,
    "requests per wire s",
    "kubernetes-controller §4: 7 to 10 ms of the API server's CPU each",
)
STATUS_BURST: Final = _limit("STATUS_BURST", 100, "requests", "kubernetes-controller §4")
STATUS_SPACING_S: Final = _limit(
    "STATUS_SPACING_S",
    30.0,
    "wire s",
    "kubernetes-controller §4: what flaps is written once in a while; what is urgent does not wait",
)
STATUS_WRITERS: Final = _limit(
    "STATUS_WRITERS", 8, "requests at once", "at 50 ms each, enough for a burst of 100 in a second"
)
EVENTS_PER_S: Final = _limit(
    "EVENTS_PER_S",
    5,
    "requests per wire s",
    "a quarter of what statuses have: an Event costs the API server as much",
)
EVENT_BURST: Final = _limit("EVENT_BURST", 50, "requests", "as EVENTS_PER_S")
EVENT_AGE_MAX_S: Final = _limit(
    "EVENT_AGE_MAX_S", 120.0, "wire s", "client-go tries an Event for two minutes, then drops it"
)
EVENTS_WAITING_MAX: Final = _limit(
    "EVENTS_WAITING_MAX", 600, "Events", "what EVENTS_PER_S writes within EVENT_AGE_MAX_S"
)
EVENT_GATHER_S: Final = _limit(
    "EVENT_GATHER_S", 10.0, "wire s", "what a rack's devices do within that is one Event"
)
REVISIONS_KEPT: Final = _limit(
    "REVISIONS_KEPT", 10, "revisions per site", "design §4: whatever refers to them or not"
)
REVISION_AGE_S: Final = _limit(
    "REVISION_AGE_S",
    86_400.0,
    "s",
    "a revision is made before its `Site` points to it, which a person may have to approve",
)
COLLECT_S: Final = _limit("COLLECT_S", 600.0, "wire s", "nothing waits for room")
LEDGER_LAG_S: Final = _limit(
    "LEDGER_LAG_S",
    2.0,
    "wire s",
    "what was learned of devices is kept within that; intents are kept before anything is sent",
)
LEDGER_WRITES_PER_S: Final = _limit(
    "LEDGER_WRITES_PER_S",
    20,
    "requests per wire s",
    "as STATUS_WRITES_PER_S; 49 shards, so a site that is all in motion is kept within 3 s",
)
FIRMWARE_SHARD_DEVICES: Final = _limit(
    "FIRMWARE_SHARD_DEVICES",
    200,
    "devices per index of a Job",
    "pulumi §7.2: 100 to 500; one DeviceOperation takes 500",
)
FIRMWARE_SHARDS_AT_ONCE: Final = _limit(
    "FIRMWARE_SHARDS_AT_ONCE", 10, "pods per Job", "management hosts are small: 64 MiB a pod"
)
FIRMWARE_SHARD_S: Final = _limit(
    "FIRMWARE_SHARD_S",
    7_200,
    "s per round of a Job's pods",
    "200 devices, 20 at a time, with 10 min each for the longest flash and its reboot",
)
FIRMWARE_AT_ONCE: Final = _limit(
    "FIRMWARE_AT_ONCE",
    20,
    "devices per grant",
    "pulumi §7.2; they are down together, and a runner feeds all of them",
)
FIRMWARE_WAIT_S: Final = _limit(
    "FIRMWARE_WAIT_S",
    3_600,
    "policy s",
    "a wave that was let go and has no fit machine waits so long; then it is swept up at the end",
)
FIRMWARE_SWEEP_S: Final = _limit(
    "FIRMWARE_SWEEP_S",
    600,
    "policy s",
    "between two rounds that sweep up: who is fit by then goes together",
)
FIRMWARE_AT_FIRST: Final = _limit(
    "FIRMWARE_AT_FIRST",
    5,
    "devices that a rollout has down together once its first machine is well; doubled by each gate",
    "an image that bricks one machine in two passes a first machine every other time",
)
FIRMWARE_LOST_MAX: Final = _limit(
    "FIRMWARE_LOST_MAX",
    5,
    "machines that failed at an image since a person spoke last",
    "a share of thousands may pass a gate; a machine that has to be carried to the bench is counted",
)
FIRMWARE_KEPT_S: Final = _limit(
    "FIRMWARE_KEPT_S",
    90 * 86_400.0,
    "policy s",
    "what became of each machine stays so long for people after its rollout",
)
FIRMWARE_RETRIES: Final = _limit(
    "FIRMWARE_RETRIES",
    1,
    "per index of a Job",
    "pulumi §7.2; the runner reads first, so a retry repeats nothing",
)
CREDENTIAL_LOOK_S: Final = _limit(
    "CREDENTIAL_LOOK_S",
    30.0,
    "seconds between two probes of a device whose password or address may have changed",
    "a probe has up to three wrong logins; simulated VNish closes its door after five in a minute",
)
CREDENTIAL_SILENT_S: Final = _limit(
    "CREDENTIAL_SILENT_S",
    900.0,
    "seconds without a login, or an answer, until a rotation gives a device up",
    "a boot of 1-2 min, several times over",
)
CREDENTIAL_AT_ONCE: Final = _limit(
    "CREDENTIAL_AT_ONCE",
    32,
    "devices between two passwords, or two addresses",
    "whoever kills the process leaves so many to be looked at",
)
CREDENTIAL_WAIT_S: Final = _limit(
    "CREDENTIAL_WAIT_S",
    600.0,
    "seconds until machines that were not fit for another password or address are asked again",
    "as long as a look deep enough to tell takes in turn",
)
FIRMWARE_FAILED_SHARE: Final = _limit(
    "FIRMWARE_FAILED_SHARE", 0.02, "of a Job's indexes", "pulumi §7.2: then the Job stops"
)
SHARDS_MAX_BYTES: Final = _limit(
    "SHARDS_MAX_BYTES", 700_000, "bytes per ConfigMap", "the API server takes 1 MiB of data"
)
COMMENT_MAX_CHARS: Final = _limit(
    "COMMENT_MAX_CHARS",
    60_000,
    "characters",
    "GitHub takes 65,536 of a comment, GitLab more; whatever the size of the fleet",
)
YAML_MAX_BYTES: Final = _limit(
    "YAML_MAX_BYTES",
    8 * 1024 * 1024,
    "bytes per file",
    "the largest file of a 15,000-device site is below 1 MiB",
)
YAML_MAX_DEPTH: Final = _limit("YAML_MAX_DEPTH", 32, "levels", "control S9")
YAML_MAX_ALIASES: Final = _limit("YAML_MAX_ALIASES", 100, "aliases per file", "anchor bombs")
YAML_MAX_NODES: Final = _limit(
    "YAML_MAX_NODES",
    500_000,
    "nodes per file, aliases expanded",
    "a rack takes about 20: 15,000 devices in one file stay below 20,000",
)
PLACEMENT_MAX_BYTES: Final = _limit(
    "PLACEMENT_MAX_BYTES",
    32 * 1024 * 1024,
    "bytes per file",
    "about 110 bytes a row: 14,000 machines are 1.5 MB",
)
INVENTORY_MAX_FILES: Final = _limit(
    "INVENTORY_MAX_FILES", 20_000, "files", "one rack a file at 300,000 devices is 7,500"
)
INVENTORY_MAX_BYTES: Final = _limit(
    "INVENTORY_MAX_BYTES",
    256 * 1024 * 1024,
    "bytes",
    "300,000 devices are about 40 MB",
)
FINDINGS_MAX: Final = _limit(
    "FINDINGS_MAX", 500, "findings shown", "nobody reads more before fixing the first"
)
GPU_EVIDENCE_TTL_S: Final = _limit(
    "GPU_EVIDENCE_TTL_S", 60.0, "s", "as TELEMETRY_TTL_S: four looks at 15 s each"
)
DOWN_SHARE_RACK: Final = _limit(
    "DOWN_SHARE_RACK",
    0.1,
    "of the GPU nodes of a rack, feed node or NVLink clique",
    "gpu-nodes §14.5; rounded down, 1 where there are two or more",
)
DOWN_SHARE_CLUSTER: Final = _limit(
    "DOWN_SHARE_CLUSTER", 0.05, "of the GPU nodes of a cluster or site", "gpu-nodes §14.5"
)
REMEDY_SETTLE_S: Final = _limit(
    "REMEDY_SETTLE_S",
    10.0,
    "s",
    "target: from an Xid to a drained node in 30 s; a look comes every 15",
)
REMEDY_ATTEMPTS: Final = _limit(
    "REMEDY_ATTEMPTS",
    2,
    "per rung, node and GPU in REMEDY_WINDOW_S",
    "gpud: two reboots without effect are a case for hands; NVSentinel#1543",
)
REMEDY_WINDOW_S: Final = _limit("REMEDY_WINDOW_S", 86_400.0, "s", "gpu-nodes §14.1: a day")
REMEDY_PER_DAY: Final = _limit(
    "REMEDY_PER_DAY",
    6,
    "resets, reloads, reboots and power cycles of a node in a day",
    "ours: two of three rungs; a node that took more is broken, whatever each of them did",
)
RETURNS_PER_DAY: Final = _limit(
    "RETURNS_PER_DAY",
    3,
    "times that a node is let back by itself",
    "ours: what is well without work and ill with it is for the bench",
)
DRAIN_LEFT_S: Final = _limit(
    "DRAIN_LEFT_S", 60.0, "s", "a cordon is one write: seen in the API server by then, or it failed"
)
DRAIN_DEADLINE_S: Final = _limit(
    "DRAIN_DEADLINE_S",
    7_200.0,
    "s",
    "gpu-nodes §14.10: a checkpoint and the longest pod grace; then a person decides",
)
DRAINED_GRACE_S: Final = _limit(
    "DRAINED_GRACE_S", 300.0, "s", "a fault that only work brings out shows itself gone by then"
)
RESET_GRACE_S: Final = _limit(
    "RESET_GRACE_S", 120.0, "s", "a reset takes seconds; eight looks tell whether it helped"
)
RELOAD_GRACE_S: Final = _limit(
    "RELOAD_GRACE_S", 300.0, "s", "driver, fabric manager and device plugin start one after another"
)
REBOOT_GRACE_S: Final = _limit(
    "REBOOT_GRACE_S", 1_200.0, "s", "a server with eight GPUs and 2 TiB takes 10 min to its login"
)
POWER_CYCLE_GRACE_S: Final = _limit(
    "POWER_CYCLE_GRACE_S", 1_800.0, "s", "as REBOOT_GRACE_S, memory training, and the cold off"
)
MAINTENANCE_GRACE_S: Final = _limit(
    "MAINTENANCE_GRACE_S", 900.0, "s", "ours: nodes that people worked on boot and settle first"
)
GATE_DEADLINE_S: Final = _limit(
    "GATE_DEADLINE_S",
    14_400.0,
    "s",
    "ours: longer than the longest diagnosis; a node that is not let back by then waits for a person",
)
FOREIGN_STUCK_S: Final = _limit(
    "FOREIGN_STUCK_S",
    14_400.0,
    "s",
    "gpu-operator#2509: upgrades stuck for weeks; after that a person is named, and nothing is taken over",
)
BREAKER_NODES: Final = _limit(
    "BREAKER_NODES", 3, "nodes of a domain", "two in an hour may be chance, three have a cause"
)
BREAKER_SHARE: Final = _limit(
    "BREAKER_SHARE", 0.1, "of a domain's nodes", "twice DOWN_SHARE_CLUSTER; NVSentinel has half"
)
BREAKER_WINDOW_S: Final = _limit("BREAKER_WINDOW_S", 3_600.0, "s", "ours: two reboots in a row")
BREAKER_COOLDOWN_S: Final = _limit(
    "BREAKER_COOLDOWN_S", 1_800.0, "s", "gpu-nodes §14.6: a reset by a person takes effect after it"
)
GPU_CORRELATED_FLOOR: Final = _limit(
    "GPU_CORRELATED_FLOOR", 3, "GPU nodes", "racks have four or eight, not the 20 of miners"
)
APPROVAL_MAX_S: Final = _limit(
    "APPROVAL_MAX_S",
    86_400.0,
    "s",
    "ours: who approves of more has looked, and looks again tomorrow",
)
BREAK_GLASS_MAX_S: Final = _limit("BREAK_GLASS_MAX_S", 14_400.0, "s", "ours: half a shift")
BREAK_GLASS_ONE_PERSON_W: Final = _limit(
    "BREAK_GLASS_ONE_PERSON_W", 1_000_000.0, "W", "gpu-nodes §14.11; some hundred nodes"
)
EMERGENCY_MAX_S: Final = _limit(
    "EMERGENCY_MAX_S", 3_600.0, "s", "ours: what lasts longer has people on site, who decide"
)
BOM_MEMORY_KEPT: Final = _limit(
    "BOM_MEMORY_KEPT",
    0.06,
    "of a node's memory",
    "firmware and kernel keep less; one of 16 modules that is missing is more",
)
LIFE_DECLARED_S: Final = _limit(
    "LIFE_DECLARED_S",
    90 * 86_400.0,
    "s",
    "ours: delivery and racking; then somebody asks where it is",
)
LIFE_DISCOVERED_S: Final = _limit(
    "LIFE_DISCOVERED_S", 86_400.0, "s", "ours: an inspection is a boot and a look"
)
LIFE_INSPECTING_S: Final = _limit(
    "LIFE_INSPECTING_S", 7_200.0, "s", "ours: two boots of a server that is slow to boot"
)
LIFE_BOM_MISMATCH_S: Final = _limit(
    "LIFE_BOM_MISMATCH_S",
    7 * 86_400.0,
    "s",
    "ours: a person orders a part, or declares what is there",
)
LIFE_PROVISIONING_S: Final = _limit(
    "LIFE_PROVISIONING_S",
    14_400.0,
    "s",
    "ours: an image, its packages and two reboots, with retries",
)
LIFE_JOINING_S: Final = _limit(
    "LIFE_JOINING_S",
    3_600.0,
    "s",
    "ours: a join takes minutes; a driver container that builds its module half an hour",
)
LIFE_VALIDATING_S: Final = _limit(
    "LIFE_VALIDATING_S", 172_800.0, "s", "ours: a burn-in of a day, and one more"
)
LIFE_DEGRADED_S: Final = _limit(
    "LIFE_DEGRADED_S", 86_400.0, "s", "ours: by then it is well, drained, or a person has it"
)
LIFE_DRAINING_S: Final = _limit(
    "LIFE_DRAINING_S",
    2 * 86_400.0,
    "s",
    "ours: DRAIN_DEADLINE_S, the whole ladder, and a night for a person",
)
LIFE_REPAIR_S: Final = _limit(
    "LIFE_REPAIR_S", 14 * 86_400.0, "s", "ours: a spare on site, or it becomes an RMA"
)
LIFE_RMA_S: Final = _limit("LIFE_RMA_S", 60 * 86_400.0, "s", "ours: the maker's turn-around")
LIFE_STEPS_KEPT: Final = _limit(
    "LIFE_STEPS_KEPT", 24, "steps", "ours: three faults with all that came of them, per node"
)
# --- GPU nodes ------------------------------------------------------------------------------------------
GPU_LOOK_S: Final = _limit(
    "GPU_LOOK_S", 5.0, "s", "target: from an Xid to a drained node within 30 s"
)
GPU_ANSWER_S: Final = _limit(
    "GPU_ANSWER_S",
    60.0,
    "wire s",
    "ours: opening eight GPUs without persistence takes tens of seconds; longer is hung",
)
GPU_GRANT_S: Final = _limit(
    "GPU_GRANT_S",
    3_600.0,
    "s",
    "ours: a controller that is away for half an hour ends no grant; after it nothing is raised",
)
GPU_SILENT_S: Final = _limit(
    "GPU_SILENT_S", 900.0, "s", "three reports (GPU_REPORT_S) that did not come"
)
GPU_REPORT_S: Final = _limit(
    "GPU_REPORT_S", 300.0, "s", "as often as a kubelet reports a node that did not change"
)
GPU_ATTENTION_S: Final = _limit(
    "GPU_ATTENTION_S",
    20.0,
    "s",
    "a third of GPU_EVIDENCE_TTL_S: where one report is lost, the one before still counts",
)
GPU_RAISES_BY_OTHERS: Final = _limit(
    "GPU_RAISES_BY_OTHERS", 3, "times", "ours: once is a person, three times is a program"
)
GPU_RAISES_WITHIN_S: Final = _limit("GPU_RAISES_WITHIN_S", 3_600.0, "s", "ours: of those three")
GPU_CAP_GRACE_S: Final = _limit(
    "GPU_CAP_GRACE_S",
    30.0,
    "s",
    "ours: a lowered grant is written at the next look, read at the one after",
)
GPU_FABRIC_GRACE_S: Final = _limit(
    "GPU_FABRIC_GRACE_S", 300.0, "s", "ours: the fabric manager registers GPUs after a boot"
)
GPU_THROTTLED_AFTER_S: Final = _limit(
    "GPU_THROTTLED_AFTER_S", 60.0, "s", "ours: a moment of heat is ordinary"
)
GPU_THROTTLED_FOR_S: Final = _limit(
    "GPU_THROTTLED_FOR_S", 300.0, "s", "ours: what comes and goes is one alert"
)
GPU_IDLE_MIB: Final = _limit(
    "GPU_IDLE_MIB",
    16,
    "MiB of GPU memory in use",
    "ours: with nobody on it 0 to 8 are seen, the least known context (an MPS server) holds 25",
)
GPU_UNREADABLE_GRACE_S: Final = _limit(
    "GPU_UNREADABLE_GRACE_S", 900.0, "s", "ours: longer than the operator's upgrade of a driver"
)
XIDS_COUNTED_MAX: Final = _limit(
    "XIDS_COUNTED_MAX",
    10,
    "of one kind on one GPU",
    "ours: and at most half as many on a neighbour",
)
XIDS_COUNTED_WITHIN_S: Final = _limit("XIDS_COUNTED_WITHIN_S", 86_400.0, "s", "ours: of those")
XIDS_REMEMBERED: Final = _limit("XIDS_REMEMBERED", 512, "events of a node", "ours: 40 KB")
XIDS_PER_LOOK: Final = _limit(
    "XIDS_PER_LOOK", 256, "events", "ours: a storm of them must not keep a look from ending"
)
GPU_ALERTS_SHOWN: Final = _limit(
    "GPU_ALERTS_SHOWN", 64, "alerts of a node", "the schema of GpuNode"
)
GPU_STALE_LIBRARY_S: Final = _limit(
    "GPU_STALE_LIBRARY_S",
    300.0,
    "s",
    "ours: so long the agent waits for its library before it starts anew",
)
BMC_REPLY_MAX_BYTES: Final = _limit(
    "BMC_REPLY_MAX_BYTES",
    2 * 1024 * 1024,
    "bytes",
    "gpu-nodes §11: a BIOS or an event log with all of its entries is a few hundred KiB",
)
BMC_REPLY_DEADLINE_S: Final = _limit(
    "BMC_REPLY_DEADLINE_S", 30.0, "wire s", "gpu-nodes §11: BMCs are slow; sushy waits 60 s"
)
BMC_CONNECT_DEADLINE_S: Final = _limit(
    "BMC_CONNECT_DEADLINE_S",
    10.0,
    "wire s",
    "a TLS handshake takes a BMC's core up to some seconds",
)
BMC_SESSION_IDLE_S: Final = _limit(
    "BMC_SESSION_IDLE_S",
    240.0,
    "wire s",
    "shortest idle time-out of a session in DSP8010 is 30 s, of makers' defaults 300 s",
)
BMC_TASK_EVERY_S: Final = _limit(
    "BMC_TASK_EVERY_S", 10.0, "policy s", "gpu-nodes §11: bursts hang BMCs; a flash takes minutes"
)
BMC_MEMBERS_MAX: Final = _limit(
    "BMC_MEMBERS_MAX",
    200,
    "members of a collection",
    "a GPU host lists some 60 firmwares and 150 sensors; what comes behind is not read",
)
BMC_LOG_MAX: Final = _limit("BMC_LOG_MAX", 50, "entries", "the newest; logs hold thousands")
GUARD_CAP: Final = _limit(
    "GUARD_CAP",
    0.99,
    "of a node's cap",
    "energy §5, after Dynamo (unverified): above it the guard sheds",
)
GUARD_TARGET: Final = _limit(
    "GUARD_TARGET", 0.95, "of a node's cap", "energy §5, after Dynamo (unverified): down to it"
)
GUARD_RELEASE: Final = _limit(
    "GUARD_RELEASE",
    0.90,
    "of a node's cap",
    "energy §5, after Dynamo (unverified): below it the engine may raise again",
)
GUARD_METER_STALE_S: Final = _limit(
    "GUARD_METER_STALE_S",
    15.0,
    "wire s",
    "ours: three readings of a slow meter (5 s); then machines are counted instead",
)
GUARD_TRIES: Final = _limit(
    "GUARD_TRIES",
    3,
    "times",
    "ours: a machine that does not obey is substituted after the first already",
)
GUARD_RETRY_S: Final = _limit(
    "GUARD_RETRY_S", 10.0, "wire s", "ours: what did not leave is told again"
)
GUARD_GIVEN_UP_S: Final = _limit(
    "GUARD_GIVEN_UP_S",
    300.0,
    "s",
    "ours: between two words to a machine that was given up, as long as its node is in need",
)
GUARD_PATIENCE: Final = _limit(
    "GUARD_PATIENCE",
    0.5,
    "of the time that a breaker bears",
    "ours: an order that shows later does not count, and more is shed at once",
)
METER_INTERVAL_MIN_S: Final = _limit(
    "METER_INTERVAL_MIN_S",
    0.5,
    "s",
    "meters measure anew each 0.2 to 1 s (Janitza: 200 ms); the guard looks each 1 to 5 s (energy §5)",
)
METER_INTERVAL_MAX_S: Final = _limit(
    "METER_INTERVAL_MAX_S",
    30.0,
    "s",
    "three of them are stale, and a breaker takes 40 % more for about a minute (energy §9)",
)
METER_SERIAL_READ_S: Final = _limit(
    "METER_SERIAL_READ_S",
    0.12,
    "wire s",
    "80 registers at 19,200 baud take 0.1 s, and the meter's own delay comes on top",
)
METER_STALE_INTERVALS: Final = _limit(
    "METER_STALE_INTERVALS", 3, "intervals", "ours: one lost answer is noise, three are silence"
)
METER_STUCK_INTERVALS: Final = _limit(
    "METER_STUCK_INTERVALS",
    5,
    "intervals",
    "ours: power, volts and an energy counter do not all stay the same by chance",
)
METER_JUMP_SHARE: Final = _limit(
    "METER_JUMP_SHARE",
    0.5,
    "of its range",
    "ours: machines ramp for minutes; what doubles in a second is confirmed first",
)
METER_DARK_SHARE: Final = _limit(
    "METER_DARK_SHARE", 0.2, "of the devices", "energy §7: above it the sum is not trusted"
)
METER_COMPARED_FROM_W: Final = _limit(
    "METER_COMPARED_FROM_W", 5_000.0, "W", "ours: below two machines a ratio says nothing"
)
METER_BIAS_MIN: Final = _limit("METER_BIAS_MIN", 0.9, "of the devices' sum", "energy §7")
METER_BIAS_MAX: Final = _limit("METER_BIAS_MAX", 1.15, "of the devices' sum", "energy §7")
METER_BIAS_TAU_S: Final = _limit(
    "METER_BIAS_TAU_S",
    600.0,
    "s",
    "ours: slower than a ramp of machines (5 to 10 min), faster than a day's temperature",
)
METER_BIAS_STEP_S: Final = _limit(
    "METER_BIAS_STEP_S", 60.0, "s", "ours: a reading behind a gap weighs no more than a minute"
)
METER_BIAS_SETTLED_S: Final = _limit(
    "METER_BIAS_SETTLED_S", 300.0, "s", "ours: half a time constant, before anybody is called"
)
METER_CONNECT_DEADLINE_S: Final = _limit(
    "METER_CONNECT_DEADLINE_S", 2.0, "wire s", "a gateway of the same site accepts at once"
)
METER_REPLY_DEADLINE_S: Final = _limit(
    "METER_REPLY_DEADLINE_S",
    2.0,
    "wire s",
    "gateways give a meter on their serial line about 1 s, and then say 0x0B",
)
METER_BACKOFF_MIN_S: Final = _limit(
    "METER_BACKOFF_MIN_S", 1.0, "wire s", "a gateway restarts within seconds; it doubles each time"
)
METER_BACKOFF_MAX_S: Final = _limit(
    "METER_BACKOFF_MAX_S",
    15.0,
    "wire s",
    "ours: who comes back is seen within a quarter of a minute",
)
METER_SILENT_IN_ROW: Final = _limit(
    "METER_SILENT_IN_ROW",
    3,
    "requests",
    "ours: a gateway that left so many unanswered is silent itself, whichever meter was asked",
)
GUARD_LOOK_S: Final = _limit(
    "GUARD_LOOK_S", 2.0, "wire s", "energy §5: the guard looks each 1 to 5 s"
)
GUARD_CONCURRENCY: Final = _limit(
    "GUARD_CONCURRENCY",
    1_000,
    "writes",
    "energy §5: so many in flight per 50 MW, or a shed takes a minute",
)
GUARD_LOCK_S: Final = _limit(
    "GUARD_LOCK_S",
    14_400.0,
    "s",
    "ours: longer than any install; a guard that hears nothing more may lower the machine after that",
)
