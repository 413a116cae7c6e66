"""What an agent told, read back: the gate and the ladder see what the agent saw, and no fault is lost."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.agent.report import Turn, status_of
from control_plane.api.conditions import moment
from control_plane.api.objects import AlertPart, Condition, GpuNodeStatus
from control_plane.core import limits
from control_plane.core.gpu import (
    Alert,
    AlertKind,
    GpuSeen,
    GpuSettings,
    NodeSeen,
    RowRemap,
    Rung,
    Trouble,
)
from control_plane.core.gpu_gate import AtGate, Depth, Wants, at_gate
from control_plane.core.moments import moment_text
from control_plane.core.remedy_case import Action, NodeCase, Source, Stay
from control_plane.core.remedy_ladder import acute
from control_plane.kube.gpu_projection import HEALTHY, READABLE
from control_plane.kube.gpu_reported import alerts_of, evidence_of, seen_of
from tests.core import remedies
from tests.core.gpus import a_gpu, a_node
from tests.core.remedies import BOOKS

NOW_S = 1_800_000_000.0


def on_the_server(turn: Turn, now_s: float = NOW_S) -> GpuNodeStatus:
    """What the agent sends, as the API server keeps it."""
    sent = {**status_of(turn, {}, generation=1, now_s=now_s), "reportedAt": moment_text(now_s)}
    return msgspec.json.decode(msgspec.json.encode(sent), type=GpuNodeStatus)


def a_status(**fields: Any) -> GpuNodeStatus:
    said = {"conditions": (said_of(READABLE, "True"), said_of(HEALTHY, "True"))}
    return GpuNodeStatus(**{**said, "reported_at": moment(NOW_S), **fields})


def said_of(kind: str, status: Any, reason: str = "Said") -> Condition:
    return Condition(
        type=kind, status=status, reason=reason, observed_generation=1,
        last_transition_time=moment(NOW_S),
    )  # fmt: skip


# -- there and back -------------------------------------------------------------------------------------

watts = st.none() | st.floats(0, 1_500)
rows = st.none() | st.builds(
    RowRemap, corrected=st.integers(0, 9), uncorrected=st.integers(0, 9), pending=st.booleans(),
    failed=st.booleans(),
)  # fmt: skip
fabrics = st.none() | st.sampled_from(["completed", "in_progress", "degraded", "failed_999"])
gpus = st.builds(
    GpuSeen, index=st.integers(0, 15), pci=st.none() | st.just("00000000:0F:00.0"),
    uuid=st.none() | st.just("GPU-1"), serial=st.none() | st.just("1650"),
    name=st.none() | st.just("NVIDIA H200"), lost=st.booleans(), enforced_limit_w=watts,
    min_limit_w=watts, max_limit_w=watts, settings=st.builds(GpuSettings, power_limit_w=watts),
    remap=rows, fabric=fabrics, processes=st.none() | st.integers(0, 3), refused=st.booleans(),
    memory_used_mib=st.none() | st.sampled_from([0, 15, 16, 900]),
)  # fmt: skip
times = st.integers(1_700_000_000, 1_800_000_000).map(float)
looks = st.builds(
    NodeSeen, at_s=st.just(NOW_S), driver=st.none() | st.just("595.91.07"),
    gpus=st.lists(gpus, max_size=8).map(tuple),
) | st.builds(NodeSeen, at_s=st.just(NOW_S), trouble=st.sampled_from(Trouble))  # fmt: skip
alerts = st.lists(
    st.builds(
        Alert, kind=st.sampled_from([kind for kind in AlertKind if kind is not AlertKind.UNKNOWN]),
        rung=st.sampled_from(Rung), since_s=times, gpu=st.none() | st.just("00000000:0F:00.0"),
        xid=st.none() | st.integers(0, 200), detail=st.text(max_size=40), asks=st.booleans(),
        final=st.booleans(),
    ),
    max_size=8,
).map(tuple)  # fmt: skip
wants = st.builds(
    Wants, gpus=st.integers(0, 8), driver=st.just("595.91.07"), cap_w=watts, fabric=st.booleans(),
    partitioned=st.booleans(), depth=st.just(Depth.NONE),
)  # fmt: skip


@given(look=looks, asked=wants)
def test_the_gate_says_the_same_of_a_look_and_of_what_was_told_of_it(
    look: NodeSeen, asked: Wants
) -> None:
    told = seen_of(on_the_server(Turn(seen=look)))
    here, there = (
        at_gate(wants=asked, found=AtGate(seen=s, allocatable=8, since_s=0.0), now_s=NOW_S + 5)
        for s in (look, told)
    )
    assert here == there


@given(look=looks, found=alerts)
def test_the_ladder_has_the_same_alerts(look: NodeSeen, found: tuple[Alert, ...]) -> None:
    read = alerts_of(on_the_server(Turn(seen=look, alerts=found)))
    assert sorted(map(repr, read)) == sorted(map(repr, found))


@given(look=looks, found=alerts)
def test_it_bears_witness_to_what_it_saw_and_to_nothing_else(
    look: NodeSeen, found: tuple[Alert, ...]
) -> None:
    evidence = evidence_of(on_the_server(Turn(seen=look, alerts=found)))
    assert evidence is not None
    assert (evidence.source, evidence.at_s) == (Source.AGENT, NOW_S)
    answering = [gpu for gpu in look.gpus if not gpu.lost or gpu.refused]
    if evidence.drained is True:
        assert answering
        assert not any(gpu.processes for gpu in answering)
        assert all((gpu.memory_used_mib or 0) < limits.GPU_IDLE_MIB for gpu in answering)
        assert all((gpu.memory_used_mib, gpu.processes) != (None, None) for gpu in answering)
    assert (evidence.drained is False) == any(gpu.processes for gpu in answering)
    assert evidence.well is (look.trouble is None and not found)


def test_times_are_kept_to_the_second_and_never_later() -> None:
    alert = Alert(kind=AlertKind.XID, rung=Rung.REBOOT, since_s=NOW_S - 5.3, xid=79)
    status = on_the_server(Turn(seen=a_node(NOW_S + 0.9), alerts=(alert,)), NOW_S + 0.9)
    evidence, seen = evidence_of(status), seen_of(status)
    assert evidence is not None
    assert seen is not None
    assert (evidence.at_s, seen.at_s) == (NOW_S, NOW_S)
    assert [one.since_s for one in alerts_of(status)] == [NOW_S - 6]


# -- what was not told ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status",
    [
        GpuNodeStatus(),
        # The controller's own part of an object that no agent has written to.
        GpuNodeStatus(conditions=(said_of("Ready", "Unknown"),)),
    ],
)
def test_of_a_node_without_an_agent_nothing_is_known(status: GpuNodeStatus) -> None:
    assert (seen_of(status), alerts_of(status), evidence_of(status)) == (None, (), None)


@pytest.mark.parametrize(
    ("readable", "healthy", "well"),
    [
        ("True", "True", True),
        ("True", "False", False),
        ("False", "Unknown", False),
        ("False", "True", False),
        ("Unknown", "False", False),
        ("True", "Unknown", None),
        ("Unknown", "True", None),
        ("True", None, None),
        (None, "True", None),
        (None, None, None),
    ],
)
def test_it_is_well_only_where_both_say_so(
    readable: str | None, healthy: str | None, *, well: bool | None
) -> None:
    pairs = ((READABLE, readable), (HEALTHY, healthy))
    conditions = tuple(said_of(kind, truth) for kind, truth in pairs if truth is not None)
    evidence = evidence_of(a_status(conditions=conditions))
    assert evidence is not None
    assert evidence.well is well


def test_nobody_looked_where_nobody_says_that_it_could_be_read() -> None:
    assert seen_of(a_status(conditions=(said_of(READABLE, "Unknown"),))) is None
    assert seen_of(a_status(conditions=())) is None


def test_a_trouble_of_a_newer_agent_is_one() -> None:
    status = a_status(conditions=(said_of(READABLE, "False", "OnFire"),))
    assert seen_of(status) == NodeSeen(at_s=NOW_S, trouble=Trouble.BROKEN)


@pytest.mark.parametrize(
    ("processes", "drained"), [(None, None), (0, True), (1, False), (40, False)]
)
def test_drained_is_no_process_and_unknown_is_unknown(
    processes: int | None, *, drained: bool | None
) -> None:
    evidence = evidence_of(a_status(processes=processes))
    assert evidence is not None
    assert evidence.drained is drained


def test_rows_that_nobody_read_stay_unread() -> None:
    seen = seen_of(on_the_server(Turn(seen=a_node(NOW_S, a_gpu(0, remap=None, fabric=None)))))
    assert seen is not None
    assert (seen.gpus[0].remap, seen.gpus[0].fabric) == (None, None)


# -- a newer agent --------------------------------------------------------------------------------------


def part(**fields: Any) -> AlertPart:
    return AlertPart(**{
        "kind": "melted", "rung": "reboot", "since": dt.datetime.fromtimestamp(NOW_S, dt.UTC),
        "gpu": "00000000:0F:00.0", "detail": "its lid is gone", **fields,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("told", "kind", "rung"),
    [
        ({}, AlertKind.UNKNOWN, Rung.DRAIN),
        ({"rung": "cool_down"}, AlertKind.UNKNOWN, Rung.DRAIN),
        ({"final": True}, AlertKind.UNKNOWN, Rung.DRAIN),
        ({"rung": "observe"}, AlertKind.UNKNOWN, Rung.OBSERVE),
        ({"rung": "observe", "final": True}, AlertKind.UNKNOWN, Rung.DRAIN),
        ({"kind": "thermal", "rung": "cool_down"}, AlertKind.THERMAL, Rung.DRAIN),
        ({"kind": "unknown", "rung": "repair"}, AlertKind.UNKNOWN, Rung.DRAIN),
    ],
)
def test_what_only_a_newer_agent_knows_asks_a_person(
    told: dict[str, Any], kind: AlertKind, rung: Rung
) -> None:
    given = part(**told)
    (alert,) = alerts_of(a_status(alerts=(given,)))
    assert (alert.kind, alert.rung, alert.asks, alert.final) == (kind, rung, True, False)
    assert (alert.gpu, alert.since_s) == (given.gpu, NOW_S)
    for word in (given.kind, given.rung, given.detail):
        assert word in alert.detail


def test_beside_one_that_is_known_neither_is_lost() -> None:
    known = part(kind="gpu_lost", asks=False)
    found = alerts_of(a_status(alerts=(part(), known, part(kind="frozen"))))
    assert [alert.kind for alert in found] == [
        AlertKind.UNKNOWN, AlertKind.GPU_LOST, AlertKind.UNKNOWN,
    ]  # fmt: skip
    case = NodeCase(node="n", now_s=NOW_S, books=BOOKS, alerts=found)
    assert len(acute(case)) == 3


@pytest.mark.parametrize("final", [False, True])
def test_it_goes_no_further_than_the_drain_without_a_person(*, final: bool) -> None:
    since = dt.datetime.fromtimestamp(remedies.NOW_S - 80_000, dt.UTC)
    (alert,) = alerts_of(a_status(alerts=(part(since=since, rung="repair", final=final),)))
    assert remedies.action_of(remedies.case(alerts=(alert,))) is Action.DRAIN
    assert remedies.stay_of(remedies.drained(alerts=(alert,))) is Stay.ASKS
