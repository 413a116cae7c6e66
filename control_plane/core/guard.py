"""The guard's judgement: which machines are lowered now, so that no node stays above its cap.

It lowers, and nothing else: no order of it lifts what a machine may draw. Three bands per node (energy §5):
above `GUARD_CAP` of its cap it sheds down to `GUARD_TARGET`; below `GUARD_RELEASE` the node is free again,
and the engine may raise there. A meter that is fresh is believed. Where there is none, or it is silent,
machines are counted at what they may draw, and one that was lowered counts in full until it was read back.

Machines that do not obey are told again, then given up: others are lowered in their place, because the node
is still above its cap. Pure, but for what an instance remembers: times and readings come as arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf, isfinite
from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core.guard_bundle import Bundle, GuardDevice, Rung, checked, paths_of
from control_plane.core.guard_state import (
    Cause,
    Decision,
    NodeState,
    Order,
    Ordered,
    Page,
    Reading,
    State,
)
from control_plane.core.power import TOLERANCE_W

_DAWN: Final = NodeState()
_NEVER_S: Final = 0.0
"""Long ago."""
_LONGEST_STALE_S: Final = limits.METER_INTERVAL_MAX_S * limits.METER_STALE_INTERVALS


class Guard:
    """One site's. The one that made it alone uses it."""

    def __init__(
        self,
        bundle: Bundle,
        state: State | None = None,
        *,
        scale: float = 1.0,
        begun_s: float | None = None,
    ) -> None:
        """Nothing is decided before `look`.

        Args:
            bundle: what to keep to.
            state: of the guard before this one, or of this one under the bundle before.
            scale: seconds of `look` in one of the wire; 1 outside simulations.
            begun_s: when this process looked first; `None`: it has not.

        Raises:
            BundleError: it cannot be followed.
        """
        self._bundle = checked(bundle)
        state = state or State()
        self._scale = scale
        self._at_s = state.at_s
        self._nodes = {n.id: n for n in bundle.nodes}
        self._states = {n: state.nodes.get(n, _DAWN) for n in self._nodes}
        self._devices = {d.asset: d for d in bundle.devices}
        self._paths = paths_of(bundle.nodes)
        self._leaves_first = sorted(self._nodes, key=lambda n: (-len(self._paths[n]), n))
        self._ordered = {
            asset: kept
            for asset, one in state.ordered.items()
            if (kept := self._kept(asset, one, is_new=begun_s is None)) is not None
        }
        self.begun_s = begun_s
        """Until meters had time to answer since then, nobody is counted in their place."""
        self._unjudged: set[str] = set()
        """Nodes that were read since the last look."""
        self._below: dict[str, list[tuple[GuardDevice, int]]] = {}
        self._sums = dict.fromkeys(self._nodes, 0.0)
        for device in bundle.devices:
            self._sums[device.feed] += self._counted_w(device)

    @property
    def state(self) -> State:
        """What the next guard begins with."""
        return State(at_s=self._at_s, nodes=dict(self._states), ordered=dict(self._ordered))

    def _kept(self, asset: str, one: Ordered, *, is_new: bool) -> Ordered | None:
        """An order that still stands under this bundle."""
        device = self._devices.get(asset)
        if device is None:
            return None
        rungs = [i for i, r in enumerate(device.rungs) if r.power_w <= one.power_w + TOLERANCE_W]
        if not rungs:
            return None
        one = msgspec.structs.replace(one, rung=rungs[0], power_w=device.rungs[rungs[0]].power_w)
        if self._bundle.made_at_s <= one.told_s:
            # Told by a process that died: perhaps it never left.
            return _anew(one, one.tries) if is_new and not one.is_done else one
        if device.permitted_w <= one.power_w + TOLERANCE_W or not self._is_guarded(device):
            return None
        # The engine knew of the order, and counts more: what was lowered is not, or not any more.
        return _anew(one, 0)

    def _is_guarded(self, device: GuardDevice) -> bool:
        return any(self._states[node].is_guarded for node in self._paths[device.feed])

    @property
    def lowered(self) -> dict[str, tuple[Rung, float]]:
        """What machines were told to come down to, and when first, by asset."""
        return {a: (self._devices[a].rungs[o.rung], o.at_s) for a, o in self._ordered.items()}

    # --- what is seen ---------------------------------------------------------------------------------

    def read(self, node: str, reading: Reading) -> None:
        """A meter's word; one that is no number, or older than what is known already, is not heard."""
        state = self._states[node]
        if isfinite(reading.power_w) and reading.at_s >= state.read_at_s:
            self._states[node] = msgspec.structs.replace(
                state, power_w=reading.power_w, read_at_s=reading.at_s
            )
            self._unjudged.add(node)

    def done(self, asset: str, power_w: float, *, was_so: bool = False) -> None:
        """A machine was read back: it may draw so much, and no more.

        With `was_so` it was like that before anything was sent: nothing will show at any meter.
        """
        one = self._ordered.get(asset)
        if one is None or one.is_done or power_w > one.power_w + TOLERANCE_W:
            return
        drop_w = 0.0 if was_so else one.drop_w
        self._put(
            asset,
            msgspec.structs.replace(one, is_done=True, is_given_up=False, tries=1, drop_w=drop_w),
        )

    def failed(self, asset: str) -> None:
        """An order did not leave, or nothing came of it for sure: it is told again soon."""
        one = self._ordered.get(asset)
        if one is None or one.is_done:
            return
        shows_s = self._devices[asset].rungs[one.rung].shows_in_s
        told_s = self._at_s - shows_s + limits.GUARD_RETRY_S * self._scale
        self._put(asset, msgspec.structs.replace(one, drop_w=0.0, told_s=min(one.told_s, told_s)))

    # --- what follows ---------------------------------------------------------------------------------

    def look(self, now_s: float) -> Decision:
        """Decide, at one moment; time never goes back. What is ordered counts as told at `now_s`."""
        elapsed_s = now_s - self._at_s if self._at_s else 0.0
        # Nobody looked for longer: nobody knows what was carried meanwhile.
        elapsed_s = min(max(0.0, elapsed_s), limits.GUARD_METER_STALE_S * self._scale)
        self._at_s = now_s = max(now_s, self._at_s)
        self.begun_s = now_s if self.begun_s is None else self.begun_s
        loads = self._loads(now_s)
        on_its_way = self._on_its_way(now_s) if self._ordered else {}
        for node, watts in loads.items():
            self._heat(node, watts, elapsed_s)
        orders = self._again(now_s)
        exhausted: set[str] = set()
        over: set[str] = set()
        planned = dict.fromkeys(self._nodes, 0.0)
        for node in self._leaves_first:
            cap_w, watts = self._nodes[node].cap_w, loads[node] - planned[node]
            if watts <= cap_w * limits.GUARD_CAP or self._is_early(node, now_s):
                continue
            over.add(node)
            self._begin(node)
            new, got_w, left_w = self._relieved(node, watts, on_its_way.get(node, ()), now_s)
            orders += new
            if left_w > cap_w:
                exhausted.add(node)
            for above in self._paths[node]:
                planned[above] += got_w
        for node, watts in loads.items():
            if watts < self._nodes[node].cap_w * limits.GUARD_RELEASE:
                self._mark(node, is_guarded=False)
        return Decision(
            orders=tuple(orders),
            pages=self._pages(loads, over, exhausted, now_s),
            guarded=frozenset(n for n, s in self._states.items() if s.is_guarded),
        )

    # --- loads ---------------------------------------------------------------------------------------

    def _loads(self, now_s: float) -> dict[str, float]:
        """What each node carries, as far as anybody knows; never less than that."""
        loads = {n: self._sums[n] * (1 + self._nodes[n].bias) for n in self._nodes}
        for name in self._leaves_first:
            node, state = self._nodes[name], self._states[name]
            loads[name] += node.unmanaged_w
            if self._is_fresh(name, now_s):
                power_w = state.power_w or 0.0
                if name in self._unjudged:
                    beyond_w = max(0.0, power_w - loads[name])
                    self._states[name] = msgspec.structs.replace(state, beyond_w=beyond_w)
                loads[name] = power_w
            else:
                loads[name] += state.beyond_w
            if node.parent is not None:
                loads[node.parent] += loads[name]
        self._unjudged.clear()
        return loads

    def _is_fresh(self, node: str, now_s: float) -> bool:
        state = self._states[node]
        if self._nodes[node].meter is None or state.power_w is None:
            return False
        return now_s - state.read_at_s <= self._stale_s(node)

    def _stale_s(self, node: str) -> float:
        return self._nodes[node].stale_s * self._scale

    def _is_early(self, node: str, now_s: float) -> bool:
        """Whether its meter may still answer for the first time."""
        if self._nodes[node].meter is None or self.begun_s is None:
            return False
        stale_s = self._stale_s(node)
        was_silent = self._states[node].read_at_s < self.begun_s - stale_s
        return was_silent and now_s - self.begun_s <= stale_s

    def _counted_w(self, device: GuardDevice) -> float:
        """A machine that was lowered counts in full until it was read back."""
        one = self._ordered.get(device.asset)
        if one is None or not one.is_done:
            return device.permitted_w
        return device.rungs[one.rung].power_w

    def _on_its_way(self, now_s: float) -> dict[str, list[tuple[float, Ordered]]]:
        """Node → orders below it that no meter may show yet, and when they have to.

        From when a machine was told first: telling it again makes it no more likely to obey.
        """
        found: dict[str, list[tuple[float, Ordered]]] = {}
        for asset, one in self._ordered.items():
            device = self._devices[asset]
            shows_s = one.at_s + device.rungs[one.rung].shows_in_s
            if (
                one.is_given_up
                or not one.drop_w
                or shows_s < now_s - _LONGEST_STALE_S * self._scale
            ):
                continue
            for node in self._paths[device.feed]:
                found.setdefault(node, []).append((shows_s, one))
        return found

    def _heat(self, node: str, watts: float, elapsed_s: float) -> None:
        its, state = self._nodes[node], self._states[node]
        heat = min(1.0, its.curve.add(state.heat, watts / its.rating_w, elapsed_s))
        if heat != state.heat:
            self._states[node] = msgspec.structs.replace(state, heat=heat)

    # --- orders --------------------------------------------------------------------------------------

    def _begin(self, node: str) -> None:
        """Below a node that was well what was obeyed may have been undone since: it is told anew."""
        if self._states[node].is_guarded:
            return
        for asset, one in list(self._ordered.items()):
            device = self._devices[asset]
            if one.is_done and node in self._paths[device.feed] and not self._is_guarded(device):
                self._forget(asset)
        self._mark(node, is_guarded=True)

    def _relieved(
        self, node: str, watts: float, orders: Iterable[tuple[float, Ordered]], now_s: float
    ) -> tuple[list[Order], float, float]:
        """Orders for a node that is over, the watts of these, and what will be left that nobody lowers.

        What will go by itself counts. But a breaker that opens before that asks for more, of who is quicker:
        to tell as many slow ones again would come too late as well.
        """
        its, state = self._nodes[node], self._states[node]
        is_fresh = self._is_fresh(node, now_s)
        seen_s = state.read_at_s if is_fresh else now_s
        # A sum of counts falls when a machine is read back, a meter when its time has come.
        going = [(s, o) for s, o in orders if s > seen_s and (is_fresh or not o.is_done)]
        left_w = watts - sum(one.drop_w for _, one in going)
        new: list[Order] = []
        got_w = 0.0
        if left_w > its.cap_w * limits.GUARD_CAP:
            new, got_w = self._shed(node, left_w - its.cap_w * limits.GUARD_TARGET, now_s)
            left_w -= got_w
        bears_s = its.curve.left_s(state.heat, watts / its.rating_w) * limits.GUARD_PATIENCE
        in_time = sum(one.drop_w for s, one in going if s <= now_s + bears_s)
        in_time += sum(
            self._ordered[order.asset].drop_w for order in new if order.rung.shows_in_s <= bears_s
        )
        hot_w = watts - in_time - its.rating_w * limits.GUARD_CAP
        if hot_w > 0:
            more, quick_w = self._shed(node, hot_w, now_s, within_s=bears_s)
            return new + more, got_w + quick_w, left_w - quick_w
        return new, got_w, left_w

    def _shed(
        self, node: str, need_w: float, now_s: float, *, within_s: float = inf
    ) -> tuple[list[Order], float]:
        """Lower machines below a node, in the order of the bundle, until it is enough.

        Where all that counts is not, those are told too that should be down already.
        """
        drops: dict[str, tuple[int, float]] = {}
        down: dict[str, int] = {}
        got_w = 0.0
        for device, rung in self._candidates(node):
            if got_w >= need_w:
                break
            one, step = self._ordered.get(device.asset), device.rungs[rung]
            if device.locked_until_s > now_s or step.shows_in_s > within_s:
                continue
            if one is not None and (one.is_given_up or one.rung >= rung):
                continue
            at, dropped_w = drops.get(device.asset, (one.rung if one else -1, 0.0))
            above_w = device.permitted_w
            if at >= 0:
                above_w = min(above_w, device.rungs[at].power_w)
            drop_w = above_w - step.power_w
            if drop_w <= 0:
                down[device.asset] = rung
                continue
            got_w += drop_w
            drops[device.asset] = (rung, dropped_w + drop_w)
        if got_w < need_w:
            for asset, rung in down.items():
                if asset not in self._ordered:
                    drops.setdefault(asset, (rung, 0.0))
        for asset, (rung, drop_w) in drops.items():
            power_w = self._devices[asset].rungs[rung].power_w
            self._put(
                asset,
                Ordered(
                    rung=rung, power_w=power_w, drop_w=drop_w, at_s=now_s, told_s=now_s, node=node
                ),
            )
        return [self._order(asset) for asset in drops], got_w

    def _again(self, now_s: float) -> list[Order]:
        """Tell those again that were not read back in their time; after some tries they are given up.

        Given up is not forgotten: they are told now and then, for as long as their node is in need.
        """
        found: list[Order] = []
        for asset, one in list(self._ordered.items()):
            device = self._devices[asset]
            waits_s = device.rungs[one.rung].shows_in_s
            if one.is_given_up:
                waits_s = limits.GUARD_GIVEN_UP_S
            if one.is_done or now_s < one.told_s + waits_s or not self._is_guarded(device):
                continue
            if device.locked_until_s > now_s:
                continue
            is_given_up = one.tries >= limits.GUARD_TRIES
            if is_given_up and not one.is_given_up:
                self._put(asset, msgspec.structs.replace(one, is_given_up=True))
                continue
            self._put(asset, msgspec.structs.replace(one, told_s=now_s, tries=one.tries + 1))
            found.append(self._order(asset))
        return found

    def _candidates(self, node: str) -> list[tuple[GuardDevice, int]]:
        if node not in self._below:
            self._below[node] = [
                (device, rung)
                for index, rung in self._bundle.order
                if node in self._paths[(device := self._bundle.devices[index]).feed]
            ]
        return self._below[node]

    def _order(self, asset: str) -> Order:
        one = self._ordered[asset]
        return Order(asset=asset, rung=self._devices[asset].rungs[one.rung], node=one.node)

    # --- the rest ------------------------------------------------------------------------------------

    def _pages(
        self, loads: Mapping[str, float], over: set[str], exhausted: set[str], now_s: float
    ) -> tuple[Page, ...]:
        pages: list[Page] = []
        for node in self._leaves_first:
            its, watts = self._nodes[node], loads[node]
            figures = f"{watts / 1e3:,.1f} kW of {its.cap_w / 1e3:,.1f} kW"
            if node in exhausted:
                detail = f"{figures}, and nothing below it is left to lower"
                pages.append(Page(node=node, cause=Cause.EXHAUSTED, detail=detail))
            elif node in over and not self._has(over, below=node):
                pages.append(Page(node=node, cause=Cause.OVER, detail=f"{figures}; it is shed"))
            is_blind = its.meter is not None and not self._is_fresh(node, now_s)
            if is_blind and not self._is_early(node, now_s):
                detail = f"meter {its.meter} says nothing; what is below counts at {figures}"
                pages.append(Page(node=node, cause=Cause.NO_METER, detail=detail))
        deaf = [self._devices[a] for a, one in self._ordered.items() if one.is_given_up]
        if deaf:
            node = self._above_all(deaf)
            detail = f"{len(deaf)} told {limits.GUARD_TRIES} times: " + ", ".join(
                device.asset for device in deaf[:3]
            )
            pages.append(Page(node=node, cause=Cause.DISOBEY, detail=detail))
        return tuple(sorted(pages))

    def _has(self, nodes: Iterable[str], *, below: str) -> bool:
        return any(node != below and below in self._paths[node] for node in nodes)

    def _above_all(self, devices: Iterable[GuardDevice]) -> str:
        """The lowest node that all of them hang below."""
        paths = [self._paths[device.feed] for device in devices]
        return next(node for node in paths[0] if all(node in path for path in paths))

    def _mark(self, node: str, *, is_guarded: bool) -> None:
        state = self._states[node]
        if state.is_guarded != is_guarded:
            self._states[node] = msgspec.structs.replace(state, is_guarded=is_guarded)

    def _put(self, asset: str, one: Ordered) -> None:
        device = self._devices[asset]
        self._sums[device.feed] -= self._counted_w(device)
        self._ordered[asset] = one
        self._sums[device.feed] += self._counted_w(device)

    def _forget(self, asset: str) -> None:
        device = self._devices[asset]
        self._sums[device.feed] -= self._counted_w(device)
        del self._ordered[asset]
        self._sums[device.feed] += self._counted_w(device)


def _anew(one: Ordered, tries: int) -> Ordered:
    """The same order, told at the next look."""
    return msgspec.structs.replace(
        one, is_done=False, is_given_up=False, told_s=_NEVER_S, tries=max(0, tries - 1)
    )
