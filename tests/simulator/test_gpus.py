"""Simulated GPUs: what a driver keeps and loses, and a file that says what happens to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from control_plane.simulator.gpu_orders import OrderedHost
from control_plane.simulator.gpus import MODELS, Busy, GpuHost


def test_what_a_driver_keeps_is_lost_with_it_and_what_a_gpu_has_is_not() -> None:
    host = GpuHost("b200", gpus=2)
    gpu = host.gpus[1]
    gpu.limit_w, gpu.persistence, gpu.graphics, gpu.ecc_pending = 600, True, (345, 900), False
    host.uncorrectable(1)
    host.unload()
    host.load()
    after = {
        name: getattr(gpu, name)
        for name in ("limit_w", "persistence", "graphics", "ecc_uncorrected")
    }
    assert after == {"limit_w": 1_000, "persistence": False, "graphics": None, "ecc_uncorrected": 0}
    assert (gpu.remap_pending, gpu.remap_uncorrectable, gpu.ecc) == (True, 1, True)
    host.reboot()
    assert (gpu.remap_pending, gpu.ecc, host.boots) == (False, False, 2)


def test_a_driver_with_clients_stays() -> None:
    host = GpuHost()
    host.clients = 1
    with pytest.raises(Busy):
        host.unload()


def test_energy_is_draw_over_time_and_never_above_the_limit() -> None:
    now_s = [0.0]
    host = GpuHost("h200", gpus=1, now_s=lambda: now_s[0])
    gpu = host.gpus[0]
    gpu.demand_w, gpu.limit_w, gpu.outside_w = 900, 500, 400
    now_s[0] = 10.0
    host.pass_time()
    assert (gpu.power_w, gpu.energy_j) == (400, 4_000)


def test_another_writer_writes_as_often_as_it_is_due() -> None:
    now_s = [0.0]
    host = GpuHost(gpus=1, now_s=lambda: now_s[0])
    host.other_writer(650, every_s=15)
    for at_s, ours_w, want_w in (
        (0, 500, 650),
        (10, 500, 500),
        (16, 500, 650),
        (29, 500, 500),
        (100, 500, 650),
    ):
        now_s[0] = at_s
        host.gpus[0].limit_w = ours_w
        host.pass_time()
        assert host.gpus[0].limit_w == want_w, at_s


def test_serial_numbers_of_a_hall_are_all_different() -> None:
    gpus = [gpu for n in range(512) for gpu in GpuHost(number=n).gpus]
    assert len({gpu.serial for gpu in gpus}) == len({gpu.uuid for gpu in gpus}) == 4_096


def test_models_go_from_their_lowest_to_their_highest_limit() -> None:
    for model in MODELS.values():
        assert 0 < model.idle_w < model.min_w <= model.default_w <= model.max_w


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"do": "xid", "gpu": 3, "xid": 79}, "done"),
        ({"do": "gpu", "gpu": 2, "demand_w": 640, "links_down": [1, 2]}, "done"),
        ({"do": "host", "permitted": False}, "done"),
        ({"do": "reboot"}, "done"),
        ({"do": "explode"}, "no such order"),
        ({"do": "xid", "gpu": 3}, "not understood"),
        ({"do": "gpu", "gpu": 99, "demand_w": 1}, "not understood"),
        ({"do": "gpu", "demand_w": 1}, "not understood"),
        ({"do": "gpu", "gpu": 0, "model": "x"}, "no such attribute"),
        ({"do": "host", "gpus": []}, "no such attribute"),
        ("{", "not understood"),
        ("[]", "not understood"),
    ],
)
def test_an_order_is_obeyed_or_named(tmp_path: Path, order: Any, said: str) -> None:
    file, lines = tmp_path / "orders", list[str]()
    host = OrderedHost(GpuHost(), file, say=lines.append)
    host.obey()
    file.write_text((order if isinstance(order, str) else json.dumps(order)) + "\n")
    host.obey()
    host.obey()
    (line,) = lines
    assert said in line


def test_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    file, lines = tmp_path / "orders", list[str]()
    host = OrderedHost(GpuHost(), file, say=lines.append)
    file.write_text('{"do": "reb')
    host.obey()
    assert lines == []
    with file.open("a") as more:
        more.write('oot"}\n')
    host.obey()
    assert host.host.boots == 2
