"""The manifests of this repository, made a site's own: where they live, whose image, which networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
import yaml

from control_plane.api.v1alpha1 import NetworkDoc
from control_plane.core.errors import DeclarationError
from control_plane.inventory import errors
from control_plane.inventory.problems import Problems
from control_plane.inventory.text import read_yaml
from control_plane.provision.rules import CONTROLLER, NODE_AGENT
from control_plane.provision.site import DeclaredSite

Manifest = dict[str, Any]
Files = Mapping[str, bytes]
"""Path from the top of the checkout → content."""

FOLDERS: Final = ("crds", "controller", "node-agent", "monitoring")
_OF_THE_CLUSTER: Final = frozenset(
    {
        "ClusterRole", "ClusterRoleBinding", "Namespace", "PriorityClass",
        "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
    }
)  # fmt: skip
"""Kinds of no namespace."""
_EXAMPLE: Final = {
    "10.21.0.0/24": "management",
    "10.20.0.0/16": "miners",
    "10.25.0.0/20": "bmc",
}
"""Blocks that the controller's network policy is written with → purpose of the networks that they are."""
_NEEDED: Final = frozenset({"management", "miners"})


def read(files: Files, folder: str) -> Iterator[Manifest]:
    """Every object of a folder of `manifests/`, in the order of files and documents."""
    for path in sorted(files):
        if path.startswith(f"manifests/{folder}/"):
            yield from (one for one in yaml.safe_load_all(files[path]) if one)


def networks_of(declared: DeclaredSite) -> dict[str, tuple[str, ...]]:
    """Purpose → CIDRs of the site's networks.

    Raises:
        DeclarationError: the controller would reach nothing, since a purpose that it needs is missing.
    """
    path, problems = f"sites/{declared.site.id}/site.yaml", Problems()
    document = read_yaml(path, declared.files[path], problems)
    found: dict[str, tuple[str, ...]] = {}
    if document is not None:
        networks = msgspec.convert(document.value["networks"], tuple[NetworkDoc, ...])
        for network in networks:
            found[network.purpose] = (*found.get(network.purpose, ()), network.cidr)
        for purpose in sorted(_NEEDED - found.keys()):
            what = f"no network has the purpose '{purpose}', and the controller has to reach it"
            problems.add(errors.NO_NETWORK, document, document.key("networks"), what)
    if problems.errors:
        raise DeclarationError(problems.found())
    return found


def localized(
    objects: Iterable[Manifest],
    *,
    namespace: str,
    site: str,
    image: str,
    networks: Mapping[str, tuple[str, ...]],
) -> Iterator[Manifest]:
    """The objects in a namespace, about one site. Those that name one of their own stay there."""
    for one in objects:
        if one["kind"] not in _OF_THE_CLUSTER:
            one["metadata"].setdefault("namespace", namespace)
        change = _CHANGES.get(one["kind"])
        if change is not None:
            change(one, _Local(namespace, site, image, networks))
        yield one


class _Local(msgspec.Struct, frozen=True):
    namespace: str
    site: str
    image: str
    networks: Mapping[str, tuple[str, ...]]


def _bind(one: Manifest, local: _Local) -> None:
    for subject in one["subjects"]:
        subject.setdefault("namespace", local.namespace)


def _bind_everywhere(one: Manifest, local: _Local) -> None:
    """Such a binding has to name a namespace as it is written: the one of the site holds."""
    for subject in one["subjects"]:
        subject["namespace"] = local.namespace


def _deploy(one: Manifest, local: _Local) -> None:
    for container in one["spec"]["template"]["spec"]["containers"]:
        container["image"] = local.image
        for variable in container["env"]:
            if variable["name"] == "GRIDPLANE_SITE":
                variable["value"] = local.site
            elif variable["name"] == "GRIDPLANE_NAMESPACE":
                variable["value"] = local.namespace
    if one["metadata"]["name"] in {CONTROLLER, NODE_AGENT}:
        # One is ready once a Site is declared, which is the layer above, the other once every GPU node is up:
        # waiting for them here never ends.
        one["metadata"].setdefault("annotations", {})["pulumi.com/skipAwait"] = "true"


def _open(one: Manifest, local: _Local) -> None:
    for direction, side in (("ingress", "from"), ("egress", "to")):
        rules = one["spec"].get(direction, [])
        for rule in rules:
            rule[side] = [peer for each in rule[side] for peer in _peers(each, local.networks)]
        # A rule without peers would open its ports to everybody: a site without such networks has none.
        rules[:] = [rule for rule in rules if rule[side]]


def _peers(peer: Manifest, networks: Mapping[str, tuple[str, ...]]) -> Iterator[Manifest]:
    if "ipBlock" not in peer:
        yield peer
        return
    for cidr in networks.get(_EXAMPLE[peer["ipBlock"]["cidr"]], ()):
        yield {"ipBlock": {"cidr": cidr}}


_CHANGES: Final[Mapping[str, Callable[[Manifest, _Local], None]]] = {
    "ClusterRoleBinding": _bind_everywhere,
    "RoleBinding": _bind,
    "DaemonSet": _deploy,
    "Deployment": _deploy,
    "NetworkPolicy": _open,
}
