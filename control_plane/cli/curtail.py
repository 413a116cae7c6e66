"""`gridplane curtail`."""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from pathlib import Path
from typing import Final

import click
import msgspec

from control_plane.cli import options
from control_plane.cli.durations import DURATION
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.saying import Saying
from control_plane.cli.watts import POWER
from control_plane.core.curtailing import GUARD, Curtailment, curtailed, overlays_of
from control_plane.core.fleet import Site
from control_plane.core.overlay import OverlayKind
from control_plane.views.table import power

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_DAY_S: Final = 86_400.0
_PAST_S: Final = 43_200.0
"""A time of day that is further ahead than this is meant as past."""


class CurtailResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was put in force, or would be."""

    site: str
    programme: str
    node: str
    before_w: float
    after_w: float
    devices: int
    gone_w: tuple[tuple[float, float], ...]
    """Seconds from now, and the watts that are gone by then."""
    by_s: float | None
    """When it has to be so, seconds since the epoch."""
    is_in_force: bool


@click.command("curtail")
@click.option("--to", "to_w", type=POWER, required=True, help="What may be left: 40MW, 6500kW.")
@click.option("--program", "programme", default="manual", show_default=True, help="For whose sake.")
@click.option("--node", help="Feed to bring down.  [default: the whole site]")
@click.option("--by", "by_time", metavar="HH:MM", help="When it has to be so, in the site's time.")
@click.option("--for", "for_s", type=DURATION, help="After that the machines may run again.")
@click.option("--who", default=options.user, show_default="the login name", help="Who says so.")
@click.option("--reason", default="", help="Why; it is kept and shown.")
@click.option("--dry-run", is_flag=True, help="Say what would be lowered, and lower nothing.")
@options.of_site
@options.output
def command(
    *,
    to_w: float,
    programme: str,
    node: str | None,
    by_time: str | None,
    for_s: float | None,
    who: str,
    reason: str,
    dry_run: bool,
    inventory: Path,
    site: str | None,
    state: Path | None,
    network_map: Path | None,
    output: str,
) -> int:
    """Bring a site, or a feed of it, down to a power. Local, durable, with nothing else up.

    Machines are lowered where a terahash costs most joules, in the order that a guard follows too. Those of
    owners whose contract protects or locks them are left alone, and so are GPU nodes. Whoever acts on the
    site carries it out within a second; it stays until `gridplane resume`. Said again, it is replaced.

    \b
    gridplane curtail --to 40MW --by 03:40 --program peak --site ga-macon
    gridplane curtail --to 6500kW --node ga-f1 --for 2h --reason "breaker is hot" --site ga-macon
    gridplane curtail --to 30MW --dry-run --site ga-macon
    """
    if programme == GUARD:
        raise Stop(
            "'guard' is the programme of what a guard lowered: choose another name", Exit.USAGE
        )
    if not _NAME.fullmatch(programme):
        raise Stop(
            f"'{programme}' is no name: lower-case letters, digits, dots, dashes", Exit.USAGE
        )
    saying = Saying(inventory, site, state, network_map)
    declared, record = saying.declared, saying.store.accepted()
    if declared is None or record is None:
        raise Stop(f"no revision of {saying.site} is in force: run `gridplane apply`", Exit.REFUSED)
    node = node or next(n.id for n in declared.feeds.values() if n.parent is None)
    if node not in declared.feeds:
        raise Stop(f"{saying.site} has no feed {node}", Exit.USAGE)
    now_s = saying.place.clock.wall_s()
    by_s = _moment(by_time, declared, now_s) if by_time else None
    what = _what(saying, declared, record.digest, node=node, to_w=to_w)
    result = CurtailResult(
        site=saying.site,
        programme=programme,
        node=node,
        before_w=what.before_w,
        after_w=what.after_w,
        devices=len(what.lowered),
        gone_w=what.gone_w,
        by_s=by_s,
        is_in_force=bool(what.lowered) and not dry_run,
    )
    if not dry_run:
        overlays = overlays_of(
            programme, what, owner=who, reason=reason or f"down to {power(to_w)}", now_s=now_s,
            expires_s=None if for_s is None else now_s + for_s,
        )  # fmt: skip
        saying.curtail(programme, overlays, by=who, text=f"down to {power(to_w)} at {node}")
    emit(output, result, table=_told(result, what, now_s), names=[programme])
    return Exit.OK if what.is_enough else Exit.ACTIONABLE


def _what(saying: Saying, site: Site, revision: str, *, node: str, to_w: float) -> Curtailment:
    """By what machines would draw without any programme: said again, it is decided from the start."""
    from control_plane.core.guard_making import bundle_of
    from control_plane.core.power import counted_w
    from control_plane.core.world import loads_of

    world = saying.place.world(site, revision)
    loads = loads_of(site, world)
    # Others' curtailments end without asking this one: what they hold down counts as if it ran.
    kinds = {OverlayKind.CURTAILMENT, OverlayKind.GUARD}
    down = {a for o in world.overlays if o.kind in kinds for a in o.assets}
    counted = {
        d.asset: max(loads.counted(d.asset), counted_w(d, d.desired()) if d.asset in down else 0.0)
        for d in site.devices
    }
    bundle = bundle_of(
        site, counted, world.capabilities, revision=revision, now_s=world.now_s,
        locked_until_s=dict.fromkeys(world.locked, world.now_s + 1),
    )  # fmt: skip
    may_shed = {
        d.asset: site.owners[d.intent.owner].participation == "sheddable" for d in site.devices
    }
    return curtailed(bundle, node, to_w, may_shed=may_shed)


def _moment(text: str, site: Site, now_s: float) -> float:
    """The next time that clocks at the site show this; seconds since the epoch."""
    match = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", text)
    if match is None:
        raise Stop(f"--by {text}: write a time of day, such as 03:40", Exit.USAGE)
    zone = zoneinfo.ZoneInfo(site.time_zone)
    now = dt.datetime.fromtimestamp(now_s, zone)
    then = now.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)
    ahead_s = (then.timestamp() - now_s) % _DAY_S
    if ahead_s > _PAST_S:
        at = now.strftime("%H:%M")
        raise Stop(f"--by {text} is past: it is {at} at {site.id}", Exit.USAGE)
    return now_s + ahead_s


def _told(result: CurtailResult, what: Curtailment, now_s: float) -> str:
    verb = "come down" if result.is_in_force else "would come down"
    path = f"from {power(what.before_w)} to {power(what.after_w)}"
    lines = [
        f"{result.site}: {result.devices:,} machines below {result.node} {verb}, {path}",
        "gone within: " + ", ".join(f"{s:g} s {power(w)}" for s, w in what.gone_w),
    ]
    if not what.is_enough:
        lines.append(f"NOT ENOUGH: {power(what.to_w)} were asked for; nothing else may be shed")
    if result.by_s is not None:
        in_time_w = max((w for s, w in what.gone_w if now_s + s <= result.by_s), default=0.0)
        all_w = power(what.before_w - what.after_w)
        lines.append(f"by then {power(in_time_w)} of {all_w} are gone, as far as is known")
    if not what.lowered:
        lines.append("nobody has to come down for it: nothing is in force")
    if result.is_in_force:
        lines.append(f"end it:  gridplane resume {result.programme} --site {result.site}")
    return "\n".join(lines)
