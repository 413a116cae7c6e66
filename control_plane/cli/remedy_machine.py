"""`gridplane remedy rma`, `accept`: words about the machine in a slot."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from control_plane.cli.remedy_saying import are_nodes, completing, say, says
from control_plane.cli.workplace import Workplace
from control_plane.core.gpu_life import Life


def in_repair(place: Workplace) -> Iterable[str]:
    """Nodes with an open ticket."""
    return (name for name, kept in place.store.remedies().items() if kept.ticket is not None)


def _mismatched(place: Workplace) -> Iterable[str]:
    rows = place.store.remedies().items()
    return (name for name, kept in rows if kept.life and kept.life.life is Life.BOM_MISMATCH)


@click.command("rma")
@click.argument("node", shell_complete=completing(in_repair))
@click.option("--serial", required=True, help="Of the machine that leaves, as its label has it.")
@says
def rma(*, node: str, serial: str, output: str, by: str, reason: str, **place: Any) -> int:
    """Say that the machine of NODE leaves for its maker. The slot stays.

    Its ticket stays open, and with it what its maker is told: alerts and XIDs, parts, what was tried
    (`gridplane explain NODE -o json`). It closes by itself once another board stands there: that one is
    inspected and validated, and comes back through the return gate. Comes the same machine back, say
    `gridplane remedy repaired` instead. A GPU that leaves alone is a repair.

    \b
    gridplane remedy rma ga-g1-r001-n3 --serial S4X3921 --reason "case 4711" --kubeconfig ga.kubeconfig
    """
    return say(
        "rma",
        node,
        place,
        by=by,
        reason=reason,
        output=output,
        check=are_nodes(node),
        serial=serial,
    )


@click.command("accept")
@click.argument("node", shell_complete=completing(_mismatched))
@click.option("--bom", is_flag=True, required=True, help="What it is made of.")
@says
def accept(*, node: str, bom: bool, output: str, by: str, reason: str, **place: Any) -> int:
    """Accept the machine of NODE though it is made of something else than declared.

    The word is of this machine and of what differs now: another board, or another difference, asks anew. A
    number of GPUs that differs is not accepted but declared: budgets, gate and quota count by it.

    \b
    gridplane remedy accept ga-g1-r001-n3 --bom --reason "H200 NVL agreed" --kubeconfig ga.kubeconfig
    """
    del bom  # what else there may be to accept some day
    return say("accept", node, place, by=by, reason=reason, output=output, check=are_nodes(node))
