"""Run the engine from a verb: under its fence, with progress, until done or told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable

import click

from control_plane.cli.emit import say
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.progress import ProgressLine, TimeLeft
from control_plane.cli.workplace import Workplace, keep_what_is, run_async
from control_plane.core.fleet import Site
from control_plane.engine.fence import Fence
from control_plane.engine.flash import Images
from control_plane.engine.granting import Granting
from control_plane.engine.images import images_at
from control_plane.engine.local_grants import LocalGrants
from control_plane.engine.loop import Engine, Pace
from control_plane.engine.standing import Progress
from control_plane.views import rotations
from control_plane.views.table import counted

_FIRMWARE_SHOWN = 2
_FORCE_AFTER = 2
"""The second signal no longer waits for what is under way."""


def refuse_second_raiser(site: Site, *, take_over: bool) -> None:
    """A site that declares a cluster has its controller there: two would both raise power.

    Raises:
        Stop: and the operator did not say that the cluster's controller is out of action.
    """
    if site.clusters and not take_over:
        raise Stop(
            f"{site.id} declares the cluster {', '.join(site.clusters)}, whose controller acts on "
            "it. If that controller is stopped for good, say --take-over",
            Exit.REFUSED,
        )


def local_grants(place: Workplace, fence: Fence, images: str | None) -> Granting:
    """Who installs firmware where no cluster does: this process, with images of a folder or a web server."""
    cache = place.state / "images"
    # A place is kept: what of it was checked once need not be checked for each device.
    kept: dict[str, Images] = {}

    def images_of(site: Site) -> Images | None:
        where = images or site.firmware_store
        if where and where not in kept:
            kept[where] = images_at(where, cache)
        return kept.get(where) if where else None

    return LocalGrants(
        place.store,
        epoch=fence.epoch,
        edges=place.edges(),
        revisions=place.revisions(),
        images=images_of,
        say=warn,
    )


def warn(text: str, /, **_fields: object) -> None:
    """The log of a process that a person looks at."""
    click.echo(text, err=True)


def converge(
    place: Workplace,
    fence: Fence,
    *,
    mode: str,
    until: Callable[[Engine], bool] | None = None,
    pace: Pace | None = None,
    granting: Granting | None = None,
) -> tuple[Progress, bool]:
    """Run the engine; (where it ended, whether a person stopped it). Who installs rotates passwords too."""
    try:
        return run_async(_converge(place, fence, mode, until, pace, granting))
    finally:
        fence.release()


async def _converge(  # noqa: PLR0917 - those of `converge`
    place: Workplace,
    fence: Fence,
    mode: str,
    until: Callable[[Engine], bool] | None,
    pace: Pace | None,
    granting: Granting | None,
) -> tuple[Progress, bool]:
    engine = Engine(
        site=place.site,
        store=place.store,
        audit=place.audit,
        epoch=fence.epoch,
        edges=place.edges(),
        revisions=place.revisions(),
        mode=mode,
        pace=pace,
        granting=granting,
        rotates=granting is not None,
    )
    engine.remember(place.store.sightings())
    keep_what_is()
    stops = _Stops(engine)
    stops.listen()
    with ProgressLine(f"{mode} {place.site}") as line:
        shown, time_left = 0, TimeLeft()

        def report(progress: Progress) -> None:
            nonlocal shown
            new = min(progress.paged - shown, len(progress.pages))
            for page in progress.pages[len(progress.pages) - new :]:
                say(f"\npage: {page}" if sys.stderr.isatty() else f"page: {page}", err=True)
            shown = progress.paged
            left = time_left.text(progress.actionable + progress.waiting + progress.later)
            line.say(", ".join(filter(None, (text_of(progress), left))))

        try:
            ended = await engine.run(until=until, report=report)
        except asyncio.CancelledError:
            if not stops.at_once:
                raise
            ended = engine.progress()
        line.say(text_of(ended), force=True)
    if stops.count:
        how = "stopped at once" if stops.at_once else "stopped"
        waits = "waits for its" if ended.waiting == 1 else "wait for their"
        click.echo(
            f"{how}: {counted(ended.waiting, 'write')} {waits} evidence, recorded as open; the next "
            "start looks, and sends none of them again",
            err=True,
        )
    return ended, bool(stops.count)


class _Stops:
    """Ctrl-C and SIGTERM: once to finish what is under way, twice to leave it recorded as open."""

    def __init__(self, engine: Engine) -> None:
        self.count = 0
        self._engine = engine
        self._task = asyncio.current_task()

    @property
    def at_once(self) -> bool:
        """Whether what is under way is not waited for."""
        return self.count >= _FORCE_AFTER

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._heard)

    def _heard(self) -> None:
        self.count += 1
        if self.at_once:
            assert self._task is not None  # noqa: S101 - made inside a task
            self._task.cancel()
            return
        under_way = self._engine.progress().in_flight
        first = "finishes" if under_way == 1 else "finish"
        click.echo(
            f"\nstopping: no new writes; {counted(under_way, 'write')} under way {first} first. "
            "Once more stops at once.",
            err=True,
        )
        self._engine.stop()


def text_of(progress: Progress) -> str:
    """Progress in one line."""
    parts = [f"{progress.seen:,} of {progress.devices:,} seen", f"{progress.converged:,} converged"]
    if progress.rollout and progress.waves:
        parts.append(f"wave {progress.wave} of {progress.waves} {progress.rollout}")
    parts.append(f"{progress.actionable:,} to do")
    parts.append(f"{progress.in_flight:,} in flight, {progress.waiting:,} to verify")
    parts += map(rotations.in_brief, progress.firmware[:_FIRMWARE_SHOWN])
    if (more := len(progress.firmware) - _FIRMWARE_SHOWN) > 0:
        parts.append(f"{more} more firmware rollouts")
    parts += map(rotations.in_brief, progress.rotations[:_FIRMWARE_SHOWN])
    if progress.incidents:
        parts.append(f"{progress.incidents} incidents")
    return ", ".join(parts)
