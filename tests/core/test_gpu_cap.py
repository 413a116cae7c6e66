"""The cap of a GPU: the least of all, lowered by anybody, raised only under a fresh grant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core import limits
from control_plane.core.gpu import ClockRange, GpuSettings
from control_plane.core.gpu_cap import (
    CapMemory,
    Caps,
    CapState,
    Grant,
    decide_cap,
    has_second_writer,
    is_over,
    newer,
    reloaded_gpus,
    written,
)
from control_plane.core.gpu_settings import (
    GpuWrite,
    Locked,
    LockGpuClock,
    SetEcc,
    SetGpuPowerLimit,
    SetPersistence,
    in_order,
    needs_reboot,
    settings_writes,
    with_locked,
)
from tests.core.gpus import a_gpu, pci

NOW_S = 10_000.0
FRESH = Grant(gpu_w=500, until_s=NOW_S + 60, fence=3)
STALE = Grant(gpu_w=500, until_s=NOW_S, fence=3)
MINE = CapMemory(gpu=pci(0), ours_w=400)
NEW = CapMemory(gpu=pci(0))


@pytest.mark.parametrize(
    ("caps", "least_w"),
    [
        (Caps(), None),
        (Caps(site_w=600), 600),
        (Caps(site_w=600, grant=FRESH), 500),
        (Caps(site_w=450, grant=FRESH), 450),
        (Caps(grant=FRESH, workload_w=300), 300),
        (Caps(grant=STALE), 500),
        (Caps(grant=FRESH, declared_w=350, workload_w=400), 350),
    ],
)
def test_the_least_of_all_caps_holds(caps: Caps, least_w: float | None) -> None:
    assert caps.least_w() == least_w


@pytest.mark.parametrize(
    ("limit_w", "caps", "memory", "state", "asked_w"),
    [
        (700, Caps(), NEW, CapState.NO_CAP, None),
        (500, Caps(grant=FRESH), NEW, CapState.AS_CAPPED, None),
        (700, Caps(grant=FRESH), NEW, CapState.LOWERED, 500),
        (700, Caps(grant=STALE), NEW, CapState.LOWERED, 500),
        (700, Caps(site_w=450), NEW, CapState.LOWERED, 450),
        (400, Caps(grant=FRESH), MINE, CapState.RAISED, 500),
        (400, Caps(grant=STALE), MINE, CapState.NO_FRESH_GRANT, None),
        (400, Caps(site_w=600), MINE, CapState.NO_FRESH_GRANT, None),
        (300, Caps(grant=FRESH), MINE, CapState.LOWER_BY_OTHER, None),
        (400, Caps(grant=FRESH), NEW, CapState.LOWER_BY_OTHER, None),
        (None, Caps(grant=FRESH), MINE, CapState.UNREADABLE, None),
        (700, Caps(grant=Grant(gpu_w=100, until_s=NOW_S + 60)), NEW, CapState.LOWERED, 200),
        (400, Caps(grant=Grant(gpu_w=900, until_s=NOW_S + 60)), MINE, CapState.RAISED, 700),
    ],
)
def test_one_limit(
    limit_w: float | None, caps: Caps, memory: CapMemory, state: CapState, asked_w: float | None
) -> None:
    decision = decide_cap(a_gpu(limit_w=limit_w), caps, memory, now_s=NOW_S)
    want = None if asked_w is None else SetGpuPowerLimit(gpu=pci(0), watts=asked_w)
    assert (decision.state, decision.write) == (state, want)


def test_the_drivers_default_is_nobodys_wish() -> None:
    gpu = a_gpu(limit_w=350, default_limit_w=350.0)
    assert decide_cap(gpu, Caps(grant=FRESH), MINE, now_s=NOW_S).state is CapState.RAISED


def test_a_lost_gpu_is_not_written_to() -> None:
    decision = decide_cap(a_gpu(lost=True), Caps(grant=FRESH), MINE, now_s=NOW_S)
    assert (decision.state, decision.write) == (CapState.LOST, None)


def test_what_was_read_back_is_what_is_ours() -> None:
    assert written(NEW, 499.5).ours_w == 499.5


def test_who_raises_it_again_and_again_is_a_second_writer_and_is_still_lowered() -> None:
    memory = CapMemory(gpu=pci(0), ours_w=500)
    for n in range(limits.GPU_RAISES_BY_OTHERS):
        assert not has_second_writer(memory, NOW_S)
        decision = decide_cap(a_gpu(), Caps(grant=FRESH), memory, now_s=NOW_S + n)
        assert decision.write == SetGpuPowerLimit(gpu=pci(0), watts=500)
        memory = written(decision.memory, 500)
    assert has_second_writer(memory, NOW_S + 10)
    assert not has_second_writer(memory, NOW_S + 10 + limits.GPU_RAISES_WITHIN_S)


def test_a_driver_that_was_loaded_anew_is_no_second_writer() -> None:
    memory = CapMemory(gpu=pci(0), ours_w=500)
    decision = decide_cap(a_gpu(), Caps(grant=FRESH), memory, now_s=NOW_S, reloaded=True)
    assert (decision.state, decision.memory) == (CapState.LOWERED, memory)


def test_a_fallen_counter_of_energy_tells_of_a_reload() -> None:
    before_j = {pci(0): 500.0, pci(1): 500.0, pci(2): 500.0}
    gpus = [a_gpu(0, energy_j=20.0), a_gpu(1, energy_j=501.0), a_gpu(2, energy_j=None), a_gpu(3)]
    assert reloaded_gpus(before_j, gpus) == {pci(0)}


def test_a_voice_from_the_past_grants_nothing() -> None:
    older = Grant(gpu_w=700, until_s=NOW_S + 999, fence=2)
    assert newer(FRESH, older) == FRESH
    assert newer(FRESH, None) == FRESH
    assert newer(None, older) == older
    assert newer(FRESH, Grant(gpu_w=300, until_s=NOW_S, fence=3)).gpu_w == 300  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("enforced_w", "cap_w", "over"),
    [
        (500, 500, False),
        (500.9, 500, False),
        (510, 500, True),
        (None, 500, False),
        (700, None, False),
    ],
)
def test_what_is_enforced_is_held_against_what_is_allowed(
    enforced_w: float | None, cap_w: float | None, over: bool
) -> None:
    assert is_over(a_gpu(enforced_limit_w=enforced_w), cap_w) is over


# -- properties ---------------------------------------------------------------------------------------------

watts = st.floats(min_value=1, max_value=2_000, allow_nan=False)
some_watts = st.none() | watts
times = st.floats(min_value=NOW_S - 100, max_value=NOW_S + 100)
grants = st.none() | st.builds(Grant, gpu_w=watts, until_s=times, fence=st.integers(0, 5))
caps_of = st.builds(
    Caps, site_w=some_watts, grant=grants, workload_w=some_watts, declared_w=some_watts
)
memories = st.builds(CapMemory, gpu=st.just(pci(0)), ours_w=some_watts)


@given(limit_w=some_watts, caps=caps_of, memory=memories, low=some_watts, high=some_watts)
def test_nothing_is_ever_asked_above_any_cap_but_where_the_gpu_goes_no_lower(
    limit_w: float | None, caps: Caps, memory: CapMemory, low: float | None, high: float | None
) -> None:
    if low is not None and high is not None and low > high:
        low, high = high, low
    gpu = a_gpu(limit_w=limit_w, min_limit_w=low, max_limit_w=high)
    decision = decide_cap(gpu, caps, memory, now_s=NOW_S)
    if decision.write is None:
        return
    least_w = caps.least_w()
    assert least_w is not None
    assert decision.write.watts <= max(least_w, low or 0.0)
    if low is not None:
        assert decision.write.watts >= low


@given(limit_w=watts, caps=caps_of, memory=memories)
def test_without_a_fresh_grant_nothing_is_ever_raised(
    limit_w: float, caps: Caps, memory: CapMemory
) -> None:
    decision = decide_cap(a_gpu(limit_w=limit_w), caps, memory, now_s=NOW_S)
    if decision.write is not None and decision.write.watts > limit_w:
        assert caps.grant is not None
        assert caps.grant.until_s > NOW_S


@given(limit_w=watts, caps=caps_of, memory=memories)
def test_after_a_write_that_took_there_is_nothing_to_write(
    limit_w: float, caps: Caps, memory: CapMemory
) -> None:
    decision = decide_cap(a_gpu(limit_w=limit_w), caps, memory, now_s=NOW_S)
    if decision.write is None:
        return
    now = a_gpu(limit_w=decision.write.watts)
    after = decide_cap(now, caps, written(decision.memory, decision.write.watts), now_s=NOW_S)
    assert (after.write, after.state) == (None, CapState.AS_CAPPED)


# -- the other settings -------------------------------------------------------------------------------------

CLOCK = ClockRange(min_mhz=345, max_mhz=1_410)


@pytest.mark.parametrize(
    ("seen", "declared", "fresh", "want"),
    [
        (GpuSettings(), GpuSettings(persistence=True, ecc=True), True, ()),
        (GpuSettings(persistence=False), GpuSettings(), True, ()),
        (
            GpuSettings(persistence=False, ecc=False),
            GpuSettings(persistence=True, ecc=True),
            True,
            (SetPersistence(gpu=pci(0), on=True), SetEcc(gpu=pci(0), on=True)),
        ),
        (
            GpuSettings(persistence=False, ecc=False),
            GpuSettings(persistence=True, ecc=True),
            False,
            (SetPersistence(gpu=pci(0), on=True),),
        ),
        (GpuSettings(mig=False), GpuSettings(mig=True), True, ()),
        (
            GpuSettings(),
            GpuSettings(graphics_clock=CLOCK),
            False,
            (LockGpuClock(gpu=pci(0), clock=CLOCK),),
        ),
    ],
)
def test_settings_that_differ(
    seen: GpuSettings, declared: GpuSettings, fresh: bool, want: tuple[GpuWrite, ...]
) -> None:
    got = settings_writes(a_gpu(settings=seen), declared, locked=None, fresh=fresh)
    assert got == want


def test_a_clock_that_we_locked_is_not_locked_again() -> None:
    declared = GpuSettings(graphics_clock=CLOCK)
    write = LockGpuClock(gpu=pci(0), clock=CLOCK)
    locked = with_locked(Locked(gpu=pci(0)), write)
    assert settings_writes(a_gpu(), declared, locked=locked, fresh=True) == ()


def test_what_is_lowered_goes_before_what_is_raised() -> None:
    lower, higher = (SetGpuPowerLimit(gpu=pci(n), watts=500) for n in (1, 0))
    writes: list[GpuWrite] = [
        higher, SetEcc(gpu=pci(0), on=True), LockGpuClock(gpu=pci(0), clock=CLOCK), lower,
        SetPersistence(gpu=pci(1), on=True),
    ]  # fmt: skip
    kinds = [type(write) for write in in_order(writes, {pci(0): 400, pci(1): 700})]
    assert kinds == [SetPersistence, SetGpuPowerLimit, LockGpuClock, SetEcc, SetGpuPowerLimit]
    assert in_order(writes, {pci(0): 400, pci(1): 700})[1] == lower


def test_an_ecc_mode_waits_for_the_reboot() -> None:
    assert needs_reboot(a_gpu(settings=GpuSettings(ecc=False), ecc_in_force=True))
    assert not needs_reboot(a_gpu(settings=GpuSettings(ecc=True), ecc_in_force=True))
    assert not needs_reboot(a_gpu(settings=GpuSettings(), ecc_in_force=True))
