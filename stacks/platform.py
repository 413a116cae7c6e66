"""The platform layer: what a site's cluster has to hold before hardware is declared to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pulumi
import pulumi_kubernetes as k8s

from control_plane.core.errors import DeclarationError
from control_plane.inventory import errors
from control_plane.provision.chart import UNVERIFIED, known_facts, read_charts, refuse_skips
from control_plane.provision.manifests import FOLDERS
from control_plane.provision.platform import Install, Kept, Platform, Thing, platform
from control_plane.provision.settings import PROJECT, Layer, Settings, StackFile
from control_plane.provision.site import DeclaredSite
from control_plane.views.findings import render_findings
from stacks.objects import Live, Manifest, held, provider
from stacks.outputs import ClusterOutput, PlatformOutput, reference

T = TypeVar("T")
TYPE = "gridplane:site:Platform"
_CHARTS_TIMEOUT_S = 900
"""Of one chart: an operator's images are pulled and its hooks run."""


def declare(
    top: Path, declared: DeclaredSite, settings: Settings, file: StackFile
) -> PlatformOutput:
    """Everything of the layer; see `stacks.program.LayerModule`."""
    chart_bytes = _read(top, settings.charts, "charts", file)
    charts = read_charts(settings.charts, chart_bytes, known_facts())
    for chart in charts:
        if chart.doc.path is None and chart.facts.verified is None:
            pulumi.warn(
                f"chart {chart.name}: what we know of its values is {UNVERIFIED}; gridplane chart verify"
            )
    plan = platform(declared, settings, charts, _manifests(top))
    below = _cluster(top, settings, file)

    def refuse(chart: str, before: str) -> None:
        """A hook of Pulumi's: what it raises keeps Helm from being asked."""
        try:
            refuse_skips(settings.charts, chart_bytes, charts, {chart: before})
        except DeclarationError as error:
            raise pulumi.RunError(render_findings(error.findings, color=False)) from error

    made = _Maker(top, plan, below, refuse)
    return PlatformOutput(
        kubeconfig=below.kubeconfig,
        cluster_identifier=below.cluster_identifier,
        namespace=made.after(plan.namespace),
        charts=made.after(plan.versions()),
    )


def _cluster(top: Path, settings: Settings, file: StackFile) -> ClusterOutput:
    """The cluster layer, or a cluster that exists already."""
    if settings.offline:
        return ClusterOutput.unknown()
    if settings.kubeconfig is None:
        return ClusterOutput.from_outputs(*reference(settings.site, Layer.CLUSTER))
    text = _read(top, settings.kubeconfig, "kubeconfig", file).decode()
    return ClusterOutput(
        kubeconfig=pulumi.Output.secret(text),
        cluster_identifier=pulumi.Output.from_input(settings.site),
    )


def _read(top: Path, path: str, key: str, file: StackFile) -> bytes:
    """A file that the stack is told of.

    Raises:
        DeclarationError: it cannot be read.
    """
    try:
        return (top / Path(path).expanduser()).read_bytes()
    except OSError as error:
        file.add(errors.NO_FILE, key, f"{PROJECT}:{key} names '{path}': {error.strerror}")
        file.refuse()
        raise


def _manifests(top: Path) -> dict[str, bytes]:
    found = (path for folder in FOLDERS for path in (top / "manifests" / folder).glob("*.yaml"))
    return {path.relative_to(top).as_posix(): path.read_bytes() for path in found}


def _from_here(top: Path, path: str) -> str:
    """A path as the provider sees it, which runs in this folder: no path of one machine is kept."""
    return os.path.relpath(top / path, Path(__file__).resolve().parent)


class _Maker:
    """Registers the stages of a platform, one after another."""

    def __init__(
        self, top: Path, plan: Platform, below: ClusterOutput, refuse: Callable[[str, str], None]
    ) -> None:
        self._top, self._refuse = top, refuse
        self._parent = pulumi.ComponentResource(TYPE, plan.site)
        self._provider = provider("cluster", below.kubeconfig, below.cluster_identifier)
        self._kept: list[pulumi.Output[bool]] = []
        standing: list[pulumi.Resource] = []
        for stage in plan.stages:
            made: list[pulumi.Resource] = [self._object(thing, standing) for thing in stage.things]
            for install in stage.installs:
                made = [self._chart(install, made or standing)]
            standing = made or standing
        self._parent.register_outputs({})

    def after(self, value: T) -> pulumi.Output[T]:
        """A value that is known once everything stands as it was sent."""
        return pulumi.Output.all(*self._kept).apply(lambda _: value)

    def _object(self, thing: Thing, standing: list[pulumi.Resource]) -> pulumi.Resource:
        made = Manifest(
            thing.name,
            thing.manifest,
            self._options(standing, protect=thing.protect, retain_on_delete=thing.retain),
        )
        self._kept.append(made.kept)
        return made

    def _chart(self, install: Install, standing: list[pulumi.Resource]) -> pulumi.Resource:
        repository = (
            None
            if install.repository is None
            else k8s.helm.v3.RepositoryOptsArgs(repo=install.repository)
        )
        release = k8s.helm.v3.Release(
            install.name,
            k8s.helm.v3.ReleaseArgs(
                name=install.name,
                chart=_from_here(self._top, install.chart) if install.is_path else install.chart,
                version=install.version,
                repository_opts=repository,
                namespace=install.namespace,
                values=install.values,
                timeout=_CHARTS_TIMEOUT_S,
            ),
            self._options(standing, hooks=self._no_skips(install)),
        )
        for kept in install.kept:
            self._read_back(install, kept, release)
        return release

    def _no_skips(self, install: Install) -> pulumi.ResourceHookBinding:
        """Before a chart is upgraded, in previews too: what stands is in the stack's own state."""

        def hold(args: pulumi.ResourceHookArgs) -> None:
            before = (args.old_inputs or {}).get("version")
            if before is not None:
                self._refuse(install.name, before)

        options = pulumi.ResourceHookOptions(on_dry_run=True)
        hook = pulumi.ResourceHook(f"no-skips-{install.name}", hold, options)
        return pulumi.ResourceHookBinding(before_update=[hook])

    def _read_back(self, install: Install, kept: Kept, release: k8s.helm.v3.Release) -> None:
        live = Live(kept.name, kept.about, release.id, self._options([release]))
        about = f"{kept.about.kind} {kept.about.name} of chart {install.name}"
        # A preview looks at what stands before the chart is upgraded.
        if not pulumi.runtime.is_dry_run():
            self._kept.append(
                live.spec.apply(lambda spec: held(about, kept.wanted, {"spec": spec}))
            )

    def _options(self, standing: list[pulumi.Resource], **more: Any) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(
            parent=self._parent, provider=self._provider, depends_on=standing, **more
        )
