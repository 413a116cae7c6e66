"""The fleet layer: the site's declaration, and the firmware Jobs that may run on it.

Nothing of it is ever deleted from here: the controller deletes what no device, rollout or open operation
refers to any more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from control_plane.inventory.git import commit_of
from control_plane.provision import manifests
from control_plane.provision.firmware import FirmwareBundle
from control_plane.provision.fleet import fleet_layer
from control_plane.provision.settings import PROJECT, Layer, Settings, StackFile
from control_plane.provision.site import DeclaredSite
from stacks.objects import Manifest, provider
from stacks.outputs import FleetOutput, PlatformOutput, reference, told_before

TYPE = "gridplane:site:Fleet"
BUNDLE_TYPE = "gridplane:site:FirmwareBundle"
_ANNOTATIONS = {
    # A suspended Job never starts, and a site converges for hours: nobody waits for either.
    "pulumi.com/skipAwait": "true",
    # Else what is taken up anew has another owner each time, and to change a field of it is a conflict.
    "pulumi.com/patchFieldManager": "gridplane-stacks",
}
_SUSPEND = "spec.suspend"
_JOBS_KNOWN = 2_000
"""Names that a stack remembers: some forty times all Jobs of a large site."""


def declare(top: Path, declared: DeclaredSite, settings: Settings, _file: StackFile) -> FleetOutput:
    """Everything of the layer; see `stacks.program.LayerModule`."""
    layer = fleet_layer(declared, settings, commit=commit_of(top / settings.inventory))
    before = told_before(settings.stack)
    past = _left(before.get("pastJobs", ()), before.get("jobs", ()))
    platform = (
        PlatformOutput.unknown()
        if settings.offline
        else PlatformOutput.from_outputs(*reference(settings.site, Layer.PLATFORM))
    )
    cluster = provider("cluster", _kubeconfig(platform, settings), settings.site)
    # Named by what it is and not by the site: a site that is renamed is the same one.
    make = _Maker(cluster, pulumi.ComponentResource(TYPE, "fleet"))
    revision = make("revision", layer.revision)
    # The pointer moves once there is something to point to.
    make("site", layer.site, after=[revision])
    ready = [make(f"runner-{each['kind'].lower()}", each) for each in layer.runner]
    for bundle in layer.bundles:
        _declare(bundle, make, ready, frozenset(before.get("pastJobs", ())))
    make.parent.register_outputs({})
    name, jobs = layer.revision["metadata"]["name"], list(layer.job_names)
    return FleetOutput(
        revision=revision.kept.apply(lambda _: name),
        jobs=pulumi.Output.from_input(jobs),
        past_jobs=pulumi.Output.from_input([one for one in past if one not in jobs]),
    )


def _left(past: Sequence[str], last: Sequence[str]) -> list[str]:
    """Jobs of earlier updates, the newest last."""
    return list(dict.fromkeys((*past, *last)))[-_JOBS_KNOWN:]


def _kubeconfig(platform: PlatformOutput, settings: Settings) -> pulumi.Output[str]:
    """The cluster's, where both layers mean the same namespace: else nothing is sent."""

    def agreed(given: Sequence[str]) -> str:
        kubeconfig, namespace = given
        if namespace != settings.namespace:
            raise pulumi.RunError(
                f"{PROJECT}:namespace is '{settings.namespace}', and the platform is in '{namespace}': "
                f"pulumi config set {PROJECT}:namespace {namespace} --stack {settings.stack}"
            )
        return kubeconfig

    return pulumi.Output.all(platform.kubeconfig, platform.namespace).apply(agreed)


class _Maker:
    """Registers objects on the one cluster."""

    def __init__(self, cluster: k8s.Provider, parent: pulumi.ComponentResource) -> None:
        self._cluster, self.parent = cluster, parent

    def below(self, parent: pulumi.ComponentResource) -> _Maker:
        """For what belongs to another component."""
        return _Maker(self._cluster, parent)

    def __call__(
        self,
        name: str | None,
        body: manifests.Manifest,
        *,
        after: Sequence[pulumi.Resource] = (),
        others: Sequence[str] = (),
    ) -> Manifest:
        """One object.

        Args:
            name: of the resource, where another object may take its place; by default the object's own.
            body: the object.
            after: what has to stand before it.
            others: paths that somebody else writes once it is made.
        """
        metadata: dict[str, Any] = {**body["metadata"], "annotations": _ANNOTATIONS}
        return Manifest(
            name or metadata["name"],
            {**body, "metadata": metadata},
            pulumi.ResourceOptions(
                parent=self.parent,
                provider=self._cluster,
                retain_on_delete=True,
                depends_on=list(after),
                ignore_changes=list(others),
            ),
        )


def _declare(
    bundle: FirmwareBundle,
    make: _Maker,
    ready: Sequence[pulumi.Resource],
    past: Collection[str],
) -> None:
    parent = pulumi.ComponentResource(
        BUNDLE_TYPE, bundle.name, opts=pulumi.ResourceOptions(parent=make.parent)
    )
    make = make.below(parent)
    about = make(None, bundle.about)
    for wave in bundle.waves:
        shards = [make(None, each) for each in wave.shards]
        # The suspension is sent when a Job is made and never again: whoever opens the wave owns that field.
        # Under a name that stays, a new Job would inherit what a refresh read of the old one: it would begin.
        make(
            None,
            wave.job if wave.job["metadata"]["name"] not in past else _as_it_is(wave.job),
            after=[about, *shards, *ready],
            others=[_SUSPEND],
        )
    parent.register_outputs({})


def _as_it_is(job: manifests.Manifest) -> manifests.Manifest:
    """A Job that an older revision left and that is declared again: without its suspension.

    It is there, and may be at work: whoever opened it owns that field, and to send it would be a conflict.
    """
    spec = {key: value for key, value in job["spec"].items() if key != "suspend"}
    return {**job, "spec": spec}
