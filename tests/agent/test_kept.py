"""The file of an agent: kept whole, put aside when damaged, left alone when newer."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.agent.kept import NOTHING, VERSION, Kept, KeptFile
from control_plane.core.errors import StoreError
from control_plane.core.gpu import Alert, AlertKind, ClockRange, GpuSettings, Rung
from control_plane.core.gpu_cap import CapMemory, Caps, Grant
from control_plane.core.gpu_health import HealthMemory
from control_plane.core.gpu_settings import Locked

KEPT = Kept(
    version=VERSION,
    uid="u-1",
    caps=Caps(site_w=600, grant=Grant(gpu_w=500, until_s=1e9, fence=3)),
    settings=GpuSettings(persistence=True, graphics_clock=ClockRange(min_mhz=345, max_mhz=1_410)),
    gpus=8,
    limits=(CapMemory(gpu="a", ours_w=500, raised_s=(1.0, 2.0)),),
    locked=(Locked(gpu="a", graphics=ClockRange(min_mhz=345, max_mhz=1_410)),),
    health=HealthMemory(
        alerts=(Alert(kind=AlertKind.XID, rung=Rung.REBOOT, since_s=5.0, gpu="a", xid=79),),
        energy_j={"a": 12.5},
        boot="one",
    ),
)


def test_all_of_it_comes_back(tmp_path: Path) -> None:
    file = KeptFile(tmp_path / "deep" / "kept.json")
    assert file.read() == NOTHING
    file.write(KEPT)
    assert KeptFile(tmp_path / "deep" / "kept.json").read() == KEPT
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["kept.json"]


def test_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    path.write_bytes(msgspec.json.encode({"version": VERSION + 1}))
    with pytest.raises(StoreError, match="newer release"):
        KeptFile(path).read()
    assert path.exists()


@given(st.binary(max_size=200))
def test_whatever_is_in_the_file_is_no_exception(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("kept") / "kept.json"
    path.write_bytes(data)
    file = KeptFile(path)
    assert file.read() == NOTHING
    assert file.damage
    assert path.with_suffix(".damaged").read_bytes() == data


def test_a_file_that_was_cut_short_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    whole = msgspec.json.encode(KEPT)
    for end in range(0, len(whole), 17):
        path.write_bytes(whole[:end])
        file = KeptFile(path)
        assert file.read() == NOTHING
        assert file.damage


def test_a_folder_that_cannot_be_made_is_said_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/kept\.json"):
        KeptFile(tmp_path / "file" / "kept.json").write(KEPT)
