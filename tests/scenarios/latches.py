"""What must stop by itself: contests, writes that do not stick, storms, lost racks, waves and gates.

The same stance as the oracle's: worked out from what processes were told and from what arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from control_plane.core import limits
from control_plane.core.change import Change, SetPools, StopMining, kind_of
from control_plane.core.decision import Why
from control_plane.core.fleet import Device, Site
from control_plane.core.observation import Settings
from control_plane.core.verify import Operation
from control_plane.engine.records import OrderKind
from control_plane.simulator.ledger import Write
from tests.scenarios import facts

NOTICE_S = 5.0
"""Wire seconds within which what many devices tell is one incident."""
Violate = Callable[[str, str], None]


class Latches:
    """One per oracle."""

    def __init__(self, site: Site, now: Callable[[], float], violate: Violate) -> None:
        self._now, self._violate = now, violate
        self._devices: dict[str, Device] = {}
        self._racks: dict[str, list[str]] = {}
        self._as_declared: set[str] = set()
        """Devices whose last told pools were the declared ones."""
        self._foreign: set[str] = set()
        """Devices that were so, and are not any more."""
        self._episodes: dict[str, int] = {}
        self._storm_s: float | None = None
        self._storm_released = False
        self._tries: dict[tuple[str, str], int] = {}
        self._turned_away_s: dict[tuple[str, str], float] = {}
        """(process, asset) → device time of the last write that a closed write interface refused."""
        self._told_off: set[tuple[str, str]] = set()
        """Of those, where the process has heard of it: an answer may be lost on the way."""
        self._heard: set[str] = set()
        self._silent_s: dict[str, float] = {}
        self._lost_s: dict[str, float] = {}
        """Rack → wire time since which it counts as lost."""
        self.subjects: set[str] = set()
        self._reached: set[str] = set()
        self.accepted(site)

    # --- what people decide -----------------------------------------------------------------------

    def accepted(self, site: Site) -> None:
        """A revision is in force: what it changes is counted anew."""
        before = self._devices
        self._devices = {device.asset: device for device in site.devices}
        self._racks = {
            rack: [d.asset for d in site.devices if d.rack == rack] for rack in site.racks
        }
        changed = {
            asset
            for asset, device in self._devices.items()
            if asset not in before or before[asset].desired() != device.desired()
        }
        if changed:
            self.subjects, self._reached = changed, set()
        for asset in changed | (before.keys() - self._devices.keys()):
            self._forget(asset)

    def ordered(self, kind: OrderKind, target: str) -> None:
        """A person decided about a device or an incident."""
        self._forget(target)
        self._reached.discard(target)
        self.subjects.discard(target)
        if kind is OrderKind.INCIDENT:
            self._storm_released = True
            self._lost_s.clear()

    def overlaid(self, assets: Iterable[str]) -> None:
        """An overlay came or went: its devices change without a wave."""
        self.subjects -= set(assets)

    def started(self) -> None:
        """A process starts; what the one before saw last may not have been kept."""
        self._as_declared.clear()
        self._heard.clear()
        self._silent_s.clear()
        self._lost_s.clear()

    def forget_storm(self) -> None:
        """Nobody who acts knows of it: what the process before noted was not kept."""
        if self._storm_s is not None:
            self._storm_s = self._now()

    def _forget(self, asset: str) -> None:
        self._as_declared.discard(asset)
        self._foreign.discard(asset)
        self._episodes.pop(asset, None)
        for key in [key for key in self._tries if key[0] == asset]:
            del self._tries[key]

    # --- what is told ---------------------------------------------------------------------------------

    def told(self, device: Device, have: Settings) -> None:
        """A look came back from the pinned machine."""
        asset = device.asset
        self._heard.add(asset)
        self._silent_s.pop(asset, None)
        self._watch_lost(device.rack)
        if have.pools is None:
            return
        if have.pools == (device.desired().pools or ()):
            self._as_declared.add(asset)
            self._foreign.discard(asset)
        elif asset in self._as_declared:
            self._as_declared.discard(asset)
            self._foreign.add(asset)
            self._episodes[asset] = self._episodes.get(asset, 0) + 1
        self._watch_storm()

    def as_written(self, asset: str, change: Change) -> None:
        """A device reads as a write asked."""
        self._tries.pop((asset, kind_of(change)), None)

    def silent(self, asset: str) -> None:
        """A look got no answer."""
        if asset in self._heard and asset in self._devices:
            self._silent_s.setdefault(asset, self._now())
            self._watch_lost(self._devices[asset].rack)

    def _watch_storm(self) -> None:
        if len(self._foreign) <= limits.STORM_FLOOR:
            # A person may release what this count, which begins anew with each process, has not reached yet.
            if self._storm_s is not None or not self._foreign:
                self._storm_released = False
            self._storm_s = None
        elif self._storm_s is None:
            self._storm_s = self._now()

    def _watch_lost(self, rack: str) -> None:
        known = [asset for asset in self._racks[rack] if asset in self._heard]
        lost = [self._silent_s[asset] for asset in known if asset in self._silent_s]
        window_s = limits.CORRELATED_WINDOW_S / 2
        together = lost and self._now() - min(lost) < window_s
        many = len(lost) >= max(limits.CORRELATED_FLOOR, limits.CORRELATED_SHARE * len(known))
        if many and (together or rack in self._lost_s):
            self._lost_s.setdefault(rack, self._now())
        else:
            self._lost_s.pop(rack, None)

    # --- what is judged ---------------------------------------------------------------------------------

    def intended(
        self, operation: Operation, device: Device, *, lowers: bool, reach: int | None
    ) -> None:
        """An intent is durable; `reach` is how many devices the open wave may have reached."""
        asset, change, now = operation.asset, operation.change, self._now()
        what = f"{kind_of(change)} to {asset}"
        if (
            isinstance(change, SetPools)
            and self._episodes.get(asset, 0) > limits.REDRIFTS_TO_CONTEST
        ):
            self._violate(
                "contest", f"{what}, whose pools were changed {self._episodes[asset]} times"
            )
        if lowers and not isinstance(change, SetPools):
            return
        storm_s = self._storm_s
        if storm_s is not None and not self._storm_released and now - storm_s > NOTICE_S:
            self._violate(
                "storm", f"{what} while {len(self._foreign)} devices were hijacked at once"
            )
        if now - self._lost_s.get(device.rack, now) > NOTICE_S:
            self._violate("lost", f"{what} while {device.rack} is lost")
        if operation.why == Why.ROLLOUT and asset in self.subjects and reach is not None:
            self._reached.add(asset)
            if len(self._reached) > reach:
                self._violate("wave", f"{what}: {len(self._reached)} reached, the wave has {reach}")

    def turned_away(self, process: str, write: Write) -> None:
        """A write arrived at a device whose write interface is off: a process tries that once an hour."""
        key = (process, write.asset)
        last_s = self._turned_away_s.get(key) if key in self._told_off else None
        self._turned_away_s[key] = write.at_device_s
        self._told_off.discard(key)
        if last_s is not None and write.at_device_s - last_s < limits.WRITE_ACCESS_RETRY_S / 2:
            # Half of it: from an intent to its arrival, wire seconds are minutes of the device.
            gap_s = write.at_device_s - last_s
            self._violate("stuck", f"{write.kind} to {write.asset}, shut {gap_s:.0f} device s ago")

    def told_off(self, process: str, asset: str) -> None:
        """A process was told that its last write came to nothing."""
        self._told_off.add((process, asset))

    def wrote(self, asset: str, change: Change) -> None:
        """A write arrived."""
        if isinstance(change, StopMining):
            return
        key = (asset, kind_of(change))
        self._tries[key] = self._tries.get(key, 0) + 1
        if self._tries[key] > limits.MAX_ATTEMPTS:
            self._violate("stuck", f"{key[1]} to {asset} for the {self._tries[key]}th time")


def reads_as(have: Settings, change: Change) -> bool:
    """Whether settings show what a change asked for."""
    want = facts.after(Settings(), change)
    pairs: tuple[tuple[object, object], ...] = (
        (want.pools, have.pools),
        (want.mining, have.mining),
        (want.power_mode, have.power_mode),
        (want.power_limit_w, have.power_limit_w),
    )
    return all(wanted is None or wanted == told for wanted, told in pairs)
