"""Labels of GPU nodes, kept by the controller that leads; in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from control_plane.core.gpu_life import Life
from control_plane.core.node_hold import SKIP_DRIVER_UPGRADE
from control_plane.core.node_labels import RACK, gpu_node_labels
from control_plane.inventory.load import load_files
from control_plane.simulator.gpu_host import Mends
from tests.kube.halls import Floor, declared, on_a_floor
from tests.kube.test_keeper_lives import lives

ONE, TWO = "lab-g1-n1", "lab-g1-n2"
LOOKS_S = 20.0


def _write(floor: Floor, label: str, value: str) -> None:
    def change(node: Any) -> None:
        node["metadata"].setdefault("labels", {})[label] = value

    floor.edit(ONE, change)


async def _reads(floor: Floor, label: str, value: str, *, within_s: float = 60.0) -> None:
    async def does() -> bool:
        return bool(floor.node(ONE)["metadata"].get("labels", {}).get(label) == value)

    await floor.playing.until(does, within_s=within_s)


def test_nodes_have_the_labels_of_their_place_and_get_them_again(tmp_path: Path) -> None:
    fleet = load_files(declared(), sites={"lab"}).fleet
    assert fleet is not None
    site = fleet.sites["lab"]
    wanted = {one.asset: gpu_node_labels(site, one) for one in site.devices}

    async def case(floor: Floor) -> None:
        await floor.serve()
        await lives(floor, Life.READY, within_s=600.0)
        for name in (ONE, TWO):
            labels = floor.node(name)["metadata"]["labels"]
            assert wanted[name].items() <= labels.items()
        _write(floor, RACK, "elsewhere")
        await _reads(floor, RACK, wanted[ONE][RACK])

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_a_site_that_is_observed_has_none_written(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve(mode="observe")
        # Nobody grants its caps, so no gate opens.
        await lives(floor, Life.VALIDATING, within_s=600.0)
        await floor.pass_time(300.0)
        assert RACK not in floor.node(ONE)["metadata"].get("labels", {})

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_an_operator_that_overwrites_our_skip_label_does_not_get_the_node_while_it_is_repaired(
    tmp_path: Path,
) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        floor.put_pod("training-0", ONE)
        floor.keep_up("training-0")  # the drain stays where it is
        floor.hall[ONE].fall_off(3, mends=Mends.REBOOT)

        async def is_held() -> bool:
            return floor.is_held(ONE)

        await floor.playing.until(is_held)
        _write(floor, SKIP_DRIVER_UPGRADE, "false")
        await _reads(floor, SKIP_DRIVER_UPGRADE, "true", within_s=15.0)
        assert floor.is_held(ONE)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)
