"""What must hold of racks and of the record of who stands in them; sums the declared draw by feed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from control_plane.api.v1alpha1 import GpuRackDoc, RackDoc
from control_plane.core.diff import permitted_w
from control_plane.core.fleet import DeviceKind, DeviceType, SlotState
from control_plane.inventory import errors
from control_plane.inventory.check_firmware import versions_of
from control_plane.inventory.choices import Choice, RackSource, choices_of, slot_ranges
from control_plane.inventory.expand import (
    Shared,
    declared,
    gpu_sources,
    rack_sources,
    rows_by_rack,
)
from control_plane.inventory.placement import Row, Table
from control_plane.inventory.problems import Problems
from control_plane.inventory.source import Spot, quoted
from control_plane.inventory.tree import SiteTree, Tree

_BIN_LOW: Final = 0.6
_BIN_HIGH: Final = 1.4
_LISTED: Final = 8
"""Slot numbers that a finding lists before it only counts."""

_SLOT_NAME: Final = re.compile(r"(.+)-[sn][0-9]+").fullmatch
"""What unrecorded slots, vacant ones and GPU nodes are called."""

Source = RackSource[RackDoc | GpuRackDoc]


class SlotCheck:
    """Checks the sites of one tree; what concerns shared files is said once for all of them."""

    def __init__(self, tree: Tree, shared: Shared, problems: Problems) -> None:
        self._tree = tree
        self._shared = shared
        self._problems = problems
        self._said: set[tuple[str, ...]] = set()
        self._assets: dict[str, tuple[Table, Row]] = {}

    def check(self, site: SiteTree, feeds: Collection[str] | None) -> dict[str, float]:
        """Check a site's racks and records; declared watts by feed.

        `feeds`: the known feeds; `None` where they could not be read.
        """
        watts: dict[str, float] = {}
        self._hosts(site, feeds, watts)
        rows = rows_by_rack(site)
        for source in rack_sources(site):
            self._feed(source, source.rack.feed, feeds)
            self._overrides(source)
            placed = rows.get(source.rack.id, {})
            load = self._miners(source, placed, site)
            watts[source.rack.feed] = watts.get(source.rack.feed, 0.0) + load
        for gpu in gpu_sources(site):
            rack = gpu.rack
            self._feed(gpu, rack.feed, feeds)
            choice = Choice(rack.owner, rack.type, rack.profile)
            kind = self._fits(gpu, choice, DeviceKind.GPU_NODE, None)
            if kind is not None:
                watts[rack.feed] = watts.get(rack.feed, 0.0) + rack.nodes * kind.nominal.power_w
        self._records(site)
        return {feed: load for feed, load in watts.items() if feeds is None or feed in feeds}

    # -- names --------------------------------------------------------------------------------

    def _hosts(
        self, site: SiteTree, feeds: Collection[str] | None, watts: dict[str, float]
    ) -> None:
        for file in site.hosts:
            for index, host in enumerate(file.data.hosts):
                watts[host.feed] = watts.get(host.feed, 0.0) + host.power_w
                if feeds is not None and host.feed not in feeds:
                    what = f"host {quoted(host.name)} hangs on feed {quoted(host.feed)}"
                    spot = file.doc.spot("hosts", index, "feed")
                    self._problems.add(
                        errors.UNKNOWN_FEED, file.doc, spot, what, word=host.feed, known=feeds
                    )

    def _feed(self, source: Source, feed: str, feeds: Collection[str] | None) -> None:
        if feeds is not None and feed not in feeds:
            what = f"rack {quoted(source.rack.id)} hangs on feed {quoted(feed)}"
            spot = source.spot("feed")
            self._problems.add(errors.UNKNOWN_FEED, source.doc, spot, what, word=feed, known=feeds)

    def _overrides(self, source: RackSource[RackDoc]) -> None:
        rack, taken = source.rack, dict[int, int]()
        for index, override in enumerate(rack.overrides):
            spot = source.spot("overrides", index, "slots")
            if not (override.owner or override.type or override.profile):
                what = f"override {quoted(override.slots)} of rack {quoted(rack.id)} sets nothing"
                self._problems.add(errors.OVERRIDE_OVERLAP, source.doc, spot, what)
            for low, high in slot_ranges(override.slots):
                if not 1 <= low <= high <= rack.slots:
                    what = f"slots {quoted(override.slots)} of rack {quoted(rack.id)}, which has "
                    what += f"1 to {rack.slots}"
                    self._problems.add(errors.SLOT_OUTSIDE, source.doc, spot, what)
                    break
                twice = [slot for slot in range(low, high + 1) if slot in taken]
                if twice:
                    what = f"slot {twice[0]} of rack {quoted(rack.id)} is in override "
                    what += f"{taken[twice[0]] + 1} and in {index + 1}"
                    self._problems.add(errors.OVERRIDE_OVERLAP, source.doc, spot, what)
                    break
                taken.update(dict.fromkeys(range(low, high + 1), index))

    # -- slots --------------------------------------------------------------------------------

    def _miners(
        self,
        source: RackSource[RackDoc],
        placed: Mapping[int, tuple[Table, Row]],
        site: SiteTree,
    ) -> float:
        """Check every slot of a rack; the watts that are declared in it."""
        rack = source.rack
        self._absent(source, placed, site)
        choices = choices_of(source)
        ownerless = [slot for slot, choice in enumerate(choices, 1) if choice.owner is None]
        if ownerless:
            what = f"rack {quoted(rack.id)}: {_slots(ownerless)} without owner"
            self._problems.add(errors.NO_OWNER, source.doc, source.spot("id"), what)
        kinds: dict[tuple[Choice, str], tuple[DeviceType | None, float]] = {}
        total_w = 0.0
        for slot, choice in enumerate(choices, 1):
            record = placed.get(slot)
            key = (choice, record[1].type if record else "")
            if key not in kinds:
                kinds[key] = self._kind(source, choice, record)
            kind, watts = kinds[key]
            if record is None or record[1].state is not SlotState.VACANT:
                total_w += watts
            if record is not None:
                self._record(source, record, kind)
        return total_w

    def _kind(
        self, source: RackSource[RackDoc], choice: Choice, record: tuple[Table, Row] | None
    ) -> tuple[DeviceType | None, float]:
        """The type of slots of one choice, and its watts as declared."""
        kind = self._fits(source, choice, DeviceKind.MINER, record)
        profile = self._shared.profiles.get(choice.profile)
        if kind is None or profile is None:
            return kind, 0.0
        return kind, permitted_w(kind, declared(profile.data))

    def _absent(
        self,
        source: RackSource[RackDoc],
        placed: Mapping[int, tuple[Table, Row]],
        site: SiteTree,
    ) -> None:
        rack = source.rack
        if rack.placement == "by_slot":
            for table, row in list(placed.values())[:1]:
                what = f"rack {quoted(rack.id)} has placement by_slot, and a record"
                spot = table.cell(row.line, "rack")
                self._problems.add(errors.CONTRADICTION, table, spot, what)
            if _is_searched(rack):
                what = f"rack {quoted(rack.id)} is on DHCP and records no MACs (placement by_slot)"
                spot = source.spot("addressing")
                self._problems.add(errors.NOT_LOCATABLE, source.doc, spot, what)
            return
        missing = [slot for slot in range(1, rack.slots + 1) if slot not in placed]
        if missing and "placement" not in site.torn:
            what = f"rack {quoted(rack.id)}: {_slots(missing)} without a row in placement/"
            self._problems.add(errors.SLOT_WITHOUT_ROW, source.doc, source.spot("id"), what)

    def _record(
        self, source: RackSource[RackDoc], record: tuple[Table, Row], kind: DeviceType | None
    ) -> None:
        """Hold one record against its rack and type."""
        table, row = record
        if row.state is SlotState.VACANT:
            if row.serial or row.mac or row.asset != f"{row.rack}-s{row.slot}":
                what = f"slot {row.slot} of rack {quoted(row.rack)} is vacant, and has a machine"
                fix = "empty asset, serial and mac, or correct the state"
                self._problems.add(
                    errors.CONTRADICTION, table, table.cell(row.line, "state"), what, fix=fix
                )
            return
        if _is_searched(source.rack) and not row.mac:
            what = f"{quoted(row.asset)} is on DHCP and has no MAC"
            self._problems.add(errors.NOT_LOCATABLE, table, table.cell(row.line, "mac"), what)
        wrong = _contradiction(row, kind)
        if wrong is not None:
            self._problems.add(
                errors.CONTRADICTION, table, table.cell(row.line, wrong[0]), wrong[1]
            )
        if row.bin_ths is not None and kind is not None:
            nominal = kind.nominal.hashrate_ths
            if not _BIN_LOW * nominal <= row.bin_ths <= _BIN_HIGH * nominal:
                what = f"bin of {row.bin_ths:g} TH/s; a unit of {kind.id} has {nominal:g}"
                self._problems.add(errors.BAD_BIN, table, table.cell(row.line, "bin_ths"), what)

    def _records(self, site: SiteTree) -> None:
        """No machine twice, no slot twice, no rack that nobody declares."""
        racks = {source.rack.id: source.rack for source in rack_sources(site)}
        named = {*racks, *(gpu.rack.id for gpu in gpu_sources(site))}
        # Slots, MACs and serials within the site; assets are one of a kind in the whole fleet.
        seen: dict[tuple[str, str | int], Row] = {}
        for table in site.placement:
            for row in table.rows:
                rack = racks.get(row.rack)
                if rack is None:
                    self._no_rack(table, row, site, racks)
                elif not 1 <= row.slot <= rack.slots:
                    what = f"slot {row.slot} of rack {quoted(rack.id)}, which has 1 to {rack.slots}"
                    spot = table.cell(row.line, "slot")
                    self._problems.add(errors.SLOT_OUTSIDE, table, spot, what)
                for column, key in (
                    ("slot", (row.rack, row.slot)),
                    ("mac", ("mac", row.mac)),
                    ("serial", ("serial", row.serial)),
                ):
                    if not key[1]:
                        continue
                    if key in seen:
                        other = seen[key].asset
                        what = f"{column} {quoted(key[1])} of {quoted(row.asset)} is also of {quoted(other)}"
                        spot = table.cell(row.line, column)
                        self._problems.add(errors.DUPLICATE_RECORD, table, spot, what)
                    else:
                        seen[key] = row
                if row.state is SlotState.VACANT:
                    continue
                slot_of = _SLOT_NAME(row.asset)
                if slot_of and slot_of[1] in named:
                    what = f"asset {quoted(row.asset)} is the name of a slot of rack {quoted(slot_of[1])}"
                    spot = table.cell(row.line, "asset")
                    self._problems.add(errors.DUPLICATE_RECORD, table, spot, what)
                before = self._assets.setdefault(row.asset, (table, row))
                if before[1] is not row:
                    what = f"asset {quoted(row.asset)} stands at {before[0].path}:{before[1].line} already"
                    spot = table.cell(row.line, "asset")
                    self._problems.add(errors.DUPLICATE_RECORD, table, spot, what)

    def _no_rack(self, table: Table, row: Row, site: SiteTree, racks: Collection[str]) -> None:
        if "racks" in site.torn or not self._first("rack", site.name, table.path, row.rack):
            return
        what = f"{quoted(row.asset)} stands in rack {quoted(row.rack)}, which is not declared"
        spot = table.cell(row.line, "rack")
        self._problems.add(errors.UNKNOWN_RACK, table, spot, what, word=row.rack, known=racks)

    # -- what fits what -----------------------------------------------------------------------

    def _first(self, *key: str) -> bool:
        if key in self._said:
            return False
        self._said.add(key)
        return True

    def _fits(
        self,
        source: Source,
        choice: Choice,
        wanted: DeviceKind,
        record: tuple[Table, Row] | None,
    ) -> DeviceType | None:
        """Check names and combinations of a choice; its type, where that is known."""
        rack, problems, shared = source.rack, self._problems, self._shared
        by_row = record is not None and bool(record[1].type)
        type_id = record[1].type if record is not None and by_row else choice.type
        for code, name, path, known in (
            (errors.UNKNOWN_OWNER, choice.owner, choice.owner_path, self._tree.owners),
            (errors.UNKNOWN_TYPE, choice.type, choice.type_path, self._tree.types),
            (errors.UNKNOWN_PROFILE, choice.profile, choice.profile_path, self._tree.profiles),
        ):
            at = (source.doc.path, str(source.index), str(path), str(name))
            if name is not None and name not in known and self._first(code.code, *at):
                what = f"rack {quoted(rack.id)} has the {path[-1]} {quoted(name)}"
                spot = source.spot(*path)
                problems.add(code, source.doc, spot, what, word=name, known=known)
        where: tuple[Table | Source, Spot]
        if record is not None and by_row:
            table, row = record
            where = (table, table.cell(row.line, "type"))
            if type_id not in self._tree.types:
                what = f"{quoted(row.asset)} has the type {quoted(type_id)}"
                known_types = self._tree.types
                problems.add(
                    errors.UNKNOWN_TYPE, table, where[1], what, word=type_id, known=known_types
                )
        else:
            where = (source, source.spot(*choice.type_path))
        kind, profile = shared.types.get(type_id), shared.profiles.get(choice.profile)
        file = where[0].doc if isinstance(where[0], RackSource) else where[0]
        if kind is not None and kind.kind is not wanted:
            what = f"type {quoted(kind.id)} in rack {quoted(rack.id)} is of kind {kind.kind}"
            problems.add(errors.KIND_MISMATCH, file, where[1], what)
            return None
        if profile is not None and profile.data.kind != wanted.value:
            what = f"profile {quoted(choice.profile)} in rack {quoted(rack.id)} is for {profile.data.kind}"
            spot = source.spot(*choice.profile_path)
            problems.add(errors.KIND_MISMATCH, source.doc, spot, what)
            return kind
        if kind is None or profile is None:
            return kind
        self._runs(kind, choice.profile, rack.id)
        family = profile.data.firmware.family
        if family not in kind.families and self._first("family", type_id, choice.profile):
            what = (
                f"profile {quoted(choice.profile)} wants {family} on {quoted(kind.id)}, for which "
            )
            what += f"there is {', '.join(sorted(kind.families))}"
            spot = source.spot(*choice.profile_path)
            problems.add(errors.FIRMWARE_MODEL, source.doc, spot, what)
        if choice.owner is not None:
            self._consents(source, choice)
        return kind

    def _runs(self, kind: DeviceType, name: str, rack: str) -> None:
        """Whether the ladder of a type has what a profile asks."""
        doc, profile = self._shared.profiles[name]
        if not self._first("runs", kind.id, name):
            return
        version, family = profile.firmware.version, profile.firmware.family
        if version is not None and kind.kind is DeviceKind.MINER:
            known = sorted(versions_of(self._tree, kind.id, family))
            if version not in known and all(self._tree.firmware.values()):
                what = f"profile {quoted(name)} (rack {quoted(rack)}) wants {family} {version} on "
                what += f"{quoted(kind.id)}; firmware/ has {', '.join(known) or 'none for it'}"
                spot = doc.spot("firmware", "version")
                self._problems.add(errors.NO_RELEASE, doc, spot, what, word=version, known=known)
        mode = profile.power_mode
        steps = [step.name for step in kind.ladder]
        if mode is not None and mode not in steps:
            what = f"profile {quoted(name)} (rack {quoted(rack)}) wants the mode {quoted(mode)}; "
            what += f"{quoted(kind.id)} has {', '.join(steps)}"
            spot = doc.spot("power_mode")
            self._problems.add(errors.UNKNOWN_MODE, doc, spot, what, word=mode, known=steps)
        limit = profile.power_limit_w
        low, high = kind.ladder[0].power_w, kind.ladder[-1].power_w
        if limit is not None and not low <= limit <= high:
            what = f"profile {quoted(name)} (rack {quoted(rack)}) limits to {limit:,} W; the ladder of "
            what += f"{quoted(kind.id)} goes from {low:,.0f} to {high:,.0f} W"
            spot = doc.spot("power_limit_w")
            self._problems.add(errors.LIMIT_OUTSIDE, doc, spot, what)
        self._gpu_limit(rack, kind, name)

    def _gpu_limit(self, rack: str, kind: DeviceType, name: str) -> None:
        """Whether the GPUs of a type take the limit of a profile."""
        doc, profile = self._shared.profiles[name]
        limit = profile.gpu.power_limit_w if profile.gpu else None
        if limit is None or kind.gpu is None:
            return
        low, high = kind.gpu.min_limit_w, kind.gpu.max_limit_w
        if low <= high and not low <= limit <= high:
            what = f"profile {quoted(name)} (rack {quoted(rack)}) limits each GPU to {limit:,} W; those of "
            what += f"{quoted(kind.id)} take {low:,.0f} to {high:,.0f} W"
            spot = doc.spot("gpu", "power_limit_w")
            self._problems.add(errors.LIMIT_OUTSIDE, doc, spot, what)

    def _consents(self, source: Source, choice: Choice) -> None:
        """Whether the owner has the pools, and allows the firmware, of a profile."""
        owner = self._shared.owners.get(choice.owner or "")
        doc, profile = self._shared.profiles[choice.profile]
        if owner is None or not self._first("owner", owner.id, choice.profile):
            return
        pools = [pool.name for pool in owner.pools]
        for index, pool in enumerate(profile.pools):
            if pool not in pools:
                what = (
                    f"profile {quoted(choice.profile)} names the pool {quoted(pool)}, which owner "
                )
                what += f"{quoted(owner.id)} (rack {quoted(source.rack.id)}) does not have"
                spot = doc.spot("pools", index)
                self._problems.add(errors.UNKNOWN_POOL, doc, spot, what, word=pool, known=pools)
        family = profile.firmware.family
        if owner.firmware_families and family not in owner.firmware_families:
            what = f"owner {quoted(owner.id)} does not consent to {family} (profile "
            what += f"{quoted(choice.profile)})"
            spot = source.spot(*choice.profile_path)
            self._problems.add(errors.NO_CONSENT, source.doc, spot, what)


def _is_searched(rack: RackDoc) -> bool:
    """Whether its machines are looked for by who they are."""
    given = rack.addressing
    return (given.previous.dhcp if given.previous else given.dhcp) is not None


def _contradiction(row: Row, kind: DeviceType | None) -> tuple[str, str] | None:
    """The column, and what is wrong with it."""
    told, who = row.state.value, quoted(row.asset)
    if row.state in {SlotState.OUT_OF_SERVICE, SlotState.IN_REPAIR} and not row.reason:
        return "reason", f"{who} is {told} without a reason"
    if row.missing_boards and row.state is SlotState.IN_SERVICE:
        return "state", f"{who} is {told} with {row.missing_boards} missing boards, not degraded"
    if kind is not None and row.missing_boards and row.missing_boards >= kind.boards:
        return "missing_boards", f"{who} lacks {row.missing_boards} of {kind.boards} boards"
    return None


def _slots(slots: Iterable[int]) -> str:
    listed = list(slots)
    if len(listed) > _LISTED:
        first = ", ".join(map(str, listed[:_LISTED]))
        return f"{len(listed)} slots ({first}, …)"
    return f"slot{'s' if len(listed) > 1 else ''} {', '.join(map(str, listed))}"
