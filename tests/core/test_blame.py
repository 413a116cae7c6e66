"""Which line of a pull request a change of devices is shown beside."""

from __future__ import annotations

import pytest

from control_plane.core.against import FieldChange
from control_plane.core.blame import blamed
from control_plane.core.findings import SourceRef
from tests.core.builders import device, intent, site

RACK = SourceRef("gpu/hall.yaml", 2, 72)
PROFILE = SourceRef("profiles/gpu.yaml", 3, 6)


@pytest.mark.parametrize("field", ["gpu_remedies", "gpu_power_limit_w", "gpu_driver"])
@pytest.mark.parametrize(
    ("lines", "where"),
    [
        ({PROFILE.path: frozenset({3})}, PROFILE),
        ({PROFILE.path: frozenset({5, 9})}, SourceRef(PROFILE.path, 5)),
        ({RACK.path: frozenset({2})}, RACK),
        ({"owners/x.yaml": frozenset({1})}, PROFILE),
    ],
    ids=["the line of `gpu`", "a line below it", "a rack of another profile", "no line of it"],
)
def test_what_a_profile_says_of_gpus_is_shown_in_the_profile(
    field: str, lines: dict[str, frozenset[int]], where: SourceRef
) -> None:
    node = device("g1", intent=intent(origins={"gpu": PROFILE, "profile": RACK}))
    change = FieldChange(asset="g1", field=field, before="tell", after="act")
    (blame,) = blamed(site((node,)), [change], lines)
    assert (blame.where, blame.before, blame.after) == (where, "tell", "act")
