"""Which stacks a change of the inventory is about: for CI, which shows a preview of each."""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.provision.settings import Layer, stack_of

_BELOW = ("site.yaml", "hosts/", "gpu/")
"""Below a site: what its cluster and its platform are made from. The declaration holds every file."""


def changed_stacks(site: str, paths: Iterable[str]) -> tuple[str, ...]:
    """The stacks of a site that changed files are about, from the bottom up.

    Args:
        site: a folder of `sites`.
        paths: of files that changed, below the inventory's root; those of other sites are left out.
    """
    own = f"sites/{site}/"
    mine = [path for path in paths if not path.startswith("sites/") or path.startswith(own)]
    if not mine:
        return ()
    below = any(path.startswith(tuple(own + part for part in _BELOW)) for path in mine)
    return tuple(stack_of(site, layer) for layer in (Layer if below else (Layer.FLEET,)))
