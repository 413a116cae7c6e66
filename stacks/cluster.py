"""The cluster layer: a site's hosts as a Kubernetes cluster, by our own provider over SSH."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pulumi

from control_plane.hosts.bundle import MANIFEST, BadBundle, Supply, read_bundle
from control_plane.inventory import errors
from control_plane.provision.cluster import ClusterPlan, Node, plan_cluster
from control_plane.provision.settings import PROJECT, Settings, StackFile
from control_plane.provision.site import DeclaredSite
from stacks.outputs import ClusterOutput

PLUGIN = "gridplane"
TYPE = "gridplane:site:Cluster"
BUNDLE_VARIABLE = "GRIDPLANE_BUNDLE"
"""Says where the bundle lies, on machines where the stack's configuration does not."""


def declare(
    top: Path, declared: DeclaredSite, settings: Settings, file: StackFile
) -> ClusterOutput:
    """Everything of the layer; see `stacks.program.LayerModule`."""
    bundle = None if settings.offline else settings.bundle or os.environ.get(BUNDLE_VARIABLE)
    folder = _folder(top, bundle)
    plan = plan_cluster(declared.site, _supplies(folder, declared, file))
    if plan is None:
        what = f"{PROJECT}:site is '{settings.site}', which has no cluster.yaml"
        file.add(errors.NO_CLUSTER, "site", what)
    file.refuse()
    assert plan is not None  # noqa: S101 - refused above
    made = SiteCluster(plan, _provider(top, plan, settings, folder))
    return ClusterOutput(
        kubeconfig=pulumi.Output.secret(made.kubeconfig),
        # Once it leads somewhere: nothing is laid on a cluster that is not whole.
        cluster_identifier=pulumi.Output.all(made.ready, settings.site).apply(lambda all_: all_[1]),
    )


class SiteCluster(pulumi.ComponentResource):
    """A site's servers, its agents rack by rack, and the kubeconfig that leads to them."""

    kubeconfig: pulumi.Output[str]
    """Secret."""
    ready: pulumi.Output[Sequence[str]]
    """Ids of all machines' resources, known once each is done."""

    def __init__(self, plan: ClusterPlan, provider: pulumi.ProviderResource) -> None:
        """Declare all of it.

        Args:
            plan: what it is made of.
            provider: ours, and how it reaches the machines.
        """
        super().__init__(TYPE, plan.site, None, pulumi.ResourceOptions(provider=provider))
        software = _values(plan.software)
        targets = [_values(node.target) for node in plan.servers]
        # Where deleting takes machines out of the cluster, a destroy is refused before it begins with any.
        is_kept = plan.software.on_removal == "uninstall"
        servers: list[pulumi.CustomResource] = []
        for number, node in enumerate(plan.servers):
            peers = [target for target in targets if target["name"] != node.name]
            inputs = {
                "node": _values(node), "software": software, "peers": peers, "mayBegin": not number,
            }  # fmt: skip
            # One after the other: etcd takes one new member at a time.
            options = pulumi.ResourceOptions(
                parent=self, depends_on=servers[-1:], protect=is_kept, provider=provider
            )
            servers.append(_Machines("gridplane:k8s:Server", node.name, inputs, options))
        behind = pulumi.ResourceOptions(parent=self, depends_on=servers, provider=provider)
        kept = pulumi.ResourceOptions.merge(behind, pulumi.ResourceOptions(protect=is_kept))
        ways = {"software": software, "servers": targets}
        agents = [
            _Machines(
                "gridplane:k8s:Agents", group.name, {"nodes": _by_name(group.nodes), **ways}, kept
            )
            for group in plan.agents
        ]
        config = _Kubeconfig(plan.site, ways, behind)
        # Behind all of it: a destroy begins here, and ends here while a platform stands on the cluster.
        whole = pulumi.ResourceOptions(
            parent=self, depends_on=[*servers, *agents, config], provider=provider
        )
        _Machines("gridplane:k8s:Foundation", plan.site, {"site": plan.site, **ways}, whole)
        self.kubeconfig = config.kubeconfig
        self.ready = pulumi.Output.all(*(made.id for made in (*servers, *agents)))
        self.register_outputs({})


class _Machines(pulumi.CustomResource):
    """One of our resources that are sets of machines."""

    def __init__(
        self, kind: str, name: str, inputs: Mapping[str, Any], opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__(kind, name, dict(inputs), opts)


class _Kubeconfig(pulumi.CustomResource):
    """What leads to the cluster."""

    kubeconfig: pulumi.Output[str]

    def __init__(self, name: str, inputs: Mapping[str, Any], opts: pulumi.ResourceOptions) -> None:
        more = pulumi.ResourceOptions(additional_secret_outputs=["kubeconfig"])
        super().__init__(
            "gridplane:k8s:Kubeconfig",
            name,
            {**inputs, "kubeconfig": None},
            pulumi.ResourceOptions.merge(opts, more),
        )


def _provider(
    top: Path, plan: ClusterPlan, settings: Settings, folder: Path | None
) -> pulumi.ProviderResource:
    """How machines are reached; none of it is a property of the machines."""
    given = {"loginKey": settings.login_key, "knownHosts": settings.known_hosts}
    paths = {name: str(_path(top, path)) for name, path in given.items() if path}
    if folder:
        paths["bundle"] = str(folder)
    keys = {"hostKeys": dict(plan.host_keys)} if plan.host_keys else {}
    return pulumi.ProviderResource(PLUGIN, "machines", {**paths, **keys})


def _supplies(folder: Path | None, declared: DeclaredSite, file: StackFile) -> tuple[Supply, ...]:
    """What is in the bundle; a finding where it cannot be used."""
    if folder is None:
        return ()
    path, cluster = folder / MANIFEST, declared.site.cluster
    try:
        bundle = read_bundle(path.read_bytes(), str(path))
    except (OSError, BadBundle) as error:
        file.add(errors.UNFIT_BUNDLE, "bundle", str(error))
        return ()
    if cluster and bundle.kubernetes != cluster.version:
        what = f"{path} is of Kubernetes {bundle.kubernetes}, and the cluster of {cluster.version}"
        file.add(errors.UNFIT_BUNDLE, "bundle", what)
    return bundle.supplies


def _folder(top: Path, path: str | None) -> Path | None:
    return _path(top, path) if path else None


def _path(top: Path, path: str) -> Path:
    return top / Path(path).expanduser()


def _by_name(nodes: Sequence[Node]) -> dict[str, Any]:
    return {node.name: _values(node) for node in nodes}


def _values(value: msgspec.Struct) -> dict[str, Any]:
    """As Pulumi has values: JSON's."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(value))
    return found
