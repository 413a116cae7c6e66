"""The support matrix: what each firmware family can be asked and told, from the drivers' capabilities."""

from __future__ import annotations

from control_plane.core.change import Capabilities, ChangeKind, SettingClass
from control_plane.core.observation import Field
from control_plane.drivers.registry import all_capabilities


def drivers_page(made: str) -> str:
    """One column per family."""
    families = all_capabilities()
    head = ["", *(f"`{name}`" for name in families)]
    reads = [
        [f"`{field}`", *("yes" if field in one.reads else "no" for one in families.values())]
        for field in Field
    ]
    writes = [
        [f"`{kind}`", *(_write(one, kind) for one in families.values())] for kind in ChangeKind
    ]
    times = [
        ["settles within", *(f"{one.settle_s:,.0f} s" for one in families.values())],
        ["pools at most", *(str(one.max_pools) for one in families.values())],
        ["takes a new password of", *(_passwords(one) for one in families.values())],
        ["takes a static address", *(_network(one) for one in families.values())],
        ["open to anyone on its network", *(_open(one) for one in families.values())],
    ]
    return "\n".join(
        [
            "# Drivers\n",
            made,
            (
                "A family without a column has no driver: its devices are planned as held (`no_driver`) and\n"
                "count at nameplate. [Add a driver](../how-to/add-a-driver.md).\n"
            ),
            "## What can be read\n",
            _table(head, reads),
            "## What can be written, and what a write costs\n",
            (
                "First what it does to hashing, then the hash that is lost in seconds of full hash, and the\n"
                "device time by which the setting must read as written and watts and hash must show it.\n"
                "*Persistent*: survives a reboot, wears flash, and is budgeted: [limits](limits.md).\n"
                "Sources stand beside the figures in each driver.\n"
            ),
            _table(head, writes),
            "## Else\n",
            (
                "*Open*: the device asks nobody who writes it for a password, and none can be set. Only the\n"
                "network keeps strangers away from it, and drift of such a field may be one of them.\n"
            ),
            _table(head, times),
        ]
    )


def _write(family: Capabilities, kind: ChangeKind) -> str:
    cost: SettingClass | None = family.writes.get(kind)
    if cost is None:
        return "no"
    words = [
        cost.disturbance.replace("_", " "),
        f"{cost.lost_s:,.0f} s lost",
        f"reads in {cost.readback_s:,.0f} s",
        f"shows in {cost.effect_s:,.0f} s",
    ]
    return ", ".join([*words, *(["*persistent*"] if cost.persistent else [])])


def _passwords(family: Capabilities) -> str:
    return family.passwords.means if family.passwords else "it has none that can be set"


def _network(family: Capabilities) -> str:
    ways = family.network
    if ways is None:
        return "no"
    return f"{'boots for it' if ways.reboots else 'mines on'}, is there in {ways.late_s:,.0f} s"


def _open(family: Capabilities) -> str:
    return ", ".join(f"`{field}`" for field in Field if field in family.open_writes) or "nothing"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
