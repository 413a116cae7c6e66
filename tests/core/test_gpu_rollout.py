"""Waves over GPU nodes: who goes, how many at once, and what stops them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.core import limits
from control_plane.core.domain_budget import (
    Books,
    Cause,
    Domain,
    DomainKind,
    books_of,
    given_back,
    taken,
)
from control_plane.core.gpu_rollout import (
    SoftwareRollout,
    SoftwareState,
    Stand,
    Standing,
    Turn,
    begun,
    continued,
    spread,
    turn,
    wave_ends,
)
from control_plane.core.gpu_software import Want

WANT = Want(driver="610.57.04")
SHARE = 0.1


def hall(racks: int, nodes: int) -> dict[str, str]:
    """Node → rack."""
    return {f"r{r}-n{n}": f"r{r}" for r in range(racks) for n in range(nodes)}


def books(racks: Mapping[str, str]) -> Books:
    names = sorted(set(racks.values()))
    of = [
        Domain(
            id=f"rack/{rack}", kind=DomainKind.RACK,
            members=frozenset(node for node, where in racks.items() if where == rack),
        )
        for rack in names
    ]  # fmt: skip
    whole = Domain(id="cluster/c", kind=DomainKind.CLUSTER, members=frozenset(racks))
    return books_of([*of, whole])


def all_of(racks: Mapping[str, str], stand: Stand = Stand.BEHIND) -> dict[str, Standing]:
    return {node: Standing(stand=stand) for node in racks}


def asked(
    rollout: SoftwareRollout,
    stands: Mapping[str, Standing],
    racks: Mapping[str, str],
    *,
    at: Books | None = None,
    now_s: float = 0.0,
) -> Turn:
    return turn(
        rollout, stands, books=books(racks) if at is None else at, racks=racks,
        max_failure_share=SHARE, now_s=now_s,
    )  # fmt: skip


RACKS = hall(4, 10)


def fresh() -> SoftwareRollout:
    return begun("p", WANT, all_of(RACKS), now_s=0.0)


def after(
    turned: Turn, stands: Mapping[str, Standing], stand: Stand, detail: str = ""
) -> dict[str, Standing]:
    """The same, with those that were let go come to that."""
    return {
        **stands,
        **{n: Standing(stand=stand, treated=True, detail=detail) for n in turned.begin},
    }


@pytest.mark.parametrize(
    ("subjects", "ends"),
    [
        (0, ()),
        (1, (1,)),
        (2, (1, 2)),
        (8, (1, 3, 7, 8)),
        (512, (1, 3, 7, 15, 31, 63, 127, 255, 511, 512)),
    ],
)
def test_waves_double(subjects: int, ends: tuple[int, ...]) -> None:
    assert wave_ends(subjects) == ends


def test_one_goes_first_and_nobody_else_until_it_has_soaked() -> None:
    stands = all_of(RACKS)
    first = asked(fresh(), stands, RACKS)
    assert len(first.begin) == 1
    assert "full" in next(iter(first.waits.values()))
    stands = after(first, stands, Stand.GOING)
    assert asked(first.rollout, stands, RACKS).begin == ()
    stands = after(first, stands, Stand.DONE)
    soaks = asked(first.rollout, stands, RACKS, now_s=10.0)
    assert (soaks.rollout.state, soaks.begin) == (SoftwareState.SOAKING, ())
    early = asked(soaks.rollout, stands, RACKS, now_s=9.0 + limits.GPU_SOFTWARE_SOAK_S)
    assert early.rollout == soaks.rollout
    passed = asked(soaks.rollout, stands, RACKS, now_s=10.0 + limits.GPU_SOFTWARE_SOAK_S)
    assert (passed.rollout.state, passed.rollout.wave) == (SoftwareState.RUNNING, 1)
    second = asked(passed.rollout, stands, RACKS, now_s=1_000.0)
    assert 1 <= len(second.begin) <= 2


def test_a_node_that_ran_it_before_is_no_evidence() -> None:
    stands = {**all_of(RACKS), "r0-n0": Standing(stand=Stand.DONE)}
    rollout = begun("p", WANT, stands, now_s=0.0)
    assert rollout.waves[-1] == len(RACKS) - 1
    assert len(asked(rollout, stands, RACKS).begin) == 1


def test_where_everybody_runs_it_there_is_nothing_to_do() -> None:
    stands = all_of(RACKS, Stand.DONE)
    rollout = begun("p", WANT, stands, now_s=0.0)
    assert rollout.state is SoftwareState.DONE
    assert asked(rollout, stands, RACKS) == Turn(rollout=rollout)


def test_who_comes_late_goes_at_once() -> None:
    stands = {**all_of(RACKS, Stand.DONE), "r0-n0": Standing(stand=Stand.BEHIND)}
    rollout = msgspec.structs.replace(
        fresh(), state=SoftwareState.DONE, wave=len(wave_ends(len(RACKS))) - 1
    )
    assert asked(rollout, stands, RACKS).begin == ("r0-n0",)


def test_one_that_is_silent_for_a_while_opens_no_finished_rollout_again() -> None:
    stands = {**all_of(RACKS, Stand.DONE), "r0-n0": Standing(stand=Stand.UNKNOWN)}
    rollout = msgspec.structs.replace(
        fresh(), state=SoftwareState.DONE, wave=len(wave_ends(len(RACKS))) - 1
    )
    assert asked(rollout, stands, RACKS).rollout == rollout


@pytest.mark.parametrize("stand", [Stand.BARRED, Stand.UNKNOWN, Stand.UNASKED])
def test_who_cannot_go_is_passed_by_and_named(stand: Stand) -> None:
    first = spread(fresh().id, RACKS)[0]
    stands = {**all_of(RACKS), first: Standing(stand=stand, detail="held by ann")}
    found = asked(fresh(), stands, RACKS)
    assert len(found.begin) == 1
    assert first not in found.begin
    assert f"{first}: held by ann" in found.rollout.detail
    nobody = all_of(RACKS, stand)
    waits = asked(fresh(), nobody, RACKS)
    assert (waits.begin, waits.rollout.state) == ((), SoftwareState.RUNNING)


def test_one_that_fails_halts_it_and_only_a_person_lets_it_go_on() -> None:
    stands = all_of(RACKS)
    first = asked(fresh(), stands, RACKS)
    bad = after(first, stands, Stand.FAILED, "the operator gave up")
    halted = asked(first.rollout, bad, RACKS, now_s=5.0)
    assert (halted.rollout.state, halted.begin) == (SoftwareState.HALTED, ())
    assert "the operator gave up" in halted.rollout.detail
    well = after(first, stands, Stand.DONE)
    still = asked(halted.rollout, well, RACKS, now_s=50_000.0)
    assert still.rollout.state is SoftwareState.HALTED, "that it got well by itself lifts nothing"
    going_on = continued(halted.rollout, by="ann", now_s=60.0)
    again = asked(going_on, bad, RACKS, now_s=61.0)
    assert again.rollout.state is SoftwareState.RUNNING
    assert again.again == first.begin, "its marks go, and it may try again"
    assert asked(going_on, well, RACKS, now_s=61.0).rollout.state is SoftwareState.SOAKING


def test_a_few_of_many_may_fail() -> None:
    stands = all_of(RACKS)
    treated = list(RACKS)[:20]
    stands |= {n: Standing(stand=Stand.DONE, treated=True) for n in treated}
    stands[treated[0]] = Standing(stand=Stand.FAILED, treated=True)
    rollout = msgspec.structs.replace(fresh(), wave=5)
    found = asked(rollout, stands, RACKS)
    assert found.rollout.state is SoftwareState.RUNNING
    assert found.rollout.failed == (treated[0],)
    stands |= {n: Standing(stand=Stand.FAILED, treated=True) for n in treated[:3]}
    assert asked(found.rollout, stands, RACKS).rollout.state is SoftwareState.HALTED


def test_a_wave_whose_nodes_fall_ill_does_not_pass_its_gate() -> None:
    stands = all_of(RACKS)
    first = asked(fresh(), stands, RACKS)
    done = after(first, stands, Stand.DONE)
    soaks = asked(first.rollout, done, RACKS)
    ill = after(first, stands, Stand.ILL)
    judged = asked(soaks.rollout, ill, RACKS, now_s=2 * limits.GPU_SOFTWARE_SOAK_S)
    assert judged.rollout.state is SoftwareState.HALTED
    assert [gate.passed for gate in judged.rollout.gates] == [False]
    later = asked(judged.rollout, done, RACKS, now_s=9 * limits.GPU_SOFTWARE_SOAK_S)
    assert later.rollout == judged.rollout, "it is well again, and a person says that it goes on"
    going_on = continued(later.rollout, by="ann", now_s=0.0)
    assert asked(going_on, done, RACKS).rollout.state is SoftwareState.SOAKING


def test_a_budget_that_somebody_else_has_spent_is_waited_for() -> None:
    out = taken(books=books(RACKS), node="r0-n0", cause=Cause.FAULT)
    out = taken(books=out, node="r1-n0", cause=Cause.REMEDIATION)
    ill = {name: Standing(stand=Stand.BARRED, detail="ill") for name in ("r0-n0", "r1-n0")}
    found = asked(fresh(), all_of(RACKS) | ill, RACKS, at=out)
    assert found.begin == ()
    assert all("are down" in why for why in found.waits.values())


def test_racks_take_turns() -> None:
    order = spread("x", RACKS)
    for begin in range(0, len(order), 4):
        assert {RACKS[node] for node in order[begin : begin + 4]} == set(RACKS.values())
    assert spread("y", RACKS) != order


@settings(max_examples=50)
@given(st.data())
def test_no_domain_is_ever_over_its_budget_and_no_wave_over_its_size(data: st.DataObject) -> None:
    """Whoever falls ill, is held and comes back: what is begun fits into what all writers share."""
    racks = hall(data.draw(st.integers(1, 6)), data.draw(st.integers(1, 24)))
    stands = all_of(racks)
    rollout = begun("p", WANT, stands, now_s=0.0)
    other = data.draw(st.lists(st.sampled_from(sorted(racks)), max_size=4, unique=True))
    down = books(racks)
    for node in other:
        down = taken(books=down, node=node, cause=Cause.FAULT)
        stands[node] = Standing(stand=Stand.BARRED, detail="ill")
    for step in range(30):
        now_s = step * limits.GPU_SOFTWARE_SOAK_S
        found = asked(rollout, stands, racks, at=down, now_s=now_s)
        rollout = found.rollout
        for node in found.begin:
            assert stands[node].stand is Stand.BEHIND
            down = taken(books=down, node=node, cause=Cause.DRIVER_UPGRADE)
            stands[node] = Standing(stand=Stand.GOING, treated=True)
        for domain in down.domains.values():
            planned = {n for n in domain.members if Cause.DRIVER_UPGRADE in down.down.get(n, ())}
            if planned:
                assert down.down_in(domain.id) <= domain.allowance
        treated = sum(one.treated for one in stands.values())
        assert rollout.is_last or treated <= rollout.waves[rollout.wave]
        for node in [n for n, one in stands.items() if one.stand is Stand.GOING]:
            if data.draw(st.booleans()):
                stands[node] = Standing(stand=Stand.DONE, treated=True)
                down = given_back(books=down, node=node, cause=Cause.DRIVER_UPGRADE)
    if not other and len(racks) > 1 and max(map(list(racks.values()).count, racks.values())) > 1:
        assert any(one.treated for one in stands.values()), "it gets on"
