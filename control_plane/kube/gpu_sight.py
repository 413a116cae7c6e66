"""What is seen of a site's GPU nodes, round by round: who is not known to be well, and since when."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from control_plane.api.objects import GpuNodeStatus
from control_plane.core.domain_budget import Books
from control_plane.core.driver_upgrade import Worker, upgrade_of
from control_plane.core.external_remediation import Request
from control_plane.core.fleet import Device, Site
from control_plane.core.gpu_domains import domains_of, gpu_devices, paths_of
from control_plane.core.gpu_software import Step, marks_in
from control_plane.core.handed_over import alert_of, is_cured
from control_plane.core.overlay import Overlay, covering, nodes_above
from control_plane.core.remedy_case import CURES
from control_plane.core.remedy_kept import NodeKept
from control_plane.core.remedy_ladder import end_of
from control_plane.core.remedy_round import NodeView
from control_plane.kube.gpu_bmc import Bmcs
from control_plane.kube.gpu_hands import Hands
from control_plane.kube.gpu_reported import alerts_of
from control_plane.kube.gpu_view import Known, NodeFacts, is_ours, serves, view_of


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What watches know of all nodes; kept up to date by others."""

    facts: Mapping[str, NodeFacts]
    """Of `Node`s, by name."""
    told: Mapping[str, GpuNodeStatus]
    """By agents, by asset."""
    handed: Callable[[str], tuple[Request, ...]] = lambda _name: ()
    """Node → what NVSentinel has handed over of it, and nobody answered yet."""
    knows_handed: Callable[[], bool] = lambda: True
    """Whether all of that is known."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """What follows from a declaration, worked out once for each."""

    site: Site
    devices: Mapping[str, Device]
    declared: frozenset[str]
    """All of the site, in service or not."""
    domains: Books
    paths: Mapping[str, Sequence[str]]
    above: Mapping[str, frozenset[str]]


def place_of(site: Site) -> Place:
    """The GPU nodes of a site."""
    devices = {device.asset: device for device in gpu_devices(site)}
    return Place(
        site=site, devices=devices, declared=frozenset(one.asset for one in site.devices),
        domains=domains_of(site), paths=paths_of(site),
        above={name: nodes_above(site, one) for name, one in devices.items()},
    )  # fmt: skip


class Sight:
    """That of one tenure. What it remembers is lost with it, and found again."""

    def __init__(
        self, seen: Seen, hands: Hands, bmcs: Bmcs, *, may_act: Callable[[], bool]
    ) -> None:
        """Nothing is read before `views`."""
        self._seen, self._hands, self._bmcs, self._may_act = seen, hands, bmcs, may_act
        self._unwell: dict[str, float] = {}
        self._upgrade: dict[str, float] = {}

    def views(
        self,
        place: Place,
        kept: Mapping[str, NodeKept],
        overlays: tuple[Overlay, ...],
        now_s: float,
        *,
        named: Collection[str] = (),
    ) -> dict[str, NodeView]:
        """Every node that is not known to be well, or that an emergency names.

        Args:
            place: the nodes.
            kept: what was tried on them.
            overlays: of the site.
            now_s: policy time.
            named: nodes of domains in which an emergency goes on.
        """
        found: dict[str, NodeView] = {}
        for name, device in place.devices.items():
            facts, told = self._seen.facts.get(name), self._seen.told.get(name)
            over = covering(overlays, place.above[name]) if overlays else ()
            self._note(name, device, facts, now_s)
            row, handed = kept.get(name), self._seen.handed(name)
            is_idle = (row is None or row.is_idle) and not over and name not in named and not handed
            if is_idle and _is_quiet(device, facts, told):
                continue
            known = msgspec.structs.replace(
                self._hands.known.get(name, Known()),
                unwell_since_s=self._unwell.get(name),
                upgrade_since_s=self._upgrade.get(name),
                last_cure_s=_last_cure_s(kept.get(name)),
                has_bmc=self._bmcs.reaches(place.site, device),
                may_act=self._may_act(),
                accepted=row.accepted if row is not None else None,
                is_handed=bool(handed),
                handed=tuple(alert_of(one) for one in handed if not is_cured(one, row)),
                knows_handed=self._seen.knows_handed(),
            )
            found[name] = view_of(device, facts, told, known, overlays=over, now_s=now_s)
        return found

    def _note(self, name: str, device: Device, facts: NodeFacts | None, now_s: float) -> None:
        """Note since when it is as it is seen, where nobody else says so."""
        if serves(facts, device) is False:
            silent_s = facts.ready_since_s if facts is not None and not facts.is_ready else 0.0
            self._unwell.setdefault(name, silent_s or now_s)
        else:
            self._unwell.pop(name, None)
        if facts is not None and upgrade_of(facts.node).blocks:
            self._upgrade.setdefault(name, now_s)
        else:
            self._upgrade.pop(name, None)


def _is_quiet(device: Device, facts: NodeFacts | None, told: GpuNodeStatus | None) -> bool:
    """Whether everybody says that it is well, and nobody works on it."""
    if facts is None or serves(facts, device) is False or facts.node.is_cordoned:
        return False
    if is_ours(facts.node) or upgrade_of(facts.node).worker is not Worker.NOBODY:
        return False
    if marks_in(facts.node).step is Step.GOING:
        return False
    return told is None or not alerts_of(told)


def _last_cure_s(kept: NodeKept | None) -> float:
    """When something was done to it last, by us or by whoever repaired it."""
    if kept is None:
        return 0.0
    repaired_s = kept.repaired.at_s if kept.repaired is not None else 0.0
    return max([repaired_s, *(end_of(one) for one in kept.attempts if one.action in CURES)])
