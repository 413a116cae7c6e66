"""The resources, without a word of Pulumi: inputs are plain values, and so is what comes of them.

`Server` is one machine, `Agents` those of a rack, `Kubeconfig` what leads to the cluster, `Foundation` the
whole of it, as a platform stands on it. The state of a resource is its inputs, as far as they are true of the
machines: what could not be brought about is not in it, so that the next update sees it missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Protocol

import msgspec

from control_plane.core.errors import ControlPlaneError
from control_plane.hosts.connection import Target
from control_plane.provider.crew import Crew, Outcome
from control_plane.provision.admission import PLATFORM_POLICY
from control_plane.provision.cluster import Node, Software
from control_plane.provision.settings import Layer, stack_of

Values = dict[str, Any]
"""Properties as they cross to Pulumi: JSON's values."""

LET_GO: Final = "GRIDPLANE_LET_GO"
"""Variable: the stack whose cluster a person destroys although a platform may stand on it."""
_FIXED: Final = {
    "backend": "a cluster does not change its installer",
    "version": "an upgrade goes server by server, and is not done by this layer",
    "endpoint": "certificates and every node's configuration name it",
    "pods": "running pods have addresses in it",
    "services": "running services have addresses in it",
    "cni": "running pods are in it",
}
"""What cannot be changed on a cluster that stands, and why."""


class Rejected(msgspec.Struct, frozen=True):
    """An input that cannot be; the author acts."""

    path: str
    reason: str


class PartlyDone(ControlPlaneError):
    """Some of it came about. `state` says what; the next update goes on from there."""

    def __init__(self, state: Values, reasons: tuple[str, ...]) -> None:
        self.state, self.reasons = state, reasons
        super().__init__("\n".join(reasons))


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One difference between what stands and what is wanted."""

    path: str
    """As Pulumi writes it: `nodes["lab-g1-n1"].labels`."""
    kind: str
    """`add`, `delete` or `update`."""


class Resource(Protocol):
    """What the engine asks of one type of resource."""

    secrets: ClassVar[frozenset[str]]
    """Outputs that are secret."""
    computed: ClassVar[frozenset[str]]
    """Outputs that are not known before it is made."""

    def check(self, old: Values | None, new: Values) -> list[Rejected]:
        """What is wrong with inputs; `old` are those before."""

    def changes(self, state: Values, new: Values) -> list[Change]:
        """How inputs differ from what stands."""

    def identity(self, new: Values) -> str:
        """The id of what is made."""

    def bring(self, crew: Crew, old: Values | None, new: Values) -> Values:
        """Make it, or bring it up to its inputs; the state.

        Raises:
            PartlyDone: some machines failed.
            ControlPlaneError: nothing of it came about.
        """

    def probe(self, crew: Crew, state: Values) -> Values | None:
        """What really stands; `None` where nothing does."""

    def remove(self, crew: Crew, state: Values) -> None:
        """Let go of it, or take it away where that was asked for."""


class AgentsInputs(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Machines that are to be nodes."""

    nodes: Mapping[str, Node]
    software: Software
    servers: tuple[Target, ...]


class ServerInputs(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A machine that is to be a server."""

    node: Node
    software: Software
    peers: tuple[Target, ...]
    may_begin: bool


class KubeconfigInputs(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where a kubeconfig is read from."""

    software: Software
    servers: tuple[Target, ...]


class FoundationInputs(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A cluster, and who is asked of what stands on it."""

    site: str
    software: Software
    servers: tuple[Target, ...]


class Agents:
    """`gridplane:k8s:Agents`."""

    secrets: ClassVar[frozenset[str]] = frozenset()
    computed: ClassVar[frozenset[str]] = frozenset()

    def check(self, old: Values | None, new: Values) -> list[Rejected]:
        """Shape, and what cannot be changed."""
        return _shape(AgentsInputs, new) or _fixed(old, new)

    def changes(self, state: Values, new: Values) -> list[Change]:
        """By node. Which servers there are is only the way in."""
        return [*_by_name("nodes", state, new), *_software(state, new)]

    def identity(self, new: Values) -> str:
        """Its first node's name: a rack keeps it while nodes are added behind."""
        return str(min(new["nodes"]))

    def bring(self, crew: Crew, old: Values | None, new: Values) -> Values:
        """All machines; those that are no longer among them are let go of."""
        inputs = msgspec.convert(new, AgentsInputs)
        before = _nodes(old)
        leaving = [node for name, node in before.items() if name not in inputs.nodes]
        failed: dict[str, ControlPlaneError] = {}
        if leaving and inputs.software.on_removal == "uninstall":
            failed |= crew.take_out(leaving, inputs.software, inputs.servers).failed
        staying = list(inputs.nodes.values())
        outcome = crew.bring_agents(staying, inputs.software, inputs.servers, before)
        # A node that could not leave is still here; one that could not come is not.
        stuck = {name: old["nodes"][name] for name in failed} if old else {}
        came = {name: node for name, node in new["nodes"].items() if name not in outcome.failed}
        return _finish(new, Outcome(failed={**failed, **outcome.failed}), nodes={**came, **stuck})

    def probe(self, crew: Crew, state: Values) -> Values | None:
        """The nodes that are there."""
        inputs = msgspec.convert(state, AgentsInputs)
        found = crew.probe(list(inputs.nodes.values()), inputs.software, inputs.servers)
        if not found:
            return None
        return {**state, "nodes": {name: msgspec.to_builtins(n) for name, n in found.items()}}

    def remove(self, crew: Crew, state: Values) -> None:
        """Release: they go on running. Uninstall: they leave the cluster."""
        inputs = msgspec.convert(state, AgentsInputs)
        if inputs.software.on_removal == "uninstall":
            _raise(crew.take_out(list(inputs.nodes.values()), inputs.software, inputs.servers))


class Server:
    """`gridplane:k8s:Server`."""

    secrets: ClassVar[frozenset[str]] = frozenset()
    computed: ClassVar[frozenset[str]] = frozenset()

    def check(self, old: Values | None, new: Values) -> list[Rejected]:
        """Shape, and what cannot be changed."""
        return _shape(ServerInputs, new) or _fixed(old, new)

    def changes(self, state: Values, new: Values) -> list[Change]:
        """Of the machine, and what it is given."""
        return [*_whole("node", state, new), *_software(state, new)]

    def identity(self, new: Values) -> str:
        """The node's name."""
        return str(new["node"]["target"]["name"])

    def bring(self, crew: Crew, old: Values | None, new: Values) -> Values:
        """The machine as a server."""
        inputs = msgspec.convert(new, ServerInputs)
        before = msgspec.convert(old["node"], Node) if old else None
        crew.bring_server(
            inputs.node, inputs.software, inputs.peers, before, may_begin=inputs.may_begin
        )
        return new

    def probe(self, crew: Crew, state: Values) -> Values | None:
        """The server as it is; asked of itself or of a peer."""
        inputs = msgspec.convert(state, ServerInputs)
        servers = (inputs.node.target, *inputs.peers)
        found = crew.probe([inputs.node], inputs.software, servers).get(inputs.node.name)
        return {**state, "node": msgspec.to_builtins(found)} if found else None

    def remove(self, crew: Crew, state: Values) -> None:
        """Release: it goes on running. Uninstall: it leaves, with its share of etcd."""
        inputs = msgspec.convert(state, ServerInputs)
        if inputs.software.on_removal == "uninstall":
            servers = (inputs.node.target, *inputs.peers)
            _raise(crew.take_out([inputs.node], inputs.software, servers))


class Kubeconfig:
    """`gridplane:k8s:Kubeconfig`."""

    secrets: ClassVar[frozenset[str]] = frozenset({"kubeconfig"})
    computed: ClassVar[frozenset[str]] = frozenset({"kubeconfig"})

    def check(self, old: Values | None, new: Values) -> list[Rejected]:
        """Shape alone."""
        return _shape(KubeconfigInputs, new)

    def changes(self, state: Values, new: Values) -> list[Change]:
        """Where the cluster is found; the rest of the software says nothing about it."""
        kept = ("backend", "endpoint")
        return _whole(
            "software",
            {"software": {key: state["software"].get(key) for key in kept}},
            {"software": {key: new["software"].get(key) for key in kept}},
        )

    def identity(self, new: Values) -> str:
        """The cluster's endpoint."""
        return str(new["software"]["endpoint"])

    def bring(self, crew: Crew, old: Values | None, new: Values) -> Values:
        """Read from the first server that answers."""
        inputs = msgspec.convert(new, KubeconfigInputs)
        return {**new, "kubeconfig": crew.kubeconfig(inputs.software, inputs.servers)}

    def probe(self, crew: Crew, state: Values) -> Values | None:
        """What the servers have now: certificates are renewed."""
        return self.bring(crew, None, {k: v for k, v in state.items() if k not in self.secrets})

    def remove(self, crew: Crew, state: Values) -> None:
        """Nothing is on any machine."""


class Foundation:
    """`gridplane:k8s:Foundation`: depends on all others, so that a destroy begins, and may end, with it."""

    secrets: ClassVar[frozenset[str]] = frozenset()
    computed: ClassVar[frozenset[str]] = frozenset()

    def check(self, old: Values | None, new: Values) -> list[Rejected]:
        """Shape alone."""
        return _shape(FoundationInputs, new)

    def changes(self, state: Values, new: Values) -> list[Change]:
        """All of it: whom a destroy asks stands in the state alone."""
        return [
            Change(path=key, kind="update") for key in sorted(new) if state.get(key) != new[key]
        ]

    def identity(self, new: Values) -> str:
        """The site."""
        return str(new["site"])

    def bring(self, crew: Crew, old: Values | None, new: Values) -> Values:
        """Nothing is done to any machine."""
        return new

    def probe(self, crew: Crew, state: Values) -> Values | None:
        """As it is in the state."""
        return state

    def remove(self, crew: Crew, state: Values) -> None:
        """Nothing is on any machine; refused while a platform stands on the cluster."""
        inputs = msgspec.convert(state, FoundationInputs)
        own, platform = stack_of(inputs.site, Layer.CLUSTER), stack_of(inputs.site, Layer.PLATFORM)
        if crew.lets_go == own:
            return
        meant = f"say so: {LET_GO}={own} pulumi destroy --stack {own}"
        try:
            stands = crew.has_policy(PLATFORM_POLICY, inputs.software, inputs.servers)
        except ControlPlaneError as error:
            raise ControlPlaneError(
                f"whether {platform} stands on the cluster of {inputs.site} cannot be told: {error}\nBring a "
                f"server back; or, where the cluster is lost for good, {meant}"
            ) from error
        if stands:
            raise ControlPlaneError(
                f"the cluster of {inputs.site} is not let go of while {platform} stands on it: `pulumi "
                f"destroy --stack {platform}` first. Nothing has gone. Where the platform is to be lost with "
                f"it, {meant}"
            )


RESOURCES: Final[Mapping[str, Resource]] = {
    "gridplane:k8s:Server": Server(),
    "gridplane:k8s:Agents": Agents(),
    "gridplane:k8s:Kubeconfig": Kubeconfig(),
    "gridplane:k8s:Foundation": Foundation(),
}


def _shape(kind: type[msgspec.Struct], new: Values) -> list[Rejected]:
    try:
        msgspec.convert(new, kind)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$.")
        return [Rejected(path.rstrip("`") or "nodes", what)]
    return []


def _fixed(old: Values | None, new: Values) -> list[Rejected]:
    if not old:
        return []
    was, is_now = old.get("software", {}), new["software"]
    return [
        Rejected(
            f"software.{key}",
            f"{key} of the cluster would change from {was[key]} to {is_now[key]}: {why}. Put it back in "
            "cluster.yaml",
        )
        for key, why in _FIXED.items()
        if key in was and was[key] != is_now.get(key)
    ]


def _nodes(values: Values | None) -> dict[str, Node]:
    return msgspec.convert(values["nodes"], dict[str, Node]) if values else {}


def _by_name(key: str, state: Values, new: Values) -> list[Change]:
    old, wanted = state.get(key, {}), new[key]
    found = [Change(path=f'{key}["{n}"]', kind="add") for n in sorted(wanted.keys() - old.keys())]
    found += [
        Change(path=f'{key}["{n}"]', kind="delete") for n in sorted(old.keys() - wanted.keys())
    ]
    for name in sorted(wanted.keys() & old.keys()):
        for part in sorted(wanted[name].keys() | old[name].keys()):
            if wanted[name].get(part) != old[name].get(part):
                found.append(Change(path=f'{key}["{name}"].{part}', kind="update"))
    return found


def _whole(key: str, state: Values, new: Values) -> list[Change]:
    old, wanted = state.get(key, {}), new[key]
    return [
        Change(path=f"{key}.{part}", kind="update")
        for part in sorted(wanted.keys() | old.keys())
        if wanted.get(part) != old.get(part)
    ]


def _software(state: Values, new: Values) -> list[Change]:
    """`onRemoval` counts too: what is kept of it decides how a deletion is done."""
    return _whole("software", state, new)


def _finish(new: Values, outcome: Outcome, *, nodes: Values) -> Values:
    state = {**new, "nodes": nodes}
    if not outcome.failed:
        return state
    reasons = tuple(str(error) for _, error in sorted(outcome.failed.items()))
    raise PartlyDone(state, reasons)


def _raise(outcome: Outcome) -> None:
    for _, error in sorted(outcome.failed.items()):
        raise error
