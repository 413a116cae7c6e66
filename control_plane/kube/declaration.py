"""`FleetRevision` and `Site` → what the engine may be asked to converge to, or why not.

The bytes go through the very loader and checks of the command line. What is not understood, not whole, of
another site or under another name than its bytes give is refused with findings; the last accepted revision
stays in force. Pure: objects in, verdict out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import PurePosixPath

import msgspec

from control_plane.api.conditions import Told, conditions, ready, shortened, stalled
from control_plane.api.objects import (
    ApprovalPart,
    Condition,
    FindingPart,
    FleetRevisionSpec,
    FleetRevisionStatus,
    SiteSpec,
)
from control_plane.core.findings import Finding, Severity, SourceRef
from control_plane.core.fleet import Site
from control_plane.core.observation import Field
from control_plane.engine.records import Approval
from control_plane.inventory import errors
from control_plane.inventory.bundle import DamagedBundle, unpack
from control_plane.inventory.load import load_files

FINDINGS_MAX = 50
"""Of the schema; more than a person reads before mending the first."""
ACCEPTED = "Accepted"


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """A revision as it was understood."""

    name: str
    """Of the object: the SHA-256 of its bytes."""
    site: Site | None
    """`None`: it is not understood; `findings` say why."""
    digest: str = ""
    """Over what it means: equal digests make no rollout."""
    files: dict[str, bytes] = {}
    findings: tuple[Finding, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Why it is refused."""
        return tuple(f for f in self.findings if f.severity is Severity.ERROR)


def read_revision(name: str, spec: FleetRevisionSpec) -> Declared:
    """Understand one `FleetRevision`. Takes a second for a large site: not on the event loop.

    Never raises: whatever is wrong with it becomes findings.
    """
    told = hashlib.sha256(spec.data).hexdigest()
    if told != name:
        return _refused(name, f"its bytes have the digest {told[:12]}, and it is named {name[:12]}")
    try:
        files = unpack(spec.data)
    except DamagedBundle as error:
        return _refused(name, str(error))
    loaded = load_files(files, sites={spec.site})
    if loaded.fleet is None:
        return Declared(name=name, site=None, findings=tuple(loaded.findings))
    site = loaded.fleet.sites.get(spec.site)
    if site is None:
        return _refused(name, f"it declares no site {spec.site}")
    return Declared(
        name=name,
        site=site,
        digest=loaded.digests[spec.site],
        files=dict(loaded.files[spec.site]),
        findings=tuple(loaded.findings),
    )


def _refused(name: str, why: str) -> Declared:
    code = errors.DAMAGED_REVISION
    finding = Finding(
        code=code.code,
        where=SourceRef(path=str(PurePosixPath("fleetrevisions") / name)),
        what=f"not a revision: {why}",
        fix=code.fix,
    )
    return Declared(name=name, site=None, findings=(finding,))


def revision_status(
    declared: Declared, before: Iterable[Condition], *, generation: int, now_s: float
) -> FleetRevisionStatus:
    """What its author reads: whether it loads, what it declares, and every finding if it does not."""
    site, wrong = declared.site, declared.errors
    if site is not None:
        devices = len(site.devices)
        message = f"{devices:,} slots of {site.id}"
        told = [ready("True", "Loads", message), Told(type=ACCEPTED, status="True", reason="Loads")]
    else:
        devices = 0
        message = f"{len(wrong):,} finding(s): {wrong[0].headline()}"
        told = [
            stalled("Findings", message),
            ready("False", "Findings", message),
            Told(type=ACCEPTED, status="False", reason="Findings", message=message),
        ]
    return FleetRevisionStatus(
        conditions=conditions(told, before, generation=generation, now_s=now_s),
        observed_generation=generation,
        canonical_digest=declared.digest or None,
        devices=devices,
        findings=tuple(_part(finding) for finding in declared.findings[:FINDINGS_MAX]),
    )


def _part(finding: Finding) -> FindingPart:
    hint = f" (did you mean '{finding.suggestion}'?)" if finding.suggestion else ""
    return FindingPart(
        code=finding.code,
        where=str(finding.where)[:512],
        what=shortened(finding.what + hint),
        fix=shortened(finding.fix),
    )


def approvals_in(spec: SiteSpec) -> tuple[Approval, ...]:
    """The owners' words that stand in a `Site`; whether they may give them is checked at acceptance."""
    return tuple(_approval(part) for part in spec.approvals if part.field in set(Field))


def _approval(part: ApprovalPart) -> Approval:
    return Approval(owner=part.owner, field=Field(part.field), by=part.by)
