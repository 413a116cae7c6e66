"""What the simulated GPUs of a lab's host are told to do."""

from __future__ import annotations

import json
from typing import Any

from control_plane.lab.cluster import ClusterLab
from tests.lab.machines import host

ORDERS = "/var/lib/gridplane-node-agent/orders.jsonl"
LASTING = "/var/lib/gridplane-node-agent/lasting.jsonl"
"""Orders that are obeyed in each boot anew: what is broken for good."""


def order(lab: ClusterLab, node: str, **what: Any) -> None:
    """One order to the GPUs of a node: `control_plane.simulator.gpu_orders`."""
    lab.hosts.run(host(lab, node), f"echo '{json.dumps(what)}' >> {ORDERS}")
