"""Work orders as people read them: some lines of a plan, or the sheet that somebody carries."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from control_plane.core.digest import short
from control_plane.core.work_order import WorkOrder
from control_plane.views.table import counted, one_line, table

_ORDERS = 3
_RACKS = 6


def work_order_lines(orders: Sequence[WorkOrder], *, sheet: str = "") -> list[str]:
    """The section of a plan; nothing where no machine changes its family.

    Args:
        orders: all of them.
        sheet: the command that prints them whole.
    """
    lines = []
    for order in orders[:_ORDERS]:
        machines = counted(len(order.slots), "machine")
        version = f" {order.version}" if order.version else ""
        lines += [
            (
                f"Work order  {machines} from {order.family_now} to "
                f"{one_line(order.family + version)}, by a person: {order.make} {order.model}"
            ),
            f"            where {_where(order)}",
            f"            images {_images(order)}",
            *(f"            not undone: {one_line(text)}" for text in order.final),
        ]
    if more := orders[_ORDERS:]:
        machines = counted(sum(len(order.slots) for order in more), "machine")
        lines.append(f"            and {counted(len(more), 'more order')}, {machines}")
    if lines and sheet:
        lines.append(f"            steps and slots: {sheet}")
    return lines


def sheet(order: WorkOrder) -> str:
    """The whole of one order: what to do, then where."""
    machines = counted(len(order.slots), "machine")
    version = f" {order.version}" if order.version else ""
    lines = [
        one_line(f"{order.make} {order.model}: {order.family_now} -> {order.family}{version}"),
        f"{machines} in {counted(len({slot.rack for slot in order.slots}), 'rack')}",
        "",
        "Images",
    ]
    if order.images:
        lines.append(
            table(
                ("  FILE", "BYTES", "CONTROL BOARDS", "SHA-256"),
                [
                    (f"  {i.file}", i.size_bytes, ", ".join(i.control_boards) or "any", i.sha256)
                    for i in order.images
                ],
            )
        )
    else:
        lines.append("  none: the declaration names no version")
    lines += ["", "Steps, machine by machine"]
    lines += [f"  {number}. {one_line(step)}" for number, step in enumerate(order.steps, 1)]
    lines += ["", "Not undone", *(f"  - {one_line(text)}" for text in order.final), ""]
    lines.append(
        table(
            ("  RACK", "SLOT", "DEVICE", "ADDRESS", "MAC", "SERIAL", "RUNS", "DONE"),
            [
                (f"  {s.rack}", s.slot, s.asset, s.address, s.mac, s.serial, s.runs, "[ ]")
                for s in order.slots
            ],
        )
    )
    return "\n".join(lines)


def _where(order: WorkOrder) -> str:
    racks = [
        f"{rack} {_ranges([slot.slot for slot in slots])}"
        for rack, slots in groupby(order.slots, key=lambda slot: slot.rack)
    ]
    more = f", and {len(racks) - _RACKS} more racks" if len(racks) > _RACKS else ""
    return f"{'; '.join(racks[:_RACKS])}{more}"


def _ranges(numbers: Sequence[int]) -> str:
    """`1-4, 7`."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in found)


def _images(order: WorkOrder) -> str:
    if not order.images:
        return "none: the declaration names no version"
    return ", ".join(f"{one_line(i.file)} {short(i.sha256)}" for i in order.images)
