"""HiGHS on the same arrays: what the allocator is held against, and stands beside."""

from __future__ import annotations

from collections.abc import Sequence

import highspy
import numpy as np

from control_plane.core.allocation_input import Devices, Floats, Joint, Tree, load_at
from control_plane.core.ladder import Economics

_W_PER_UNIT = 1e3
"""Rows are in kW: HiGHS's tolerances are absolute."""


def optimum(
    tree: Tree, devices: Devices, economics: Economics, *, joints: Sequence[Joint] = ()
) -> tuple[float, Floats] | None:
    """USD/h with mixed modes, and what one more watt at each node is worth; `None` where nothing fits."""
    gained = solved(model(tree, devices, economics, joints=joints))
    if gained is None:
        return None
    value, duals = gained
    return devices.standing_value(economics) + value, duals[: len(tree.ids)] / _W_PER_UNIT


def model(
    tree: Tree, devices: Devices, economics: Economics, *, joints: Sequence[Joint] = ()
) -> highspy.HighsLp:
    """A column for each hull step, a row for each node and joint.

    A step may be taken before those below it: with concave values no optimum does.
    """
    standing = load_at(tree, devices.feed, devices.standing_w)
    of = devices.of
    rows: list[np.ndarray] = []
    """Of each row, its steps."""
    lower, upper = [], []
    for node in range(len(tree.ids)):
        rows.append(np.flatnonzero(tree.is_below(node)[devices.feed[of]]))
        upper.append((tree.cap_w[node] - standing[node]) / _W_PER_UNIT)
        asked = tree.lower_w[node] - standing[node]
        lower.append(asked / _W_PER_UNIT if asked > 0 else -np.inf)
    for joint in joints:
        on = np.logical_or.reduce([tree.is_below(node) for node in joint.nodes])
        rows.append(np.flatnonzero(on[devices.feed[of]]))
        room = joint.limit_w - standing[joint.nodes].sum()
        upper.append(room / _W_PER_UNIT)
        lower.append(-np.inf)
    problem = highspy.HighsLp()
    # One column that stands for nothing: HiGHS does not answer for a problem without any.
    columns = len(of) + 1
    problem.num_col_, problem.num_row_ = columns, len(rows)
    problem.sense_ = highspy.ObjSense.kMaximize
    problem.col_cost_ = np.append(devices.value(economics), 0.0)
    problem.col_lower_, problem.col_upper_ = np.zeros(columns), np.ones(columns)
    problem.row_lower_, problem.row_upper_ = np.array(lower), np.array(upper)
    matrix = problem.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kRowwise
    matrix.start_ = np.concatenate(([0], np.cumsum([len(row) for row in rows])))
    index = np.concatenate(rows) if rows else np.array([], dtype=np.int64)
    matrix.index_, matrix.value_ = index, devices.width_w[index] / _W_PER_UNIT
    return problem


def solved(problem: highspy.HighsLp, method: str = "choose") -> tuple[float, Floats] | None:
    """What the steps gain and the duals of the rows; `None` where nothing fits."""
    solver = highspy.Highs()
    solver.silent()
    solver.setOptionValue("solver", method)
    solver.passModel(problem)
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    return solver.getInfo().objective_function_value, np.array(solver.getSolution().row_dual)
