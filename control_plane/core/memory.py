"""What is remembered of one device between looks: small, durable, a value.

Kept by the Store; lost, it is handled as design §5 says: pins by `gridplane trust`, budgets taken
as spent, open work probed.
"""

from __future__ import annotations

import msgspec

from control_plane.core import limits
from control_plane.core.change import Change, ChangeKind, fields_written, kind_of
from control_plane.core.observation import FIELDS, Field, Identity, Settings


class Pin(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The machine that is this asset; moved by `gridplane swap`, set by `gridplane trust` or the record."""

    mac: str | None
    serial: str | None
    source: str
    """`placement` or who trusted it."""

    def matches(self, identity: Identity) -> bool | None:
        """Whether the answering machine is the pinned one; `None` if it told nothing comparable."""
        same = None
        if self.mac is not None and identity.mac is not None:
            same = self.mac == identity.mac
        if same is not False and self.serial is not None and identity.serial is not None:
            same = self.serial == identity.serial
        return same


def is_other(pin: Pin | None, identity: Identity | None) -> bool:
    """Whether a machine that is not the pinned one answered; what it says is not said of the asset."""
    return pin is not None and identity is not None and pin.matches(identity) is False


class DriftEvent(msgspec.Struct, frozen=True, order=True, gc=False):
    """A field that left its declared value after it had converged."""

    at_s: float
    field: Field


class Memory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One device's memory."""

    asset: str
    pin: Pin | None = None
    equalled: Settings = Settings()
    """Field by field the desired value that the device last equalled: a difference from *it* is drift."""
    expected: Settings | None = None
    """As seen when the plan was shown, moved along by verified own writes: who else moved it is named."""
    drifting: frozenset[Field] = frozenset()
    drifts: tuple[DriftEvent, ...] = ()
    contested: frozenset[Field] = frozenset()
    """Latched: no more writes of these fields until a person releases them."""
    stuck: frozenset[ChangeKind] = frozenset()
    """Latched after `MAX_ATTEMPTS` writes that did not stick."""
    attempts: dict[ChangeKind, int] = {}
    """Writes of a kind since the last one that was verified."""
    written_at_s: float | None = None
    """Time of the last write that was intended."""
    persistent_writes_s: tuple[float, ...] = ()
    """Times of persistent writes in the last day."""
    above_w: float | None = None
    """Watts that its settings permitted when last told, where above nameplate: while silent it counts so."""
    overridden_since_s: float | None = None
    family: str | None = None
    """Firmware family that `equalled` and `expected` are said of."""
    login: str | None = None
    """Reference to the password that logged in last while passwords are rotated; never the password."""
    located: str | None = None
    """Address at which a DHCP device was last found: a hint."""

    def writes_left(self, now_s: float) -> int:
        """Persistent writes left in this day's budget."""
        recent = sum(1 for at in self.persistent_writes_s if now_s - at < limits.REDRIFT_WINDOW_S)
        return limits.PERSISTENT_WRITES_PER_DAY - recent


def note_drift(memory: Memory, fields: frozenset[Field], now_s: float) -> Memory:
    """Remember which fields drift now; a third episode within the window latches `contested`.

    An episode begins when a field is seen to differ and was not differing at the look before.
    """
    if fields == memory.drifting:
        return memory
    recent = [d for d in memory.drifts if now_s - d.at_s < limits.REDRIFT_WINDOW_S]
    recent += [DriftEvent(now_s, field) for field in sorted(fields - memory.drifting)]
    contested = set(memory.contested)
    for field in fields:
        if sum(1 for d in recent if d.field == field) > limits.REDRIFTS_TO_CONTEST:
            contested.add(field)
    return msgspec.structs.replace(
        memory, drifting=fields, drifts=tuple(recent), contested=frozenset(contested)
    )


def unread_of(memory: Memory, desired: Settings, observed: Settings) -> frozenset[Field]:
    """Fields that drifted when they were read last, and could not be read now: that ends no drift."""
    return frozenset(
        field
        for field in memory.drifting
        if getattr(observed, field.value) is None and getattr(desired, field.value) is not None
    )


def note_equal(memory: Memory, equal: Settings) -> Memory:
    """Remember fields that were seen to equal what was desired of them."""
    news = {
        field.value: value
        for field in FIELDS
        if (value := getattr(equal, field.value)) is not None
        and value != getattr(memory.equalled, field.value)
    }
    if not news:
        return memory
    return msgspec.structs.replace(
        memory, equalled=msgspec.structs.replace(memory.equalled, **news)
    )


def note_flashing(memory: Memory, desired: Settings, observed: Settings) -> Memory:
    """Firmware will be installed, which may reset what now is as desired: its return repairs no drift.

    What differs now was changed by somebody else before, and stays that.
    """
    same = {
        field.value: None
        for field in FIELDS
        if getattr(desired, field.value) == getattr(observed, field.value)
    }
    return msgspec.structs.replace(
        memory, equalled=msgspec.structs.replace(memory.equalled, **same), expected=None
    )


def note_family(memory: Memory, family: str) -> Memory:
    """Remember which family is declared: of another one than before no setting is known, nor what drifted.

    So what a person's new firmware came with is brought to the declaration as a rollout brings it.
    """
    if memory.family == family:
        return memory
    if memory.family is None:
        return msgspec.structs.replace(memory, family=family)
    return msgspec.structs.replace(
        memory,
        family=family,
        equalled=Settings(),
        expected=None,
        drifting=frozenset(),
        stuck=frozenset(),
        attempts={},
        overridden_since_s=None,
    )


def note_converged(memory: Memory, desired: Settings, observed: Settings) -> Memory:
    """Remember that the device equals all that is desired of it."""
    memory = note_equal(memory, desired)
    if memory.expected == observed and not (
        memory.drifting or memory.attempts or memory.stuck or memory.overridden_since_s
    ):
        return memory
    return msgspec.structs.replace(
        memory,
        expected=observed,
        drifting=frozenset(),
        attempts={},
        stuck=frozenset(),
        overridden_since_s=None,
    )


def note_permitted(memory: Memory, watts: float, nameplate_w: float) -> Memory:
    """Remember what the settings permit, as far as a silent device could draw more than its nameplate."""
    above_w = watts if watts > nameplate_w else None
    return memory if memory.above_w == above_w else msgspec.structs.replace(memory, above_w=above_w)


def note_write(memory: Memory, kind: ChangeKind, at_s: float, *, persistent: bool) -> Memory:
    """Remember a write that was intended; twice for the same write changes nothing.

    A process that was killed may have kept the intent and not this: the next one notes it again.
    """
    if at_s == memory.written_at_s:
        return memory
    writes = (*memory.persistent_writes_s, at_s) if persistent else memory.persistent_writes_s
    return msgspec.structs.replace(
        memory,
        written_at_s=at_s,
        attempts={**memory.attempts, kind: memory.attempts.get(kind, 0) + 1},
        persistent_writes_s=tuple(w for w in writes if at_s - w < limits.REDRIFT_WINDOW_S),
    )


def note_verified(
    memory: Memory, change: Change, before: Settings, after: Settings, seen: Settings | None
) -> Memory:
    """Remember that the device reads as our own write left it; `seen` is the last look, if there is one.

    What was written was wanted when it left: where that is over by now (a curtailment that ended meanwhile),
    the way back is a change of ours, and no hand was at the machine.
    """
    written = {
        field.value: getattr(after, field.value)
        for field in fields_written(change, before)
        if getattr(after, field.value) is not None
    }
    # Not the whole look: what somebody else changed meanwhile is not ours.
    expected = memory.expected or seen
    memory = note_equal(memory, Settings(**written))
    if Field.POWER_MODE.value in written:
        # With a mode comes the device's own limit: to have the declared one again is no repair of a drift.
        written[Field.POWER_LIMIT_W.value] = None
        equalled = msgspec.structs.replace(memory.equalled, power_limit_w=None)
        memory = msgspec.structs.replace(memory, equalled=equalled)
    return msgspec.structs.replace(
        memory,
        attempts={k: n for k, n in memory.attempts.items() if k is not kind_of(change)},
        expected=msgspec.structs.replace(expected, **written) if expected else None,
    )


def note_unwritten(memory: Memory, kind: ChangeKind, at_s: float) -> Memory:
    """Take back a write that never left: it cost the device nothing."""
    return msgspec.structs.replace(
        memory,
        attempts={**memory.attempts, kind: max(0, memory.attempts.get(kind, 0) - 1)},
        persistent_writes_s=tuple(w for w in memory.persistent_writes_s if w != at_s),
    )
