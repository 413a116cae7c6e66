"""The declared site that a stack is about, or every finding."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from control_plane.core.errors import DeclarationError
from control_plane.core.fleet import Site
from control_plane.inventory import errors
from control_plane.inventory.load import load
from control_plane.inventory.source import quoted
from control_plane.provision.settings import PROJECT, Settings, StackFile


class DeclaredSite(msgspec.Struct, frozen=True, kw_only=True):
    """A site, and what it was made from."""

    site: Site
    digest: str
    """Of its canonical form."""
    files: Mapping[str, bytes]
    """Path below the inventory's root → content."""


def read_site(top: Path, settings: Settings, file: StackFile) -> DeclaredSite:
    """The site of a stack.

    Args:
        top: the folder that the inventory's path starts from.
        settings: names both.
        file: where the stack is told of them.

    Raises:
        DeclarationError: there is no such inventory or site, or something is wrong in it.
    """
    root = top / settings.inventory
    sites = sorted(path.name for path in (root / "sites").glob("*") if path.is_dir())
    if settings.site not in sites:
        file.add(
            errors.UNKNOWN_SITE, "site" if sites else "inventory",
            f"{PROJECT}:site is {quoted(settings.site)}, and {settings.inventory}/sites has "
            + (f"no such folder, only {', '.join(sites)}" if sites else "no site"),
            word=settings.site, known=sites,
        )  # fmt: skip
        file.refuse()
    loaded = load(root, sites={settings.site})
    if loaded.fleet is None:
        raise DeclarationError(loaded.findings)
    name = settings.site
    return DeclaredSite(
        site=loaded.fleet.sites[name], digest=loaded.digests[name], files=loaded.files[name]
    )
