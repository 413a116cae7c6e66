"""The site under controllers: an API server in memory, processes that come and go, and who looks at both.

Of what a controller says of itself the oracle believes nothing: a revision is accepted, an overlay is
acknowledged and an intent is durable when it stands in the API server's own copy of the state.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import msgspec

from control_plane.api.conditions import moment
from control_plane.api.objects import (
    AcknowledgementsPart,
    FleetRevisionSpec,
    OrderSpec,
    SiteSpec,
    StateShardSpec,
)
from control_plane.core.change import Change, Outcome
from control_plane.core.cluster import Body, Kind, NotFound, Object
from control_plane.core.decision import Reason
from control_plane.core.observation import Observation
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.rollout import RolloutState
from control_plane.core.verify import Operation, Stage
from control_plane.engine.loop import Engine
from control_plane.engine.records import Event, OrderKind, RevisionRecord
from control_plane.engine.store import Store
from control_plane.kube import tenure
from control_plane.kube.declaration import Declared, read_revision
from control_plane.kube.kinds import FLEET_REVISION, ORDER, OVERLAY, SITE, STATE_SHARD
from control_plane.kube.saying import is_ended, order_body, overlay_body
from control_plane.kube.shards import HEAD, WORK, name_of, unpacked
from control_plane.kube.takeover import lost_id
from control_plane.simulator.api_client import ApiClient
from control_plane.simulator.api_server import ApiServer
from control_plane.simulator.ledger import Write
from control_plane.simulator.virtual import seeded
from tests.scenarios.declared import SITE as NAME
from tests.scenarios.declared import Revision
from tests.scenarios.oracle import TRIP_S
from tests.scenarios.pods import NAMESPACE, Pod
from tests.scenarios.process import ACTING, Process
from tests.scenarios.scene import Scene
from tests.scenarios.stage import BY, PATIENCE_S, RELEASABLE, RESTART_S
from tests.scenarios.suspending import SuspendingLoop

Mode = Literal["observe", "enforce"]
LOST = lost_id(NAME)
NOTICE_S = 5.0
"""Wire seconds within which a leader that reaches the API server follows what a `Site` says."""
LATENCY_S = (0.001, 0.006)


class ClusterScene(Scene):
    """One run."""

    loop: SuspendingLoop
    believes = False
    """For ablations: engines take it for granted that their process leads."""

    def __init__(
        self, loop: SuspendingLoop, folder: Path, revision: Revision, *, seed: str, **more: Any
    ) -> None:
        super().__init__(loop, revision, seed=seed, **more)
        self.server = ApiServer(self.clock)
        self.pods: list[Pod] = []
        self.configure: Callable[[Pod], None] = lambda _: None
        """Called with each process before it starts."""
        self.supervised: asyncio.Task[None] | None = None
        self.engine: Engine | None = None
        """Of the newest leader."""
        self.took_over: Callable[[Pod], None] = lambda _: None
        self.looked: Callable[[Process], None] = lambda _: None
        self.arrived: Callable[[Write, Process], None] = lambda _write, _by: None
        self.mode: Mode = "observe"
        self._mode_s = 0.0
        self._folder = folder
        self.known: dict[str, Revision] = {}
        """By name of their `FleetRevision`."""
        self.mending: list[Callable[[], object]] = []
        """What makes well again what went wrong."""
        self._shards: dict[str, Shard] = {}
        self._accepted = ""
        self._intended: set[str] = set()
        """Operations that were durable before they were sent."""
        self._fence, self._fence_s = 0, 0.0
        self._ordered_s: dict[str, float] = {}
        self._said = self._notes = 0
        self.says_again = False
        """Whether a person releases anew what came back: a leader may have read what was before that."""
        self._dropped: set[str] = set()
        self.oracle.reach = self.reach
        tell = self.server._tell

        def told(kind: Kind, before: Object | None, after: Object | None, last: Object) -> None:
            tell(kind, before, after, last)
            if kind is STATE_SHARD:
                self._kept(last.metadata.name, after)

        self.server._tell = told  # type: ignore[method-assign]

    # --- processes ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Engines of controllers tell the oracle what they take to be so."""
        scene = self

        class WatchedEngine(Engine):
            def __init__(self, **more: Any) -> None:
                pod: Pod = more["edges"].pod
                pod.check()
                more["store"]._db.execute("PRAGMA synchronous = OFF")
                if scene.believes and more["acts"]:
                    more["is_live"] = lambda: True
                super().__init__(**more)
                if more["acts"] or pod.leads:
                    scene.begins(pod, self, more["store"], more["epoch"])

        with mock.patch.object(tenure, "Engine", WatchedEngine):
            yield

    def begins(self, pod: Pod, engine: Engine, store: Store, epoch: int) -> None:
        """A leader has taken over, or changes its mode."""
        if epoch > self.oracle.epoch:
            pod.epoch = epoch
            self.oracle.started(epoch)
            if not any(incident.cause == "pools" for incident in store.incidents()):
                self.oracle.latches.forget_storm()
            self.trace(f"{pod.name} takes over under fence {epoch}")
            self.took_over(pod)
        self.listen(pod, engine)
        self.engine, self.store = engine, store

    def start(self) -> Pod:
        """Another process, with an identity of its own."""
        self.starts += 1
        name = f"pod{self.starts}"
        line = ApiClient(self.server, self.clock, seed=self.starts)
        line.faults.latency_s = LATENCY_S
        pod = Pod(
            name,
            loop=self.loop,
            line=line,
            net=self.net,
            clock=self.clock,
            rng=seeded(f"{self.seed}/{name}"),
            watch=self,
            folder=self._folder,
            read=self._read,
            pace=self.pace,
        )
        self.pods.append(pod)
        self.configure(pod)
        self.trace(f"{name} starts")
        pod.start()
        return pod

    async def supervise(self) -> None:
        """What a Deployment does: whoever ended is replaced, for ever."""
        replaced: set[str] = set()
        while True:
            await asyncio.sleep(RESTART_S / 2)
            for pod in [p for p in self.pods if not p.alive and p.name not in replaced]:
                replaced.add(pod.name)
                self.trace(f"{pod.name} is gone")
                self.faults.append(self.loop.call_later(RESTART_S / 2, self.start))

    @property
    def leader(self) -> Pod | None:
        """Who may act now."""
        return next((pod for pod in reversed(self.pods) if pod.leads), None)

    async def close(self) -> None:
        """End everything."""
        for timer in self.faults:
            timer.cancel()
        if self.supervised is not None:
            self.supervised.cancel()
            await asyncio.wait([self.supervised])
        for pod in self.pods:
            await pod.bury()

    def faults_over(self) -> None:
        """Everything is well, and nobody keeps anything from its declaration."""
        super().faults_over()
        for mend in self.mending:
            mend()
        self.mending.clear()
        self.configure = lambda _: None
        for pod in self.pods:
            pod.kill_at = None
            if not pod.alive:
                continue
            pod.go_on()
        for _ in range(2 - sum(1 for pod in self.pods if pod.alive)):
            self.start()
        self.point_back()
        for key in list(self.oracle.overlays):
            self.drop_overlay(key)

    # --- what stands in the API server ----------------------------------------------------------------

    def _kept(self, name: str, there: Object | None) -> None:
        if there is None:
            self._shards.pop(name, None)
            return
        shard = self._shards[name] = Shard(there)
        if shard.fence > self._fence:
            self._fence, self._fence_s = shard.fence, self.oracle.now()
        if name == name_of(NAME, HEAD):
            self._heard(shard)

    def _heard(self, head: Shard) -> None:
        """What is in force is what stands there."""
        records = [
            msgspec.json.decode(r, type=RevisionRecord) for r in head.rows("revision").values()
        ]
        if records:
            newest = max(records, key=lambda record: record.seq)
            if newest.digest != self._accepted:
                self._accepted = newest.digest
                self.accepted_s = self.oracle.now()
                self.trace(f"{newest.digest[:12]} is accepted")
                self.oracle.accepted(self.known[newest.source or ""].site)
        overlays = {
            key: msgspec.json.decode(record, type=Overlay)
            for key, record in head.rows("overlay").items()
        }
        for key, overlay in overlays.items():
            if key not in self.oracle.overlays and key not in self._dropped:
                self.trace(f"{key} {overlay.kind} on {overlay.node} is acknowledged")
                self.oracle.overlay_set(overlay)

    def _look_for_intent(self, process: Process, asset: str) -> None:
        """A driver is told to write: its intent has to stand in the API server by now.

        Of a device the last one: what could not be kept, as far as the leader knew, was never sent.
        """
        found = [
            msgspec.json.decode(record, type=Operation)
            for part in WORK
            if (shard := self._shards.get(name_of(NAME, part))) is not None
            for record in shard.rows("operation").values()
        ]
        own = [o for o in found if o.asset == asset and o.epoch == process.epoch]
        last = max(own, key=lambda o: o.id, default=None)
        if last is not None and last.stage is Stage.SENT and last.id not in self._intended:
            self._intended.add(last.id)
            if self._is_observed():
                self.oracle.violate("observe", f"{last.id} on {asset}")
            self.oracle.intended(process, last)

    def _is_observed(self) -> bool:
        return self.mode == "observe" and self.oracle.now() - self._mode_s > NOTICE_S

    def _wrote(self, write: Write) -> None:
        acting = ACTING.get()
        if acting is not None:
            self.arrived(write, acting.process)
            self._judge_durable(acting.process, write)
        super()._wrote(write)

    def _judge_durable(self, process: Process, write: Write) -> None:
        """When bytes arrive the intent stands in the API server, under the fence of who sent them."""
        what = f"{write.kind} at {write.asset} by {process.name}"
        sent = self.oracle.sent.get(write.asset)
        if sent is None:
            return
        shard = self._holding(sent.operation.id)
        if shard is None:
            self.oracle.violate("durable", f"{what}: the API server has no {sent.operation.id}")
        late_s = self.oracle.now() - self._fence_s
        if self._fence > process.epoch and late_s > TRIP_S:
            self.oracle.violate(
                "two leaders", f"{what} under {process.epoch}, {late_s:.1f} s after {self._fence}"
            )

    def _holding(self, key: str) -> Shard | None:
        shards = (self._shards.get(name_of(NAME, part)) for part in WORK)
        return next((s for s in shards if s is not None and key in s.rows("operation")), None)

    def reach(self, asset: str | None = None) -> int | None:
        """How many devices the open wave may have reached: as `Stage.reach`."""
        if self.store is None or self.engine is None:
            return None
        runner = self.engine._roster.rollout
        if asset is not None and (runner is None or asset not in runner._order):
            return None
        rollout = self.store.rollouts()[-1]
        return None if rollout.state is RolloutState.DONE else rollout.waves[rollout.wave]

    # --- what people do ---------------------------------------------------------------------------------

    async def _read(self, name: str, spec: FleetRevisionSpec) -> Declared:
        revision = self.known.get(name)
        if revision is None:
            return read_revision(name, spec)
        return Declared(name=name, site=revision.site, digest=revision.digest)

    def declare(self, revision: Revision, mode: Mode) -> None:
        """As Git would: the revision, and the pointer to it."""
        name = revision.digest
        self.known[name] = self.revision = revision
        self.put_revision(name)
        self.point(name, mode)

    def put_revision(self, name: str) -> None:
        """The object of a revision; made again from its commit it is the same."""
        spec = FleetRevisionSpec(site=NAME, format="msgpack+zlib", data=name.encode())
        self.put(FLEET_REVISION, name, spec)

    def point(self, name: str, mode: Mode) -> None:
        """`Site.spec` is the only knob."""
        if mode != self.mode:
            self.mode, self._mode_s = mode, self.oracle.now()
        self.trace(f"person points to {name[:12]}, {mode}")
        meant = AcknowledgementsPart(removals=self._removed())
        self.put(SITE, NAME, SiteSpec(revision=name, mode=mode, acknowledgements=meant))

    def _removed(self) -> int:
        """How many devices are meant to leave the declaration."""
        stay = {device.asset for device in self.revision.site.devices}
        return sum(1 for asset in self.oracle.devices if asset not in stay)

    def is_in_force(self) -> bool:
        """Whether somebody leads, by the revision that is meant."""
        return self.leader is not None and self._accepted == self.revision.digest

    def point_back(self) -> None:
        """To what is meant."""
        self.point(self.revision.digest, "enforce")

    def mark_observed(self) -> None:
        """Nothing is pointed to: nothing may be written."""
        if self.mode != "observe":
            self.mode, self._mode_s = "observe", self.oracle.now()

    def put(self, kind: Kind, name: str, spec: Any) -> None:
        """Apply an object, as a person or Git does."""
        self._put(kind, _body(kind, name, spec))

    def note_on(self, kind: Kind, name: str) -> None:
        """Somebody annotates an object, if it is there."""
        self._notes += 1
        with contextlib.suppress(NotFound):
            self.server.get(kind, f"{NAMESPACE}/{name}")
            body = _body(kind, name, {})
            del body["spec"]
            body["metadata"]["annotations"] = {"somebody": str(self._notes)}
            self.server.apply(kind, body, manager="somebody", force=True, subresource="")

    def delete(self, kind: Kind, name: str) -> None:
        """Delete an object, if it is there."""
        with contextlib.suppress(NotFound):
            self.server.delete(kind, f"{NAMESPACE}/{name}")

    def _put(self, kind: Kind, body: Body) -> None:
        self.server.apply(kind, body, manager="kubectl", force=True, subresource="")

    def set_overlay(self, kind: OverlayKind, node: str) -> Overlay:
        """A hold or a freeze; it counts once a leader has acknowledged it."""
        self._said += 1
        overlay = Overlay(
            id=f"{BY}-{self._said}",
            kind=kind,
            node=node,
            owner=BY,
            reason="a seed wants it",
            since_s=self.clock.wall_s(),
        )
        self.trace(f"person sets {overlay.id} {kind} on {node}")
        self._put(OVERLAY, overlay_body(overlay, site=NAME, namespace=NAMESPACE))
        return overlay

    def drop_overlay(self, key: str) -> None:
        """A person takes it back."""
        if key not in self._dropped:
            self._dropped.add(key)
            if key in self.oracle.overlays:
                self.oracle.overlay_dropped(self.oracle.overlays[key][0])
            self.order("release", key)

    def order(self, kind: str, target: str) -> None:
        """A person's word."""
        self._said += 1
        self.trace(f"person orders {kind} {target}")
        spec = OrderSpec(
            site=NAME,
            kind=kind,  # type: ignore[arg-type]
            target=target,
            by=BY,
            at=moment(self.clock.wall_s()),
        )
        self._put(ORDER, order_body(spec, name=f"order-{self._said}", namespace=NAMESPACE))

    def _orders_wait(self) -> bool:
        there = self.server.list_page(
            ORDER, lambda each: not is_ended(each), limit=1, page="", says_remaining=False
        )
        return bool(there.items)

    def help(self) -> list[str]:
        """The person on duty reads what is held and decides; what there was to decide."""
        pod = self.leader
        running = pod.controller.tenure if pod is not None else None
        if running is None or running.engine is None:
            return ["nobody leads"]
        if self._orders_wait() or running.store.orders():
            return ["orders wait"]
        done: list[str] = []
        orders = [
            (OrderKind.INCIDENT, i.id) for i in running.store.incidents() if i.cause == "pools"
        ]
        rollouts = running.store.rollouts()
        if rollouts and rollouts[-1].state is RolloutState.HALTED:
            orders.append((OrderKind.ROLLOUT, rollouts[-1].id))
        for asset, slot in running.engine.slots.items():
            reasons = {held.reason for held in slot.decision.held} if slot.decision else set()
            if reasons & (RELEASABLE | {Reason.MOVED}) and self._is_due(asset):
                orders.append((OrderKind.OVERRIDE, asset))
        for kind, target in orders:
            self.oracle.ordered(kind, target)
            self.order(kind, target)
            done.append(f"{kind} {target}")
        again = (
            {o.id for o in running.store.overlays()} & self._dropped if self.says_again else set()
        )
        for key in again - {LOST}:
            if self._is_due(key):
                self.order("release", key)
                done.append(f"release {key}")
        if any(overlay.id == LOST for overlay in running.store.overlays()) and self._is_due(LOST):
            # Who releases it has compared, as it asks: what is declared is brought about again.
            self.oracle.owed |= self.oracle.devices.keys()
            self._dropped.discard(LOST)
            self.drop_overlay(LOST)
            done.append(LOST)
        return done

    def _is_due(self, asset: str) -> bool:
        now = self.oracle.now()
        if now - self._ordered_s.get(asset, float("-inf")) < PATIENCE_S:
            return False
        self._ordered_s[asset] = now
        return True

    # --- what processes are told: the port `Watch` --------------------------------------------------------

    def told(self, process: Process, seen: Observation, address: str) -> None:
        """A look at an address came back."""
        self.looked(process)
        self.oracle.told(process, seen, address)

    def silent(self, process: Process, asset: str) -> None:
        """A look got no answer."""
        self.oracle.silent(process, asset)

    def intended(self, process: Process, operation: Operation) -> None:
        """Not asked of controllers: `sending` looks itself."""

    def moved(self, process: Process, operation: Operation) -> None:
        """Not asked of controllers either."""

    def answered(self, process: Process, asset: str, outcome: Outcome) -> None:
        """Nor this."""

    def sending(self, process: Process, asset: str, change: Change) -> None:
        """A driver was told to write."""
        self._look_for_intent(process, asset)
        self.oracle.sending(process, asset, change)

    def noted(self, process: Process, event: Event) -> None:
        """Events of a controller are for people."""


def _body(kind: Kind, name: str, spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": msgspec.to_builtins(spec),
    }


class Shard:
    """One object of the state, read when somebody asks."""

    def __init__(self, there: Object) -> None:
        self._spec = msgspec.json.decode(there.spec, type=StateShardSpec)
        self._rows: dict[str, dict[str, bytes]] | None = None
        self.fence = self._spec.fence

    def rows(self, table: str) -> dict[str, bytes]:
        """Key → record of a table."""
        if self._rows is None:
            self._rows = unpacked(self._spec.version, self._spec.data)
        return self._rows.get(table, {})
