"""Validate and plan, cold: a new process reads the inventory and plans against remembered sightings.

The peer of the reading is `yaml.CSafeLoader` on the same files: what it costs only to parse them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bench.figures import Figure, own_peak_mib, run_python
from control_plane.core import limits

if TYPE_CHECKING:
    from control_plane.core.fleet import Site
    from control_plane.core.observation import Observation, Unseen

_SITE = """
import sys
from bench.plan import child
from control_plane.cli.main import uncollected
with uncollected():  # As every verb of the command line.
    child(sys.argv[1])
"""


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """What the measured process reports."""

    devices: int
    steps: int
    load_s: float
    plan_s: float
    total_s: float
    peak_mib: float


def child(root: str) -> None:
    """Load every site and plan each against a floor where every device has other pools."""
    from control_plane.core.observation import PoolSetting
    from control_plane.core.plan import make_plan
    from control_plane.core.world import World
    from control_plane.drivers.registry import all_capabilities
    from control_plane.inventory.load import load

    loaded = load(Path(root))
    assert loaded.fleet is not None, loaded.findings[:3]
    loaded_at = time.process_time()
    past = (PoolSetting(url="stratum+tcp://old.example.com:3333", worker="past"),)
    steps = devices = 0
    planning = 0.0
    for site in loaded.fleet.sites.values():
        devices += len(site.devices)
        sightings = seen(site, pools=past)
        start = time.process_time()
        world = World(
            now_s=1_000.0, sightings=sightings, memories={}, capabilities=all_capabilities()
        )
        steps += make_plan(site, loaded.digests[site.id], world).actionable
        planning += time.process_time() - start
    load_s = loaded_at  # From the start of the process: nothing of a cold start is left out.
    report = Child(
        devices=devices,
        steps=steps,
        load_s=load_s,
        plan_s=planning,
        total_s=load_s + planning,
        peak_mib=own_peak_mib(),
    )
    sys.stdout.write(msgspec.json.encode(report).decode())


def seen(site: Site, **otherwise: Any) -> dict[str, Observation | Unseen]:
    """What each device would say that stands as declared, but for some settings."""
    from control_plane.core.observation import Depth, Field, Identity, Observation, Telemetry

    asked = frozenset({Field.POOLS, Field.MINING, Field.POWER_MODE})
    found: dict[str, Observation | Unseen] = {}
    for device in site.devices:
        if not device.is_managed:
            continue
        found[device.asset] = Observation(
            asset=device.asset,
            at_s=999.0,
            depth=Depth.FULL,
            source="bench",
            identity=Identity(mac=device.mac, serial=device.serial),
            settings=msgspec.structs.replace(device.desired(), **otherwise),
            asked=asked,
            telemetry=Telemetry(hashrate_ths=device.hashrate_at(None)),
        )
    return found


def _peer_s(root: Path) -> float:
    code = (
        "import sys, yaml, pathlib\n"
        "for p in pathlib.Path(sys.argv[1]).rglob('*.yaml'):\n"
        "    yaml.load(p.read_bytes(), yaml.CSafeLoader)\n"
    )
    return run_python(["-c", code, str(root)]).cpu_s


def _review(root: Path, devices: int) -> list[Figure]:
    """A pull request that changes every machine of every site, as CI reads it."""
    who = ("-c", "user.name=bench", "-c", "user.email=bench@example.com")
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "base")):
        command = ["git", "-C", str(root), *who, *arguments]
        subprocess.run(command, check=True, capture_output=True)
    for path in (root / "profiles").glob("*.yaml"):
        path.write_text(path.read_text().replace("power_mode: normal", "power_mode: low"))
    usage = run_python(
        ["-m", "control_plane.cli", "plan", "--inventory", str(root), "--against", "HEAD",
         "-o", "github"]
    )  # fmt: skip
    name = f"plan -o github, all of {devices:,} devices change"
    return [
        Figure(name=name, value=usage.cpu_s, unit="s CPU", note="both declarations loaded"),
        Figure(
            name="its comment",
            value=len(usage.stdout),
            unit="characters",
            target=limits.COMMENT_MAX_CHARS,
        ),
    ]


def measure() -> list[Figure]:
    """14,000 devices and 300,000."""
    figures = []
    for devices, sites, target_s, target_mib in (
        (14_000, 1, 1.0, None),
        (300_000, 20, 10.0, 1_024.0),
    ):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "inventory"
            run_python(
                ["-m", "tools.fleetgen", "--devices", str(devices), "--sites", str(sites),
                 "--seed", "1", "--out", str(out)]
            )  # fmt: skip
            usage = run_python(["-c", _SITE, str(out)])
            report = msgspec.json.decode(usage.stdout, type=Child)
            figures.append(
                Figure(
                    name=f"validate + plan, {report.devices:,} devices, cold",
                    value=report.total_s,
                    unit="s CPU",
                    target=target_s,
                    peer="CSafeLoader, parsing only",
                    peer_value=_peer_s(out),
                    note=f"load {report.load_s:.2f} s, plan {report.plan_s:.2f} s, "
                    f"{report.steps:,} steps",
                )
            )
            if target_mib is not None:
                figures += _review(out, report.devices)
                figures.append(
                    Figure(
                        name=f"peak memory of the same, {report.devices:,} devices",
                        value=report.peak_mib,
                        unit="MiB",
                        target=target_mib,
                        note="with a sighting per device of one site at a time",
                    )
                )
    return figures
