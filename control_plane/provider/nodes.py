"""A cluster's nodes as its API has them: readiness, labels and taints, asked of a server by kubectl."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from control_plane.core.errors import UnexpectedReply
from control_plane.hosts.connection import Command, Connection, check
from control_plane.hosts.converge import WRITE_S
from control_plane.hosts.errors import CommandFailed, HostUnfit
from control_plane.provision.backend import ClusterBackend
from control_plane.provision.cluster import Node

READY_S = 300.0
"""From joined to ready, in wire seconds: images of the network's own pods are pulled meanwhile."""

SILENT_S = 120.0
"""From a kubelet's end until its node no longer counts as ready, at the most, in wire seconds. A cluster
allows 40 to 50 by itself (kube-controller-manager, `--node-monitor-grace-period`)."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One node as the API server has it."""

    is_ready: bool
    labels: Mapping[str, str]
    taints: frozenset[str]


def read(server: Connection, names: Sequence[str], backend: ClusterBackend) -> dict[str, Seen]:
    """The nodes that there are, of these.

    Raises:
        CommandFailed: the API server does not answer.
        UnexpectedReply: kubectl printed something else than nodes.
    """
    if not names:
        return {}
    asked = (*backend.kubectl, "get", "nodes", *names, "--ignore-not-found", "--output=json")
    told = check(server, asked)
    if not told.strip():
        return {}
    try:
        document = msgspec.json.decode(told)
        nodes = document.get("items", [document])
        return {node["metadata"]["name"]: _seen(node) for node in nodes}
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
        raise UnexpectedReply(
            f"kubectl on {server.name} printed no nodes: {told[:100]!r}"
        ) from error


def await_nodes(
    server: Connection,
    names: Collection[str],
    backend: ClusterBackend,
    *,
    wants_ready: bool,
    look_s: float,
    within_s: float = READY_S,
) -> frozenset[str]:
    """Wait until nodes are there and, where it is wanted, ready.

    Args:
        server: whom to ask.
        names: of the nodes.
        backend: of the cluster.
        wants_ready: false where something else has to bring the network first.
        look_s: between one look and the next.
        within_s: wire seconds.

    Returns:
        Those that are not, in time.

    Raises:
        CommandFailed: the API server does not answer, in all that time.
    """
    until = time.monotonic() + within_s
    while True:
        try:
            seen = read(server, sorted(names), backend)
        except CommandFailed:
            # A server that has just started, or lost another one, is silent for a while.
            if time.monotonic() > until:
                raise
            time.sleep(look_s)
            continue
        missing = frozenset(
            n for n in names if n not in seen or (wants_ready and not seen[n].is_ready)
        )
        if not missing or time.monotonic() > until:
            return missing
        time.sleep(look_s)


def make_way(server: Connection, name: str, backend: ClusterBackend, *, look_s: float) -> None:
    """Let a machine join under a name that the cluster knows already, and that no other machine bears.

    It joined once and was made anew, or an attempt was cut off after its node had registered. The node stays
    as it is: with it would go that a person has cordoned it.

    Args:
        server: whom to ask.
        name: of the node; its machine is of no cluster now.
        backend: of the cluster.
        look_s: between one look and the next.

    Raises:
        HostUnfit: it goes on being ready, so that another machine runs under this name: a person acts.
        CommandFailed: the API server does not answer.
    """
    until = time.monotonic() + SILENT_S
    while (found := read(server, [name], backend).get(name)) and found.is_ready:
        if time.monotonic() > until:
            raise HostUnfit(
                f"host {name}: its name is that of a node that is ready, and this machine is of no cluster: "
                "another one runs under the name. Give one of them another name, or take that one out first"
            )
        time.sleep(look_s)
    if found and (commands := backend.rejoin(name)):
        check(server, *commands, deadline_s=WRITE_S)


def mark(
    server: Connection,
    nodes: Sequence[Node],
    formerly: Mapping[str, Node],
    backend: ClusterBackend,
) -> tuple[str, ...]:
    """Give nodes the labels and taints that are declared, and take those away that no longer are.

    Args:
        server: whom to tell.
        nodes: as they are declared.
        formerly: node → as it was declared before; what others put on it stays.
        backend: of the cluster.

    Returns:
        What was changed, in words.

    Raises:
        CommandFailed: the API server refuses.
    """
    seen = read(server, [node.name for node in nodes], backend)
    told: list[str] = []
    for node in nodes:
        found = seen.get(node.name)
        if found is None:
            continue
        for command, what in _corrections(node, found, formerly.get(node.name), backend):
            check(server, command, deadline_s=WRITE_S)
            told.append(what)
    return tuple(told)


def _corrections(
    node: Node, seen: Seen, before: Node | None, backend: ClusterBackend
) -> Iterator[tuple[Command, str]]:
    gone = set(before.labels) - set(node.labels) if before else set()
    set_labels = [f"{k}={v}" for k, v in sorted(node.labels.items()) if seen.labels.get(k) != v]
    dropped = [f"{key}-" for key in sorted(gone & seen.labels.keys())]
    if set_labels or dropped:
        words = (*backend.kubectl, "label", "node", node.name, *set_labels, *dropped, "--overwrite")
        yield words, f"{node.name}: labels {', '.join([*set_labels, *dropped])}"
    old = (set(before.taints) - set(node.taints)) & seen.taints if before else set()
    new = [_taint(taint) for taint in node.taints if taint not in seen.taints]
    removed = [f"{taint}-" for taint in sorted(old)]
    if new or removed:
        words = (*backend.kubectl, "taint", "node", node.name, *new, *removed, "--overwrite")
        yield words, f"{node.name}: taints {', '.join([*new, *removed])}"


def _taint(text: str) -> str:
    key, _, effect = text.partition(":")
    return f"{key}=:{effect}"


def _seen(node: Mapping[str, Any]) -> Seen:
    conditions = node.get("status", {}).get("conditions", ())
    return Seen(
        is_ready=any(c["type"] == "Ready" and c["status"] == "True" for c in conditions),
        labels=node["metadata"].get("labels", {}),
        taints=frozenset(
            f"{taint['key']}:{taint['effect']}" for taint in node.get("spec", {}).get("taints", ())
        ),
    )
