"""Tells people what changed: Events at objects, and the engine's own events in the log.

Only changes are told, and those of a rack's machines together. What is compared with is what this process
told last; for an object that it has not told of, what stands in the object's status.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec

from control_plane.api.conditions import READY, STALLED, Told
from control_plane.api.objects import RolloutSpec, SiteStatus, Status
from control_plane.core import limits
from control_plane.core.cluster import Kind, Object
from control_plane.core.ports import Clock
from control_plane.core.rollout import RolloutState
from control_plane.engine.log import Level, Say
from control_plane.engine.store import Store
from control_plane.kube.cache import Cache
from control_plane.kube.events import EventWriter
from control_plane.kube.kinds import MINER, RACK, ROLLOUT, SITE

_NAMED = 5
"""Machines that an Event of a rack names."""
_FOLLOW_S = 1.0
_LINES = 500
"""Events of the engine that a turn writes to the log; the audit file has all."""
_PAGES = frozenset({"page", "incident"})
_OK = "AsDeclared"
_PASSING = frozenset({"Reconciling", "NotSeen"})
"""Reasons that are no news: it is being worked on, or nobody looked yet."""


class _InRack(msgspec.Struct):
    rack: str


class _State(msgspec.Struct, frozen=True):
    """What is compared of an object."""

    ready: tuple[str, str]
    stalled: str = ""
    enforcing: tuple[str, str] = ("", "")
    accepted: str | None = None
    wave: int = 0
    state: str = ""


class Herald:
    """Of one controller. `run` never ends by itself."""

    def __init__(
        self,
        racks: Cache,
        sites: Cache,
        writer: EventWriter,
        *,
        clock: Clock,
        say: Say,
        store: Callable[[], Store | None],
    ) -> None:
        self._racks, self._sites, self._writer = racks, sites, writer
        self._clock, self._say, self._store = clock, say, store
        self._known: dict[str, _State] = {}
        self._moved: defaultdict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        """(key of the rack, reason) → (machine, in words)."""
        self._followed: Store | None = None
        self._last = 0

    def leads(self, site: str, fence: int, identity: str) -> None:
        """A tenure began: what others told meanwhile is in the statuses."""
        self._known.clear()
        self._moved.clear()
        about = self._sites.get(site)
        if about is not None:
            self._writer.post(
                SITE, about, "LeaderChanged", f"{identity} leads now, under fence {fence}"
            )

    def edited(self, kind: Kind, about: Object) -> None:
        """Somebody wrote into what is only shown; it is put back."""
        note = "its spec was edited, which changes nothing: it follows from the revision, and is put back"
        self._writer.post(kind, about, "EditedByHand", note, warns=True)
        what = f"{kind.kind} {about.metadata.name}"
        self._say(f"{what}: {note}", kind="projection", level="warning")

    def saw(self, kind: Kind, about: Object, status: Status, told: Sequence[Told]) -> None:
        """What an object's status is going to say; tells of it what is news."""
        if kind not in (SITE, MINER, ROLLOUT):
            return
        key = f"{kind.plural}/{about.key}"
        old = self._known.get(key) or _stood(about, kind)
        new = _state(about, status, told, kind)
        if kind is SITE:
            new = _unless_unknown(new, old)
        self._known[key] = new
        if new == old:
            return
        if kind is MINER:
            self._miner(about, old, new, told)
        elif kind is SITE:
            self._site(about, old, new, told)
        else:
            self._rollout(about, old, new)

    def _miner(self, about: Object, old: _State, new: _State, told: Sequence[Told]) -> None:
        truth, reason = new.ready
        if old.ready == new.ready or (truth != "True" and reason in _PASSING):
            return
        rack = msgspec.json.decode(about.spec, type=_InRack).rack
        words = next(one.message for one in told if one.type == READY)
        key = f"{about.metadata.namespace}/{rack}"
        self._moved[key, _OK if truth == "True" else reason].append((about.metadata.name, words))

    def _site(self, about: Object, old: _State, new: _State, told: Sequence[Told]) -> None:
        words = {one.type: one for one in told}
        if new.accepted != old.accepted and new.accepted is not None:
            note = f"revision {new.accepted[:12]} is in force"
            self._writer.post(SITE, about, "RevisionAccepted", note)
        if new.stalled != old.stalled and STALLED in words:
            stalled = words[STALLED]
            reason = "RevisionRefused" if stalled.reason == "NotAccepted" else stalled.reason
            self._writer.post(SITE, about, reason, stalled.message, warns=True)
        if new.enforcing != old.enforcing and "Enforcing" in words:
            self._writer.post(SITE, about, "ModeChanged", words["Enforcing"].message)
        if new.ready[0] != old.ready[0] and new.ready[0] != "Unknown":
            is_ready = new.ready[0] == "True"
            self._writer.post(
                SITE,
                about,
                "Ready" if is_ready else "NotReady",
                words[READY].message,
                warns=not is_ready,
            )

    def _rollout(self, about: Object, old: _State, new: _State) -> None:
        spec = msgspec.json.decode(about.spec, type=RolloutSpec)
        if new.wave > old.wave and new.state != RolloutState.HALTED:
            note = f"wave {new.wave} of {len(spec.waves)} passed"
            self._writer.post(ROLLOUT, about, "WavePassed", note)
        if new.state != old.state and new.state not in (
            RolloutState.RUNNING,
            RolloutState.SOAKING,
        ):
            halted = new.state == RolloutState.HALTED
            why = f": {spec.gates[-1].detail}" if halted and spec.gates else ""
            reason = new.state.title().replace("_", "")
            self._writer.post(
                ROLLOUT, about, reason, f"{new.state} at wave {new.wave + 1}{why}", warns=halted
            )

    # --- over time -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write Events and log lines, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._writer.run())
            group.create_task(self._gather())
            while True:
                self.follow()
                await self._clock.wire_sleep(_FOLLOW_S)

    async def _gather(self) -> None:
        while True:
            await self._clock.wire_sleep(limits.EVENT_GATHER_S)
            self.flush()

    def flush(self) -> None:
        """Tell what the machines of each rack did since the last time."""
        for (rack, reason), moved in self._moved.items():
            about = self._racks.get(rack)
            if about is None:
                continue
            few = "1 miner" if len(moved) == 1 else f"{len(moved)} miners"
            names = ", ".join(sorted(name for name, _ in moved)[:_NAMED])
            names += ", …" * (len(moved) > _NAMED)
            if reason == _OK:
                note = f"{few} became Ready: {names}"
            else:
                note = f"{few}: {reason}: {names}; {moved[0][0]}: {moved[0][1]}"
            event = "MinersReady" if reason == _OK else reason
            self._writer.post(RACK, about, event, note, warns=reason != _OK)
        self._moved.clear()

    def follow(self) -> None:
        """Write to the log what the engine noted since the last time."""
        store = self._store()
        if store is None:
            return
        if store is not self._followed:
            self._followed, self._last = store, 0
        for number, event in reversed(store.events(limit=_LINES, after=self._last)):
            self._last = number
            at = {"asset": event.asset, "node": event.node}
            fields = {name: value for name, value in at.items() if value}
            level: Level = "warning" if event.kind in _PAGES else "info"
            self._say(event.text, level=level, kind=event.kind, **fields)


def _state(about: Object, status: Status, told: Sequence[Told], kind: Kind) -> _State:
    words = {one.type: one for one in told}
    ready = words.get(READY)
    state = _State(
        ready=(ready.status, ready.reason) if ready else ("Unknown", ""),
        stalled=_stalled(words.get(STALLED)),
        enforcing=(words["Enforcing"].status, words["Enforcing"].reason)
        if "Enforcing" in words
        else ("", ""),
        accepted=status.accepted_revision if isinstance(status, SiteStatus) else None,
    )
    if kind is not ROLLOUT:
        return state
    spec = msgspec.json.decode(about.spec, type=RolloutSpec)
    return msgspec.structs.replace(state, wave=spec.wave, state=spec.state)


def _stood(about: Object, kind: Kind) -> _State:
    """As its status has it; of a rollout, which has its state in the spec, nothing is known to be old."""
    type_ = SiteStatus if kind is SITE else Status
    status = msgspec.json.decode(about.status, type=type_ | None) or type_()
    told = [
        Told(type=one.type, status=one.status, reason=one.reason, message=one.message)
        for one in status.conditions
    ]
    return _state(about, status, told, kind)


def _unless_unknown(new: _State, old: _State) -> _State:
    """A take-over knows nothing for a moment, and that is no news."""
    if new.ready[0] != "Unknown":
        return new
    kept = msgspec.structs.replace(new, ready=old.ready)
    if new.ready[1] != "NotSeen":
        kept = msgspec.structs.replace(kept, enforcing=old.enforcing)
    return kept


def _stalled(told: Told | None) -> str:
    """What makes one reason for standing still another one: numbers in its detail do not."""
    if told is None:
        return ""
    if told.reason == "NotAccepted":
        return told.message
    return f"{told.reason} {told.message.partition(':')[0]}"
