"""How a reader of conditions judges an object: the order of kstatus, written down from its description.

cli-utils `pkg/kstatus/status`: deletion, then an old generation, then Reconciling, Stalled, Ready.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Verdict = Literal["Terminating", "InProgress", "Failed", "Current"]


def judge(thing: Mapping[str, Any]) -> Verdict:
    """What kstatus says of a custom resource."""
    meta, status = thing["metadata"], thing.get("status") or {}
    if meta.get("deletionTimestamp"):
        return "Terminating"
    observed = status.get("observedGeneration")
    if observed is not None and observed != meta["generation"]:
        return "InProgress"
    told = {each["type"]: each["status"] for each in status.get("conditions", ())}
    if told.get("Reconciling") == "True":
        return "InProgress"
    if told.get("Stalled") == "True":
        return "Failed"
    # Without the condition Ready an object counts as current: every status of ours has to have it.
    return "Current" if told.get("Ready", "True") == "True" else "InProgress"
