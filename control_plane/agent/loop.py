"""The agent: look at the GPUs, obey what is granted, tell what changed.

A look every few seconds, writes right after it, and a status when it differs or somebody waits for it.
The API server is followed beside that and never waited for. What is granted is kept before it is raised to;
a grant of before a restart caps, and raises nothing until the server was heard again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from control_plane.agent.following import Contact, Own
from control_plane.agent.kept import Kept, KeptFile
from control_plane.agent.report import Sent, Turn, is_due, status_of
from control_plane.agent.spec import caps_of, settings_of
from control_plane.api.objects import Condition
from control_plane.core import limits
from control_plane.core.cluster import ClusterError
from control_plane.core.errors import StoreError
from control_plane.core.gpu import (
    Alert,
    AlertKind,
    GpuSeen,
    NodeSeen,
    Rung,
    Trouble,
)
from control_plane.core.gpu_cap import (
    CapDecision,
    CapMemory,
    Caps,
    decide_cap,
    has_second_writer,
    newer,
    reloaded_gpus,
    written,
)
from control_plane.core.gpu_health import Expected, judged
from control_plane.core.gpu_settings import (
    GpuOutcome,
    GpuWrite,
    Locked,
    SetGpuPowerLimit,
    in_order,
    settings_writes,
    with_locked,
)
from control_plane.core.moments import moment_text
from control_plane.core.ports import Clock, Nvml

_STALE_LIBRARY: Final = frozenset({Trouble.NO_LIBRARY, Trouble.MISMATCH})
"""The library was put into this container as it started: only another container gets another one."""
_UNLOADED: Final = frozenset({Trouble.NO_LIBRARY, Trouble.NOT_LOADED, Trouble.MISMATCH})
"""After these the driver that answers is another one, or the same anew."""
_RETRY_S: Final = 30.0
"""Between two tries of a status."""


class Teller(Protocol):
    """Where the status goes."""

    async def write_status(self, name: str, uid: str, status: dict[str, Any]) -> None:
        """See `agent.api.Api`."""
        ...


class StaleLibrary(Exception):
    """Only a new process can read these GPUs: this one has to end."""


class Agent:
    """One on each node. `heard` may be called at any time; `run` ends by an error, or cancelled."""

    def __init__(
        self,
        nvml: Nvml,
        teller: Teller,
        kept: KeptFile,
        *,
        clock: Clock,
        boot: Callable[[], str],
        say: Callable[[str], None],
        interval_s: float = limits.GPU_LOOK_S,
    ) -> None:
        """Nothing but what was kept is read before `run`.

        Args:
            nvml: the GPUs.
            teller: where the status goes.
            kept: what outlives the process.
            clock: the clock.
            boot: the host's boot id; empty where it is not known.
            say: a line for the log.
            interval_s: between two looks.

        Raises:
            StoreError: what was kept is of a newer release, or its folder cannot be read.
        """
        self._nvml, self._teller, self._file = nvml, teller, kept
        self._clock, self._boot, self._say = clock, boot, say
        self._interval_s = interval_s
        self._kept: Kept = kept.read()
        if kept.damage:
            say(kept.damage)
        self._kept_bytes = b""
        self._kept_at_s = 0.0
        self._kept_trouble = ""
        self._contact = Contact.NONE
        self._own: Own | None = None
        self._fresh_wire_s = 0.0
        """Until when, by the wire's clock, the grant is fresh: a wall clock may be set back."""
        self._old_fence = False
        self._conditions: dict[str, Condition] = {}
        self._wanted: dict[str, Any] | None = None
        self._wanted_s = 0.0
        """When the look was that it is of."""
        self._often = False
        self._sent: Sent | None = None
        self._stale_since_s: float | None = None
        self._was_unloaded = False
        self._heard, self._news = asyncio.Event(), asyncio.Event()
        self.turns = 0
        """Looks so far."""
        self.requests = 0
        """Statuses that were sent."""

    async def run(self) -> None:
        """Look, obey, tell.

        Raises:
            StaleLibrary: this process cannot read the GPUs, and another one could.
        """
        telling = asyncio.ensure_future(self._tell())
        try:
            while True:
                self._heard.clear()
                await self._turn(await self._nvml.look(self._clock.wall_s()))
                self.turns += 1
                await self._pause()
                if telling.done():
                    telling.result()  # a bug of ours ends the process
        finally:
            telling.cancel()
            # The driver is let go, and every setting stays as it is: the last cap holds without us.
            await self._nvml.close()

    def heard(self, contact: Contact, own: Own | None) -> None:
        """What the API server has of this node now."""
        self._contact = contact
        if own is None:
            return
        if self._own is None or self._own.uid != own.uid:
            self._conditions = {one.type: one for one in own.status.conditions}
            self._sent = None
        self._own = own
        self._obey(own)
        self._heard.set()

    # -- what is granted ------------------------------------------------------------------------------

    def _obey(self, own: Own) -> None:
        told = caps_of(own.spec)
        before = self._kept.caps.grant
        # A new object begins anew: fences of another cluster, or of another life of it, do not compare.
        grant = newer(before if own.uid == self._kept.uid else None, told.grant) or before
        self._old_fence = told.grant is not None and grant != told.grant
        if told.grant is not None and grant == told.grant:
            left_s = told.grant.until_s - self._clock.wall_s()
            self._fresh_wire_s = self._clock.wire_s() + self._clock.wire_of(max(left_s, 0.0))
        self._kept = msgspec.structs.replace(
            self._kept,
            uid=own.uid,
            caps=msgspec.structs.replace(told, grant=grant),
            settings=settings_of(own.spec),
            gpus=own.spec.gpus,
            held_by=own.spec.held_by or "",
        )

    def _caps(self) -> Caps:
        """Caps as of now: a grant that is not known to be fresh has ended."""
        caps = self._kept.caps
        fresh = self._clock.wire_s() < self._fresh_wire_s and not self._kept_trouble
        if caps.grant is None or fresh:
            return caps
        return msgspec.structs.replace(caps, grant=msgspec.structs.replace(caps.grant, until_s=0.0))

    def _keep(self) -> None:
        """Have it on the disk, if it is something else than before. Energies alone are, now and then."""
        now_s = self._clock.wall_s()
        lasting = msgspec.structs.replace(
            self._kept, health=msgspec.structs.replace(self._kept.health, energy_j={}, watched=())
        )
        data = msgspec.json.encode(lasting)
        if data == self._kept_bytes and 0 <= now_s - self._kept_at_s < limits.GPU_REPORT_S:
            return
        try:
            self._file.write(self._kept)
        except StoreError as error:
            if not self._kept_trouble:
                self._say(f"{error}: nothing is raised until it can be kept")
            self._kept_trouble = str(error)
            return
        self._kept_bytes, self._kept_at_s, self._kept_trouble = data, now_s, ""

    # -- one turn -------------------------------------------------------------------------------------

    async def _turn(self, seen: NodeSeen) -> None:
        self._end_if_stale(seen)
        self._keep()
        now_s, boot, health = seen.at_s, self._boot(), self._kept.health
        is_new_life = self._was_unloaded or bool(boot and health.boot and boot != health.boot)
        self._was_unloaded = seen.trouble in _UNLOADED
        reloaded = {g.pci for g in seen.gpus if g.pci} if is_new_life else set(
            reloaded_gpus(health.energy_j, seen.gpus)
        )  # fmt: skip
        memories = {memory.gpu: memory for memory in self._kept.limits}
        locked = {one.gpu: one for one in self._kept.locked if one.gpu not in reloaded}
        decisions: dict[str, CapDecision] = {}
        writes: list[GpuWrite] = []
        caps = self._caps()
        for gpu in seen.gpus:
            if gpu.pci is None:
                continue
            decision = decide_cap(
                gpu, caps, memories.get(gpu.pci, CapMemory(gpu=gpu.pci)), now_s=now_s,
                reloaded=gpu.pci in reloaded,
            )  # fmt: skip
            decisions[gpu.pci] = decision
            memories[gpu.pci] = decision.memory
            writes += self._writes(gpu, decision, locked.get(gpu.pci), fresh=caps.is_fresh(now_s))
        outcomes = await self._write(writes, seen)
        for write, outcome in outcomes:
            if outcome.done and isinstance(write, SetGpuPowerLimit):
                memories[write.gpu] = written(memories[write.gpu], outcome.requested_w)
            elif outcome.done:
                has = locked.get(write.gpu, Locked(gpu=write.gpu))
                locked[write.gpu] = with_locked(has, write)
        seen = _read_back(seen, outcomes)
        health = judged(
            seen, health, Expected(gpus=self._kept.gpus, cap_w=_cap_w(decisions)), boot=boot,
            others=_second_writers(memories, now_s),
        )  # fmt: skip
        self._kept = msgspec.structs.replace(
            self._kept, limits=tuple(memories.values()), health=health,
            locked=tuple(one for one in locked.values() if one != Locked(gpu=one.gpu)),
        )  # fmt: skip
        self._keep()
        self._say_of(outcomes)
        self._show(
            Turn(
                seen=seen,
                decisions=decisions,
                failures=[(write.gpu, one) for write, one in outcomes if not one.done],
                alerts=health.alerts,
                contact=self._contact.value,
                held_by=self._kept.held_by,
                kept_trouble=self._kept_trouble,
                old_fence=self._old_fence,
            )
        )

    def _writes(
        self, gpu: GpuSeen, decision: CapDecision, locked: Locked | None, *, fresh: bool
    ) -> list[GpuWrite]:
        limit = decision.write
        if self._kept.held_by:
            now_w = gpu.settings.power_limit_w
            # A person works there: nothing but what lowers.
            return (
                [limit] if limit is not None and now_w is not None and limit.watts < now_w else []
            )
        others = settings_writes(gpu, self._kept.settings, locked=locked, fresh=fresh)
        return [*others, limit] if limit is not None else [*others]

    async def _write(
        self, writes: list[GpuWrite], seen: NodeSeen
    ) -> list[tuple[GpuWrite, GpuOutcome]]:
        now_w = {gpu.pci: gpu.settings.power_limit_w for gpu in seen.gpus if gpu.pci is not None}
        return [(write, await self._nvml.apply(write)) for write in in_order(writes, now_w)]

    def _end_if_stale(self, seen: NodeSeen) -> None:
        if seen.trouble not in _STALE_LIBRARY:
            self._stale_since_s = None
            return
        now_s = self._clock.wire_s()
        self._stale_since_s = now_s if self._stale_since_s is None else self._stale_since_s
        if now_s - self._stale_since_s >= self._clock.wire_of(limits.GPU_STALE_LIBRARY_S):
            raise StaleLibrary(
                f"{seen.trouble.value}: another container may be given the right one"
            )

    def _say_of(self, outcomes: list[tuple[GpuWrite, GpuOutcome]]) -> None:
        for write, outcome in outcomes:
            what = msgspec.json.encode(write).decode()
            self._say(f"{what}: {outcome.result.value} {outcome.detail}".rstrip())

    async def _pause(self) -> None:
        """Until the next look is due, or something was granted."""
        due = asyncio.ensure_future(self._clock.sleep(self._interval_s))
        heard = asyncio.ensure_future(self._heard.wait())
        try:
            await asyncio.wait({due, heard}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            due.cancel()
            heard.cancel()

    # -- telling --------------------------------------------------------------------------------------

    def _show(self, turn: Turn) -> None:
        if self._own is None or self._contact is Contact.NOT_DECLARED:
            self._wanted = None  # nobody to tell
            return
        now_s = self._clock.wall_s()
        status = status_of(turn, self._conditions, generation=self._own.generation, now_s=now_s)
        self._conditions = {
            one.type: one for one in msgspec.convert(status["conditions"], tuple[Condition, ...])
        }
        self._wanted, self._wanted_s = status, turn.seen.at_s
        self._often = bool(self._own.spec.attention) or turn.is_acute
        if self._is_due():
            self._news.set()

    def _is_due(self) -> bool:
        if self._own is None or self._wanted is None:
            return False
        return is_due(
            self._own.uid, self._wanted, self._sent, at_s=self._wanted_s, often=self._often
        )

    async def _tell(self) -> None:
        said = ""
        while True:
            await self._news.wait()
            self._news.clear()
            own, wanted, at_s = self._own, self._wanted, self._wanted_s
            # Asked again: it may have become due while the one before was on its way, and not be now.
            if own is None or wanted is None or not self._is_due():
                continue
            try:
                self.requests += 1
                # Of the look, not of now: evidence is as old as what it was seen by.
                body = {**wanted, "reportedAt": moment_text(at_s)}
                await self._teller.write_status(own.name, own.uid, body)
            except ClusterError as error:
                text = f"the status was not taken: {type(error).__name__}: {error}"
                if text != said:
                    self._say(text)
                said = text
                await self._clock.wire_sleep(_RETRY_S)
                self._news.set()
            else:
                self._sent, said = Sent(uid=own.uid, status=wanted, at_s=at_s), ""


def _cap_w(decisions: dict[str, CapDecision]) -> float | None:
    """The cap of the node's GPUs: it is one for all of them."""
    return next((one.cap_w for one in decisions.values()), None)


def _second_writers(memories: dict[str, CapMemory], now_s: float) -> list[Alert]:
    return [
        Alert(
            kind=AlertKind.SECOND_WRITER, rung=Rung.OBSERVE, since_s=memory.raised_s[0],
            gpu=memory.gpu, detail="somebody else keeps raising its limit; it is lowered each time",
            asks=True,
        )
        for memory in memories.values()
        if has_second_writer(memory, now_s)
    ]  # fmt: skip


def _read_back(seen: NodeSeen, outcomes: list[tuple[GpuWrite, GpuOutcome]]) -> NodeSeen:
    """The look, with limits as they read after the writes."""
    after = {w.gpu: one for w, one in outcomes if isinstance(w, SetGpuPowerLimit) and one.done}

    def now(gpu: GpuSeen) -> GpuSeen:
        one = after.get(gpu.pci or "")
        if one is None:
            return gpu
        settings = msgspec.structs.replace(gpu.settings, power_limit_w=one.requested_w)
        return msgspec.structs.replace(gpu, settings=settings, enforced_limit_w=one.enforced_w)

    return msgspec.structs.replace(seen, gpus=tuple(map(now, seen.gpus)))
