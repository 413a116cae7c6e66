"""What a site's cluster has to hold before hardware is declared to it: objects and charts, in stages.

Each stage stands before the next one begins, and goes after it. The last is a gate: when a platform is taken
away it goes first, and an admission policy keeps it while a `Site` is declared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from control_plane.provision.admission import policies
from control_plane.provision.chart import Chart
from control_plane.provision.chart_docs import KeptDoc
from control_plane.provision.manifests import Files, Manifest, localized, networks_of, read
from control_plane.provision.rules import GATE, pools_of, rules
from control_plane.provision.settings import Settings
from control_plane.provision.site import DeclaredSite

_ENFORCED: Final = "pod-security.kubernetes.io/enforce"
_WORKLOADS: Final = frozenset({"DaemonSet", "Deployment", "Service", "PodDisruptionBudget"})
_POLICIES: Final = frozenset({"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"})


class Thing(msgspec.Struct, frozen=True, kw_only=True):
    """One object."""

    name: str
    """Of the resource; it never changes, whatever the inventory renames."""
    manifest: Manifest
    protect: bool = False
    """A destroy refuses before it begins."""
    retain: bool = False
    """A destroy forgets it and leaves it where it is."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """An object that a chart makes: what of our values has to be in it."""

    name: str
    about: KeptDoc
    wanted: Manifest


class Install(msgspec.Struct, frozen=True, kw_only=True):
    """One chart."""

    name: str
    chart: str
    """Its name, its address (`oci://`), or its path from the top of the checkout."""
    repository: str | None
    is_path: bool
    version: str
    namespace: str
    values: Manifest
    kept: tuple[Kept, ...]


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """What may be made at the same time."""

    name: str
    things: tuple[Thing, ...] = ()
    installs: tuple[Install, ...] = ()
    """One after another: an operator may need what the one before labels."""


class Platform(msgspec.Struct, frozen=True, kw_only=True):
    """The whole layer."""

    site: str
    namespace: str
    stages: tuple[Stage, ...]

    def resources(self) -> int:
        """How many objects and charts."""
        return sum(len(stage.things) + len(stage.installs) for stage in self.stages)

    def versions(self) -> dict[str, str]:
        """Chart → version."""
        return {one.name: one.version for stage in self.stages for one in stage.installs}


def platform(
    declared: DeclaredSite, settings: Settings, charts: tuple[Chart, ...], files: Files
) -> Platform:
    """What the platform of a site is made of.

    Args:
        declared: the site.
        settings: namespace and image.
        charts: checked, in the order of their installation.
        files: `manifests/`.

    Raises:
        DeclarationError: the site lacks a network that the controller needs.
    """
    namespace, networks = settings.namespace, networks_of(declared)
    privileged = {chart.doc.namespace for chart in charts if chart.doc.privileged}
    table = rules(privileged=privileged, pools=pools_of(declared.site))

    def local(folder: str) -> list[Manifest]:
        return list(
            localized(
                read(files, folder), namespace=namespace, site=declared.site.id,
                image=settings.image, networks=networks,
            )
        )  # fmt: skip

    ours = [*local("controller"), *local("node-agent")]
    apart = [one for one in ours if one["kind"] == "Namespace"]
    checks = [one for one in ours if one["kind"] in _POLICIES]
    rights = [one for one in ours if one["kind"] not in {"Namespace", *_POLICIES, *_WORKLOADS}]
    return Platform(
        site=declared.site.id,
        namespace=namespace,
        stages=(
            Stage(
                name="namespaces",
                things=(*_namespaces(namespace, charts, privileged), *_things(apart)),
            ),
            Stage(
                name="definitions",
                things=tuple(_things(read(files, "crds"), protect=True, retain=True)),
            ),
            Stage(
                name="policies",
                things=tuple(_things([*policies(table, namespace=namespace), *checks])),
            ),
            Stage(
                name="rights",
                things=tuple(_things([*rights, _monitoring(files, namespace)])),
            ),
            Stage(name="charts", installs=tuple(map(_install, charts))),
            Stage(
                name="controller",
                things=tuple(_things(one for one in ours if one["kind"] in _WORKLOADS)),
            ),
            # Protected, and so is all that it depends on: Pulumi takes only what nothing protected needs.
            Stage(
                name="gate",
                things=tuple(_things([_gate(namespace, declared.site.id)], protect=True)),
            ),
        ),
    )


def _things(
    objects: Iterable[Manifest], *, protect: bool = False, retain: bool = False
) -> Iterator[Thing]:
    for one in objects:
        name = f"{one['kind'].lower()}-{one['metadata']['name']}"
        yield Thing(name=name, manifest=one, protect=protect, retain=retain)


def _namespaces(own: str, charts: tuple[Chart, ...], privileged: set[str]) -> Iterator[Thing]:
    # It holds the site's state, so it stays, whatever is destroyed.
    yield from _things([_namespace(own, "restricted")], protect=True, retain=True)
    others = dict.fromkeys(chart.doc.namespace for chart in charts)
    yield from _things(
        _namespace(name, "privileged" if name in privileged else "baseline") for name in others
    )


def _namespace(name: str, level: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {_ENFORCED: level}},
    }


def _monitoring(files: Files, namespace: str) -> Manifest:
    """Rules and scrape configuration as files, for whichever Prometheus mounts them."""
    prefix = "manifests/monitoring/"
    data = {
        path.removeprefix(prefix): content.decode()
        for path, content in sorted(files.items())
        if path.startswith(prefix)
    }
    return _map("gridplane-monitoring", namespace, data)


def _gate(namespace: str, site: str) -> Manifest:
    return _map(GATE, namespace, {"site": site})


def _map(name: str, namespace: str, data: dict[str, str]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def _install(chart: Chart) -> Install:
    doc = chart.doc
    is_oci = doc.repository is not None and doc.repository.startswith("oci://")
    values: dict[str, Any] = doc.values
    return Install(
        name=chart.name,
        chart=doc.path or (f"{doc.repository}/{chart.name}" if is_oci else chart.name),
        repository=None if is_oci else doc.repository,
        is_path=doc.path is not None,
        version=doc.version,
        namespace=doc.namespace,
        values=values,
        kept=tuple(
            Kept(name=f"{about.kind.lower()}-{about.name}", about=about, wanted=wanted)
            for about, wanted in chart.kept()
            if wanted
        ),
    )
