"""Orders in a cluster: each is obeyed once by the leader, durably, before it is told to be `Ready`.

A leader that ends in the middle leaves the order open, and the next one obeys it again. So an order about
one thing waits until the one before it is told, and what was said after a release is not ended by it.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from control_plane.api.conditions import Told, ready, stalled
from control_plane.api.objects import OrderSpec
from control_plane.core.cluster import ClusterError, Conflict, NotFound, Object
from control_plane.core.errors import StoreBusy
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.rollout import RolloutState
from control_plane.engine.queue import Priority
from control_plane.engine.records import Order, OrderKind
from control_plane.kube.kinds import ORDER
from control_plane.kube.remedy_orders import OF_REMEDIES, gone_on, heard, is_of_software
from control_plane.kube.saying import (
    Malformed,
    Refused,
    ended_at_s,
    nothing_to_do,
    order_told,
    pin_in,
    read_spec,
    site_of,
)
from control_plane.kube.words import LOOK_S, Desk, Sitting, Words

ORDER_KEPT_S = 86_400.0
"""Policy seconds that an order is kept for people after it was obeyed or refused."""
_AT_ONCE = 100
"""Orders that are obeyed together, at most."""
_OF_DEVICES = frozenset({OrderKind.TRUST, OrderKind.OVERRIDE, OrderKind.CONTESTED, OrderKind.STUCK})


class _Done(msgspec.Struct, frozen=True):
    """An order whose effect is in the Store, and has to become durable."""

    order: Object
    told: list[Told]
    goes: Object | None = None
    """The overlay that goes with it."""
    released: str = ""
    """Name of an overlay that goes as well where only the API server knows of its object."""


class Obeying:
    """Carries the `Order` objects of one site into the Store. `serve` it during the tenure."""

    def __init__(self, desk: Desk, words: Words) -> None:
        """Nothing is asked before `serve`; one for the life of the process."""
        self._desk, self._words = desk, words
        self._orders = desk.caches[ORDER.plural]
        self._ended: dict[str, list[Told]] = {}
        """By uid: durably obeyed, or refused; what is told of it may not stand there yet."""
        self._trouble = ""

    async def serve(self, sitting: Sitting) -> None:
        """Obey, for ever.

        Raises:
            FenceLost: another leader has taken over.
            StoreError: the local disk does not take what was ordered.
        """
        desk = self._desk
        left: dict[str, Order] = {}
        while True:
            trouble = ""
            try:
                if desk.is_live():
                    await self._turn(sitting, left)
            except (ClusterError, StoreBusy) as error:
                trouble = str(error)
            if trouble and trouble != self._trouble:
                desk.say(f"orders wait: {trouble}", kind="order", level="warning")
            self._trouble = trouble
            await desk.clock.wire_sleep(LOOK_S)

    async def _turn(self, sitting: Sitting, left: dict[str, Order]) -> None:
        open_ = await self._open()
        uids = {each.metadata.uid for each in open_}
        self._ended = {uid: told for uid, told in self._ended.items() if uid in uids}
        turn = list(_first_of_each(open_))[:_AT_ONCE]
        waits = [order for _, order in sitting.store.orders()]
        done: list[_Done] = []
        for each in turn:
            uid = each.metadata.uid
            if uid not in self._ended and left.get(uid) not in waits:
                found = self._obey(each, sitting, left)
                if found is not None:
                    done.append(found)
        if done:
            await sitting.durable()
            for one in done:
                goes = one.goes
                if one.released:
                    goes = await self._words.unheard(
                        one.released, until=one.order.metadata.creation_timestamp
                    )
                if goes is not None:
                    if not self._desk.is_live():
                        raise StoreBusy("this process does not lead any more")
                    await self._words.remove(goes)
                uid = one.order.metadata.uid
                self._ended[uid] = one.told
                left.pop(uid, None)
        for each in turn:
            if each.metadata.uid in self._ended:
                self._tell(each, self._ended[each.metadata.uid])

    async def _open(self) -> list[Object]:
        """Orders for this site that were not ended, in the order in which they were said."""
        now_s, open_ = self._desk.clock.wall_s(), []
        for each in list(self._orders):
            if site_of(each) != self._desk.site:
                continue
            ended_s = ended_at_s(each)
            if ended_s is None:
                open_.append(each)
            elif now_s - ended_s >= ORDER_KEPT_S and self._desk.is_live():
                await self._forget(each)
        return sorted(open_, key=lambda o: (o.metadata.creation_timestamp, o.metadata.name))

    async def _forget(self, each: Object) -> None:
        meta = each.metadata
        try:
            await self._desk.cluster.delete(
                ORDER, meta.name, namespace=meta.namespace, uid=meta.uid
            )
        except (NotFound, Conflict):
            return  # gone already

    def _tell(self, each: Object, told: list[Told]) -> None:
        if not self._orders.is_behind(each.key):
            status = order_told(each, told, self._desk.clock.wall_s())
            self._desk.writer.want(self._orders, each, status, Priority.CHANGE)

    # --- one order -----------------------------------------------------------------------------------

    def _obey(self, each: Object, sitting: Sitting, left: dict[str, Order]) -> _Done | None:
        """Have the effect of an order in the Store; `None` where the engine has yet to hear it."""
        uid = each.metadata.uid
        if uid in left:
            # It was left for the engine, and waits there no more.
            return _Done(each, [ready("True", "Obeyed", f"{left[uid].kind} is obeyed")])
        try:
            spec = read_spec(each, OrderSpec)
            if spec.kind == "release":
                return self._release(each, spec, sitting)
            if spec.kind == "unplugged":
                return _unplugged(each, spec, sitting)
            declared = sitting.declared()
            if declared is None:
                return None  # nothing is in force: the engine begins later
            if spec.kind in OF_REMEDIES:
                now_s = self._desk.clock.wall_s()
                return _Done(each, [heard(spec, sitting.store, declared, now_s=now_s)])
            if is_of_software(spec, sitting.store):
                now_s = self._desk.clock.wall_s()
                return _Done(each, [gone_on(spec, sitting.store, now_s=now_s)])
            order = _for_engine(spec, sitting)
        except (Malformed, Refused) as error:
            reason = "Malformed" if isinstance(error, Malformed) else "Refused"
            words = str(error)
            self._ended[uid] = [stalled(reason, words), ready("False", reason, words)]
            return None
        if order is None:
            return _Done(each, [nothing_to_do(f"{spec.kind} {spec.target} has nothing to end")])
        sitting.store.put_order(order)
        left[uid] = order
        return None

    def _release(self, each: Object, spec: OrderSpec, sitting: Sitting) -> _Done:
        """End a hold or a freeze.

        Raises:
            Refused: whoever asks may not.
        """
        self._words.hear(sitting)
        store, now_s = sitting.store, self._desk.clock.wall_s()
        overlay = next((o for o in store.overlays() if o.id == spec.target), None)
        if overlay is not None:
            _refuse_another(overlay, spec)
            if any(one.id == overlay.id for one in self._words.annotated.said(now_s)):
                what = overlay.id.rpartition(".")[2]
                raise Refused(
                    f"{overlay.node} still has the annotation gridplane.dev/{what}: remove that first"
                )
            if self._is_later(overlay, spec, each):
                raise Refused(f"{overlay.id} was said after this order: release it anew")
        goes = self._words.drop(spec.target, store)
        released = spec.target if self._words.object_named(spec.target) is None else ""
        if overlay is None and goes is None:
            nothing = nothing_to_do(f"nothing named {spec.target} is in force")
            return _Done(each, [nothing], released=released)
        what = f"{overlay.kind} of {overlay.owner} on {overlay.node}" if overlay else spec.target
        return _Done(each, [ready("True", "Released", f"{what} is released")], goes, released)

    def _is_later(self, overlay: Overlay, spec: OrderSpec, each: Object) -> bool:
        """Whether an overlay was said after the order to release it, by both clocks that tell."""
        found = self._words.object_named(overlay.id)
        ordered_at = each.metadata.creation_timestamp
        return (
            overlay.since_s > spec.at.timestamp()
            and found is not None
            and found.metadata.creation_timestamp > ordered_at
        )


def _refuse_another(overlay: Overlay, spec: OrderSpec) -> None:
    if overlay.kind is OverlayKind.SAFETY_HOLD and overlay.owner != spec.by:
        raise Refused(
            f"{overlay.id} is a safety hold of {overlay.owner} on {overlay.node}: only {overlay.owner} "
            f"releases it ({overlay.reason})"
        )


def _unplugged(each: Object, spec: OrderSpec, sitting: Sitting) -> _Done:
    if all(device.asset != spec.target for device in sitting.store.released()):
        return _Done(each, [nothing_to_do(f"{spec.target} is not counted")])
    sitting.store.drop_released([spec.target])
    return _Done(each, [ready("True", "Obeyed", f"{spec.target} is no longer counted")])


def _for_engine(spec: OrderSpec, sitting: Sitting) -> Order | None:
    """The order as the engine is told it; `None` where there is nothing to end.

    Raises:
        Refused: it is about nothing that there is, or lacks what it needs.
    """
    kind, store, declared = OrderKind(spec.kind), sitting.store, sitting.declared()
    if kind in _OF_DEVICES and declared is not None:
        known = any(device.asset == spec.target for device in declared.devices)
        if not known and store.memory(spec.target) is None:
            raise Refused(f"{declared.id} has no device '{spec.target}'")
    if kind is OrderKind.TRUST and spec.pin is None:
        raise Refused("an order `trust` needs a pin: the MAC, the serial or both of the machine")
    if kind is OrderKind.ROLLOUT:
        rollout = next((r for r in store.rollouts() if r.id == spec.target), None)
        if rollout is None:
            raise Refused(f"there is no rollout '{spec.target}'")
        if rollout.state is not RolloutState.HALTED:
            return None
    if kind is OrderKind.FIRMWARE and all(f.id != spec.target for f in store.firmware()):
        raise Refused(f"there is no firmware rollout '{spec.target}'")
    if kind is OrderKind.CREDENTIALS and all(r.id != spec.target for r in store.rotations()):
        raise Refused(f"there is no rotation '{spec.target}'")
    if kind is OrderKind.INCIDENT and all(i.id != spec.target for i in store.incidents()):
        return None
    return Order(
        kind=kind,
        target=spec.target,
        by=spec.by,
        at_s=spec.at.timestamp(),
        pin=pin_in(spec.pin) if spec.pin else None,
        through=spec.through,
    )


class _About(msgspec.Struct):
    target: str = ""


def _first_of_each(orders: list[Object]) -> Iterator[Object]:
    """The oldest order about each thing: the one after it waits until that is told."""
    seen = set()
    for each in orders:
        try:
            target = msgspec.json.decode(each.spec, type=_About).target
        except msgspec.DecodeError:
            target = each.key
        if target not in seen:
            seen.add(target)
            yield each
