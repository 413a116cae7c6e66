"""What the fleet layer holds: the declaration of a site, and what may be done to its firmware.

Objects are plain values, as an API server takes them. Nothing here decides when anything is done.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from control_plane.core.firmware import waves_by_bundle
from control_plane.inventory.bundle import render
from control_plane.provision.firmware import FirmwareBundle, firmware_bundle
from control_plane.provision.manifests import Manifest
from control_plane.provision.runner import runner_objects, store_of
from control_plane.provision.settings import Settings
from control_plane.provision.site import DeclaredSite


class FleetLayer(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of the layer."""

    revision: Manifest
    """The `FleetRevision`, named by the SHA-256 of its bytes."""
    site: Manifest
    """The `Site`, which points to it."""
    runner: tuple[Manifest, ...] = ()
    """What a firmware Job's pods run as and may reach; nothing where there is no Job."""
    bundles: tuple[FirmwareBundle, ...] = ()

    @property
    def firmware(self) -> tuple[Manifest, ...]:
        """Bundles, shards and Jobs, each after what it reads."""
        return tuple(thing for bundle in self.bundles for thing in bundle.objects)

    @property
    def job_names(self) -> tuple[str, ...]:
        """Of all Jobs."""
        return tuple(one["metadata"]["name"] for one in self.firmware if one["kind"] == "Job")

    @property
    def objects(self) -> tuple[Manifest, ...]:
        """All of them, whatever needs another after it."""
        return (
            self.revision,
            self.site,
            *self.runner,
            *self.firmware,
        )


def fleet_layer(declared: DeclaredSite, settings: Settings, *, commit: str | None) -> FleetLayer:
    """The layer of a site.

    Args:
        declared: the site.
        settings: namespace, image and mode.
        commit: that the declaration comes from, for people.
    """
    name = settings.site
    revision, site = render(
        name, declared.files, namespace=settings.namespace, commit=commit, mode=settings.mode
    )
    bundles = tuple(_bundles(declared, settings))
    return FleetLayer(
        revision=revision,
        site=site,
        runner=runner_objects(declared, namespace=settings.namespace) if bundles else (),
        bundles=bundles,
    )


def once(thing: Manifest) -> Manifest:
    """The object as a GitOps tool has to take it: made where it is missing, left alone then, never pruned.

    Applied again, a Job that somebody opened would be suspended in the middle of its work.
    """
    metadata = {**thing["metadata"], "annotations": _ONCE}
    return {**thing, "metadata": metadata}


_ONCE: Final = {
    "kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent",
    "kustomize.toolkit.fluxcd.io/prune": "disabled",
    "argocd.argoproj.io/sync-options": "Prune=false",
}


def _bundles(declared: DeclaredSite, settings: Settings) -> Iterable[FirmwareBundle]:
    found = waves_by_bundle(declared.site)
    store = store_of(declared) if found else ""
    for bundle, waves in found.items():
        yield firmware_bundle(
            bundle,
            waves,
            site=settings.site,
            namespace=settings.namespace,
            image=settings.image,
            pace=settings.pace,
            store=store,
        )
