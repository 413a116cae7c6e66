"""Looks in, alerts out: what each fault calls for, since when, and when it is over."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core import limits
from control_plane.core.gpu import (
    Alert,
    AlertKind,
    NodeSeen,
    RecoveryAction,
    RowRemap,
    Rung,
    Trouble,
    XidEvent,
)
from control_plane.core.gpu_health import Expected, HealthMemory, alerts_of, judged
from tests.core.gpus import a_gpu, a_node, pci

WELL = Expected(gpus=8, cap_w=700)
T = 1_000.0


def short(alerts: tuple[Alert, ...]) -> list[tuple[AlertKind, Rung, str | None, bool]]:
    return [(a.kind, a.rung, a.gpu, a.asks) for a in alerts]


def after(
    *looks: NodeSeen, expected: Expected = WELL, memory: HealthMemory | None = None
) -> HealthMemory:
    memory = memory or HealthMemory()
    for seen in looks:
        memory = judged(seen, memory, expected)
    return memory


def one_bad(at_s: float = T, **more: Any) -> NodeSeen:
    return a_node(at_s, a_gpu(0, **more), *map(a_gpu, range(1, 8)))


def xids(at_s: float, *events: tuple[int, int], **more: Any) -> NodeSeen:
    told = tuple(XidEvent(at_s=at_s, xid=xid, gpu=pci(gpu)) for gpu, xid in events)
    return a_node(at_s, xids=told, **more)


def test_a_well_node_has_no_alerts() -> None:
    assert alerts_of(a_node(T), HealthMemory(), WELL) == ()


REMAPPED = {"corrected": 0, "uncorrected": 1}


@pytest.mark.parametrize(
    ("more", "kind", "rung", "asks"),
    [
        ({"lost": True}, AlertKind.GPU_LOST, Rung.REBOOT, False),
        ({"recovery": RecoveryAction.RESET}, AlertKind.RECOVERY_ACTION, Rung.RESET_GPU, False),
        ({"recovery": RecoveryAction.REBOOT}, AlertKind.RECOVERY_ACTION, Rung.REBOOT, False),
        ({"recovery": RecoveryAction.DRAIN_P2P}, AlertKind.RECOVERY_ACTION, Rung.DRAIN, False),
        (
            {"recovery": RecoveryAction.DRAIN_AND_RESET},
            AlertKind.RECOVERY_ACTION,
            Rung.RESET_GPU,
            False,
        ),
        ({"recovery": RecoveryAction.UNKNOWN}, AlertKind.RECOVERY_ACTION, Rung.DRAIN, True),
        (
            {"remap": RowRemap(pending=True, failed=False, **REMAPPED)},
            AlertKind.REMAP_PENDING,
            Rung.RESET_GPU,
            False,
        ),
        (
            {"remap": RowRemap(pending=False, failed=True, **REMAPPED)},
            AlertKind.REMAP_FAILED,
            Rung.REPAIR,
            False,
        ),
        ({"ecc_uncorrected": 2}, AlertKind.ECC_UNCORRECTED, Rung.OBSERVE, False),
        ({"links_down": (3, 17)}, AlertKind.LINK_DOWN, Rung.RESET_GPU, True),
    ],
)
def test_what_is_read_is_an_alert_while_it_is_so(
    more: dict[str, Any], kind: AlertKind, rung: Rung, asks: bool
) -> None:
    bad = after(one_bad(**more))
    assert short(bad.alerts) == [(kind, rung, pci(0), asks)]
    assert bad.alerts[0].final == (kind is AlertKind.REMAP_FAILED)
    later = after(one_bad(T + 5, **more), memory=bad)
    assert later.alerts == bad.alerts, "the beginning stays"
    assert after(a_node(T + 10), memory=later).alerts == ()


@pytest.mark.parametrize(
    "unread",
    [
        {"recovery": None},
        {"remap": None},
        {"links_down": None},
        {"fabric": None},
        {"throttled_by": None},
        {"ecc_uncorrected": None},
        {"enforced_limit_w": None},
    ],
)
def test_what_could_not_be_read_is_neither_well_nor_wrong(unread: dict[str, Any]) -> None:
    assert after(one_bad(**unread)).alerts == ()


def test_fewer_gpus_than_declared() -> None:
    seven = a_node(T, *map(a_gpu, range(7)))
    assert short(after(seven).alerts) == [(AlertKind.GPU_MISSING, Rung.REBOOT, None, False)]
    assert after(seven, expected=Expected()).alerts == ()


# -- what takes a while -------------------------------------------------------------------------------------


def test_a_moment_of_heat_is_no_alert_and_a_minute_of_it_is_one() -> None:
    hot = frozenset({"sw_thermal"})
    memory = after(one_bad(T, throttled_by=hot), one_bad(T + 30, throttled_by=hot))
    assert memory.alerts == ()
    memory = after(one_bad(T + limits.GPU_THROTTLED_AFTER_S, throttled_by=hot), memory=memory)
    assert short(memory.alerts) == [(AlertKind.THERMAL, Rung.OBSERVE, pci(0), False)]
    assert memory.alerts[0].since_s == T


def test_heat_that_comes_and_goes_is_one_alert() -> None:
    hot = frozenset({"hw_thermal"})
    memory = HealthMemory()
    seen: list[int] = []
    for n in range(60):
        reasons = hot if n % 4 == 0 else frozenset[str]()
        memory = after(one_bad(T + 15 * n, throttled_by=reasons), memory=memory)
        seen.append(len(memory.alerts))
    assert seen == [0] * 4 + [1] * 56
    cooled = after(a_node(T + 15 * 59 + limits.GPU_THROTTLED_FOR_S), memory=memory)
    assert cooled.alerts == ()


def test_the_power_brake_is_not_taken_for_heat() -> None:
    braked = frozenset({"hw_slowdown", "power_brake"})
    memory = after(*(one_bad(T + 10 * n, throttled_by=braked) for n in range(8)))
    assert short(memory.alerts) == [(AlertKind.POWER_BRAKE, Rung.OBSERVE, pci(0), False)]


def test_a_fabric_registers_for_a_while_after_a_boot() -> None:
    looks = [one_bad(T + 60 * n, fabric="in_progress") for n in range(7)]
    assert after(*looks[:5]).alerts == ()
    memory = after(*looks)
    assert short(memory.alerts) == [(AlertKind.FABRIC, Rung.RELOAD_DRIVER, pci(0), True)]


def test_a_cap_that_is_not_enforced_is_an_alert_once_there_was_time_to_write_it() -> None:
    lower = Expected(gpus=8, cap_w=500)
    looks = [one_bad(T + 10 * n, limit_w=700.0) for n in range(5)]
    capped = [
        a_node(look.at_s, look.gpus[0], *(a_gpu(n, limit_w=500.0) for n in range(1, 8)))
        for look in looks
    ]
    assert after(*capped[:3], expected=lower).alerts == ()
    memory = after(*capped, expected=lower)
    assert short(memory.alerts) == [(AlertKind.CAP_NOT_ENFORCED, Rung.OBSERVE, pci(0), True)]


# -- a node that cannot be read ------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", list(Trouble))
def test_an_unreadable_node_is_only_watched_while_its_driver_may_be_upgraded(
    trouble: Trouble,
) -> None:
    memory = after(NodeSeen(at_s=T, trouble=trouble))
    assert short(memory.alerts) == [(AlertKind.UNREADABLE, Rung.OBSERVE, None, False)]
    late = NodeSeen(at_s=T + limits.GPU_UNREADABLE_GRACE_S, trouble=trouble)
    memory = after(late, memory=memory)
    assert memory.alerts[0].rung > Rung.OBSERVE
    assert (memory.alerts[0].since_s, memory.alerts[0].detail) == (T, trouble.value)
    assert after(a_node(T + 2_000), memory=memory).alerts == ()


def test_nothing_is_well_because_it_could_not_be_read() -> None:
    memory = after(one_bad(T, recovery=RecoveryAction.RESET), xids(T + 5, (1, 79)))
    memory = after(one_bad(T + 6, recovery=RecoveryAction.RESET), memory=memory)
    blind = after(NodeSeen(at_s=T + 10, trouble=Trouble.BROKEN), memory=memory)
    assert {a.kind for a in blind.alerts} == {
        AlertKind.RECOVERY_ACTION, AlertKind.XID, AlertKind.UNREADABLE,
    }  # fmt: skip


# -- Xids -----------------------------------------------------------------------------------------------


def test_an_xid_stays_until_the_gpu_was_reset() -> None:
    memory = after(xids(T, (2, 79)))
    assert [(a.xid, a.gpu, a.rung) for a in memory.alerts] == [(79, pci(2), Rung.REBOOT)]
    memory = after(a_node(T + 5), a_node(T + 500), memory=memory)
    assert [a.xid for a in memory.alerts] == [79]
    others = [a_gpu(n, energy_j=2_000.0) for n in range(8)]
    fallen = [a_gpu(n, energy_j=5.0 if n == 2 else 2_000.0) for n in range(8)]
    memory = after(a_node(T + 600, *others), a_node(T + 605, *fallen), memory=memory)
    assert memory.alerts == ()


def test_an_xid_is_over_with_the_boot_that_told_of_it() -> None:
    memory = judged(xids(T, (2, 79)), HealthMemory(), WELL, boot="one")
    assert judged(a_node(T + 5), memory, WELL, boot="one").alerts == memory.alerts
    assert judged(a_node(T + 5), memory, WELL, boot="two").alerts == ()


def test_an_xid_that_comes_again_keeps_its_beginning() -> None:
    memory = after(xids(T, (2, 95)), xids(T + 60, (2, 95)))
    assert [(a.xid, a.since_s) for a in memory.alerts] == [(95, T)]


def test_xids_of_a_gpu_are_told_apart() -> None:
    memory = after(xids(T, (2, 95)), xids(T + 60, (2, 48)))
    assert [(a.xid, a.since_s) for a in memory.alerts] == [(48, T + 60), (95, T)]


@pytest.mark.parametrize("xid", [13, 31, 43, 45, 63, 94, 154, 171])
def test_an_applications_error_alone_is_no_alert(xid: int) -> None:
    assert after(xids(T, (2, xid), (2, xid))).alerts == ()


def test_an_unknown_xid_asks_a_person() -> None:
    memory = after(xids(T, (2, 999)))
    assert short(memory.alerts) == [(AlertKind.XID, Rung.OBSERVE, pci(2), True)]


def test_a_changed_recovery_action_that_cannot_be_read_asks() -> None:
    gpus = [a_gpu(n, recovery=None) for n in range(8)]
    told = (XidEvent(at_s=T, xid=154, gpu=pci(3)),)
    memory = after(a_node(T, *gpus, xids=told))
    assert short(memory.alerts) == [(AlertKind.XID, Rung.DRAIN, pci(3), True)]


def test_many_application_errors_on_one_gpu_alone_ask() -> None:
    looks = [xids(T + n, (2, 31)) for n in range(limits.XIDS_COUNTED_MAX)]
    assert after(*looks[:-1]).alerts == ()
    assert short(after(*looks).alerts) == [(AlertKind.XID, Rung.OBSERVE, pci(2), True)]


def test_many_application_errors_on_all_gpus_are_the_applications() -> None:
    looks = [xids(T + n, *((gpu, 31) for gpu in range(8))) for n in range(30)]
    assert after(*looks).alerts == ()


def test_few_a_day_are_not_many() -> None:
    step_s = limits.XIDS_COUNTED_WITHIN_S / (limits.XIDS_COUNTED_MAX - 1)
    assert after(*(xids(T + step_s * n, (2, 31)) for n in range(50))).alerts == ()


# -- properties ----------------------------------------------------------------------------------------------

events = st.tuples(st.integers(0, 7), st.integers(0, 200))
nodes = st.builds(
    lambda trouble, told, broken, energy_j: (trouble, told, broken, energy_j),
    st.none() | st.sampled_from(list(Trouble)),
    st.lists(events, max_size=6),
    st.sampled_from(
        [
            {},
            {"lost": True},
            {"recovery": RecoveryAction.RESET},
            {"throttled_by": frozenset({"power_brake"})},
        ]
    ),
    st.floats(min_value=0, max_value=1e6),
)


@given(st.lists(nodes, max_size=12))
def test_each_alert_is_there_once_with_a_beginning_in_the_past(
    story: list[tuple[Trouble | None, list[tuple[int, int]], dict[str, Any], float]],
) -> None:
    memory = HealthMemory()
    for n, (trouble, told, broken, energy_j) in enumerate(story):
        at_s = T + 40 * n
        if trouble is not None:
            seen = NodeSeen(at_s=at_s, trouble=trouble)
        else:
            gpus = [a_gpu(0, **broken, energy_j=energy_j), *map(a_gpu, range(1, 8))]
            events = tuple(XidEvent(at_s=at_s, xid=x, gpu=pci(g)) for g, x in told)
            seen = a_node(at_s, *gpus, xids=events)
        memory = judged(seen, memory, WELL)
        keys = [(a.kind, a.gpu, a.xid) for a in memory.alerts]
        assert len(set(keys)) == len(keys)
        assert all(a.since_s <= at_s for a in memory.alerts)
        assert (trouble is not None) == any(a.kind is AlertKind.UNREADABLE for a in memory.alerts)
        assert len(memory.counted) <= limits.XIDS_REMEMBERED
        again = judged(msgless(seen), memory, WELL)
        assert again.alerts == memory.alerts, "a look that tells nothing new changes nothing"


def msgless(seen: NodeSeen) -> NodeSeen:
    return NodeSeen(at_s=seen.at_s, driver=seen.driver, gpus=seen.gpus, trouble=seen.trouble)


def test_an_xid_that_only_asks_for_a_look_is_forgotten_after_a_day() -> None:
    memory = after(xids(T, (2, 999), (3, 95)))
    assert [a.xid for a in memory.alerts] == [999, 95]
    memory = after(a_node(T + limits.XIDS_COUNTED_WITHIN_S), memory=memory)
    assert [a.xid for a in memory.alerts] == [95]
