"""Where a verb that only reads finds a site: a state folder, or a copy of what a controller works on."""

from __future__ import annotations

import contextlib
import functools
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from control_plane.cli import options
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.workplace import Workplace, pick_site, run_async

if TYPE_CHECKING:
    from control_plane.kube.reading import Copy

_STORE_MAX = 4 * 2**30
"""Bytes of a Store, unpacked; 14,000 devices with 200,000 events take a tenth of a GiB."""
_PIECE = 1024 * 1024

_server = click.option(
    "--server",
    metavar="URL",
    help="Read from a controller itself instead, with the API server away: http://ADDRESS:8080.",
)


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What the options say."""

    inventory: Path
    site: str | None
    state: Path | None
    network_map: Path | None
    kubeconfig: Path | None
    namespace: str | None
    server: str | None


def of_reading(command: Callable[..., int]) -> Callable[..., int]:
    """The options of every verb that only reads one site; the command gets it as `place`."""

    @functools.wraps(command)
    def wrapped(**given: Any) -> int:
        names = Source.__struct_fields__
        with reading(Source(**{name: given.pop(name) for name in names})) as place:
            return command(place=place, **given)

    return options.of_site(options.cluster(_server(wrapped)))


@contextlib.contextmanager
def reading(source: Source) -> Iterator[Workplace]:
    """The site, for as long as the block runs.

    Raises:
        Stop: the options do not say one place.
        NotRead: no controller gives a copy.
    """
    if source.kubeconfig is None and source.server is None:
        yield Workplace(
            site=pick_site(source.inventory, source.site),
            state=source.state,
            inventory=source.inventory,
            network_map=source.network_map,
        )
        return
    copy = _fetched(source)
    if source.site is not None and copy.site != source.site:
        raise Stop(f"{copy.of} serves {copy.site}, not {source.site}", Exit.USAGE)
    if not copy.leads:
        click.echo(
            f"gridplane: {copy.of} does not lead {copy.site}: what it has may be old", err=True
        )
    with tempfile.TemporaryDirectory(prefix="gridplane-") as folder:
        _unpack(copy.store, Path(folder) / "state.sqlite")
        yield Workplace(
            site=copy.site,
            state=Path(folder),
            inventory=source.inventory,
            network_map=source.network_map,
            is_own=False,
        )


def _fetched(source: Source) -> Copy:
    try:
        from control_plane.kube.client import connect, kubeconfig, namespace_in
        from control_plane.kube.reading import from_leader, from_process
    except ImportError as error:
        raise Stop(
            f"{error.name} is not installed: pip install 'gridplane[kube]'", Exit.USAGE
        ) from error
    file, server = source.kubeconfig, source.server
    if server is not None:
        if file is not None:
            raise Stop("--kubeconfig and --server are two places: say one", Exit.USAGE)
        return run_async(from_process(server))
    assert file is not None  # noqa: S101 - the caller looked

    async def ask() -> Copy:
        async with connect(kubeconfig(file)) as client:
            namespace = source.namespace or namespace_in(file)
            return await from_leader(client, namespace, source.site)

    return run_async(ask())


def _unpack(packed: bytes, path: Path) -> None:
    """Write out a copy.

    Raises:
        Stop: it is none, cut short, or larger than any Store.
    """
    unpacked, size = zlib.decompressobj(wbits=31), 0
    try:
        with path.open("wb") as file:
            rest = packed
            while not unpacked.eof:
                piece = unpacked.decompress(rest, _PIECE)
                rest = unpacked.unconsumed_tail
                size += file.write(piece)
                if size > _STORE_MAX or not (piece or rest or unpacked.eof):
                    raise Stop("the copy of the Store is cut short: ask again", Exit.REFUSED)
    except zlib.error as error:
        raise Stop(
            f"the copy of the Store is damaged ({error}): ask again", Exit.REFUSED
        ) from error
