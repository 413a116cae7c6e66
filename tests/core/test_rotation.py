"""Rotation of one device: the table of what logins mean, and that nobody is locked out at any kill."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core import limits
from control_plane.core.fleet import Credentials
from control_plane.core.rotation import (
    Fault,
    Probe,
    RotationEntry,
    RotationStep,
    after_probe,
    answered,
    committing,
    not_sent,
    ref_in_use,
    refs_of,
    refs_to_try,
    refused,
)

NEW, OLD, MAKER = "env:NEW", "env:OLD", "env:MAKER"
GIVEN = Credentials(user="root", secret_ref=NEW, previous=(OLD, MAKER))
LATE_S = 120.0
PENDING = RotationEntry(asset="A-1", rotation="c0001", wanted=NEW)
SENT = committing(msgspec.structs.replace(PENDING, verified=OLD), 1000.0)
LONG = 1000.0 + limits.CREDENTIAL_SILENT_S
BOTH_REFUSED = Probe(refused=(NEW, OLD))

TABLE = {
    "it has the new one already": (
        PENDING, Probe(accepted=NEW), 1.0, RotationStep.DONE, None, NEW,
    ),
    "it has the old one, and nothing has left": (
        PENDING, Probe(accepted=OLD, refused=(NEW,)), 1.0, RotationStep.PENDING, None, OLD,
    ),
    "nobody logs in, and nothing has left": (
        PENDING, BOTH_REFUSED, 1.0, RotationStep.FAILED, Fault.NONE_LOGS_IN, None,
    ),
    "it does not answer, and nothing has left": (
        PENDING, Probe(unclear="no route"), 9e9, RotationStep.PENDING, None, None,
    ),
    "the new one logs in": (
        SENT, Probe(accepted=NEW), 1001.0, RotationStep.DONE, None, NEW,
    ),
    "the answered one logs in": (
        answered(SENT), Probe(accepted=NEW), 1001.0, RotationStep.DONE, None, NEW,
    ),
    "the old one still logs in, soon after": (
        SENT, Probe(accepted=OLD, refused=(NEW,)), 1119.0, RotationStep.COMMITTING, None, OLD,
    ),
    "the old one still logs in, long after": (
        SENT, Probe(accepted=OLD, refused=(NEW,)), 1120.0, RotationStep.FAILED, Fault.NOT_TAKEN, OLD,
    ),
    "the old one logs in although the device said it took the new": (
        answered(SENT), Probe(accepted=OLD), 1120.0, RotationStep.FAILED, Fault.NOT_TAKEN, OLD,
    ),
    "nobody logs in, soon after": (
        SENT, BOTH_REFUSED, 1119.0, RotationStep.COMMITTING, None, OLD,
    ),
    "nobody logs in, long after": (
        SENT, BOTH_REFUSED, 1120.0, RotationStep.FAILED, Fault.NONE_LOGS_IN, OLD,
    ),
    "it does not answer for a boot": (
        SENT, Probe(unclear="no route"), LONG - 1, RotationStep.COMMITTING, None, OLD,
    ),
    "it does not answer for good": (
        SENT, Probe(unclear="no route"), LONG, RotationStep.FAILED, Fault.SILENT, OLD,
    ),
    "the old one was not tried, and the time is over": (
        SENT, Probe(unclear="no route", refused=(NEW,)), 1120.0, RotationStep.COMMITTING, None, OLD,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "probe", "now_s", "step", "fault", "verified"), TABLE.values(), ids=TABLE
)
def test_what_logins_mean(
    entry: RotationEntry,
    probe: Probe,
    now_s: float,
    step: RotationStep,
    fault: Fault | None,
    verified: str | None,
) -> None:
    after = after_probe(entry, probe, late_s=LATE_S, now_s=now_s)
    assert (after.step, after.fault, after.verified) == (step, fault, verified)
    assert (after.ended_at_s is not None) == after.is_final


def test_a_change_that_did_not_leave_is_as_if_it_never_was() -> None:
    back = not_sent(SENT, "it is held")
    assert (back.step, back.before, back.committed_at_s) == (RotationStep.PENDING, None, None)
    assert back.verified == OLD


def test_a_refused_change_says_so() -> None:
    after = refused(SENT, "too long", 1001.0)
    assert (after.step, after.fault) == (RotationStep.FAILED, Fault.REFUSED)
    assert "too long" in after.detail


def test_the_one_before_is_tried_whatever_is_declared_by_now() -> None:
    assert refs_to_try(SENT, [NEW]) == (NEW, OLD)
    assert refs_to_try(PENDING, refs_of(GIVEN)) == (NEW, OLD, MAKER)
    verified = msgspec.structs.replace(PENDING, verified=MAKER)
    assert refs_to_try(verified, refs_of(GIVEN)) == (NEW, MAKER, OLD)


@pytest.mark.parametrize(
    ("verified", "used"), [(None, OLD), (NEW, NEW), (MAKER, MAKER), ("env:GONE", OLD)]
)
def test_looks_use_who_logged_in_last(verified: str | None, used: str) -> None:
    assert ref_in_use(GIVEN, verified) == used


# -- the property: a device, a journal, and a process that dies anywhere ----------------------------------


class Model:
    """A device that may take a change at once, late or never, say so or not, and be away for a while."""

    def __init__(self, has: str, takes_after_s: float | None) -> None:
        self.password, self._takes_after_s = has, takes_after_s
        self._next: tuple[str, float] | None = None

    def set(self, old: str, new: str, now_s: float) -> None:
        if old == self.at(now_s) and self._takes_after_s is not None:
            self._next = (new, now_s + self._takes_after_s)

    def at(self, now_s: float) -> str:
        if self._next is not None and now_s >= self._next[1]:
            self.password, self._next = self._next[0], None
        return self.password


@given(
    st.sampled_from([NEW, OLD, MAKER]),
    st.sampled_from([None, 0.0, 45.0, 119.0]),
    st.booleans(),
    st.sets(st.integers(0, 40)),
    st.sets(st.integers(0, 40)),
    st.booleans(),
)
def test_nobody_is_locked_out_wherever_it_is_killed(
    has: str,
    takes_after_s: float | None,
    answer_comes: bool,
    kills: set[int],
    silences: set[int],
    drops_previous: bool,
) -> None:
    """One process after another drives the device; each begins with nothing but what was kept."""
    device, kept, sent = Model(has, takes_after_s), PENDING, 0
    declared = refs_of(GIVEN)
    now_s = 1000.0
    for turn in range(60):
        now_s += limits.CREDENTIAL_LOOK_S
        if kept.is_final:
            break
        if kept.committed_at_s is not None and drops_previous:
            declared = (NEW,)
        tried: list[str] = []
        probe = Probe(unclear="no route")
        if turn not in silences:
            for ref in refs_to_try(kept, declared):
                if device.at(now_s) == ref:
                    probe = Probe(accepted=ref, refused=tuple(tried))
                    break
                tried.append(ref)
            else:
                probe = Probe(refused=tuple(tried))
        after = after_probe(kept, probe, late_s=LATE_S, now_s=now_s)
        if turn in kills:
            continue  # Before what the logins said was kept.
        kept = after
        if kept.step is RotationStep.PENDING and probe.accepted is not None:
            kept = committing(kept, now_s)
            if turn + 1 in kills:
                continue  # Between the journal and the wire.
            sent += 1
            assert kept.before is not None
            device.set(kept.before, NEW, now_s)
            if answer_comes and turn + 2 not in kills:
                kept = answered(kept)
        assert device.at(now_s) in refs_to_try(kept, declared)
    in_force = device.at(now_s + LATE_S)
    assert kept.is_final
    assert sent <= 1
    assert in_force in refs_to_try(kept, declared)
    if kept.step is RotationStep.DONE:
        assert kept.verified == in_force == NEW
    elif kept.fault is Fault.NOT_TAKEN:
        assert kept.verified == in_force == kept.before
    else:
        assert kept.fault is Fault.SILENT
