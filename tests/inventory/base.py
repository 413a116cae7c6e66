"""A small inventory with one of everything, in which each test breaks one thing."""

from __future__ import annotations

from control_plane.inventory.load import Loaded, load_files

FLEET = """\
api_version: gridplane.dev/v1alpha1
name: acme-power
rollout:
  cohorts: ["1", "10", "5%"]
rings:
  - {name: first, sites: [lab]}
"""

OWNER = """\
name: Acme Mining
pools:
  main: {host: pool.example.com, port: 3333, worker: "acme.{asset}"}
  backup: {host: backup.example.net, port: 443, tls: true, worker: "acme.{rack}-{slot}"}
firmware_families: [antminer_stock, nvidia_gpu]
"""

ANTMINER_S21 = """\
kind: miner
make: Bitmain
model: Antminer S21
reported_models: [antminer s21]
families: [antminer_stock]
boards: 3
chips_per_board: 108
cooling: air
standby_w: 25
modes:
  - {name: low, hashrate_ths: 160, power_w: 2560}
  - {name: normal, hashrate_ths: 200, power_w: 3500}
nominal_mode: normal
source: data sheet
"""

GPU_TYPE = """\
kind: gpu_node
make: Dell
model: XE9680
families: [nvidia_gpu]
cooling: air
standby_w: 1500
modes: [{name: full, power_w: 10200}]
nominal_mode: full
gpus: 8
gpu: {model: NVIDIA H100 80GB HBM3, memory_gib: 80, min_limit_w: 200, max_limit_w: 700}
source: data sheet
"""

PROFILE = """\
kind: miner
firmware: {family: antminer_stock}
pools: [main, backup]
power_mode: normal
credentials: {user: root, secret_ref: env:MINER_PASSWORD}
"""

GPU_PROFILE = """\
kind: gpu_node
firmware: {family: nvidia_gpu}
gpu: {power_limit_w: 600, mig: all-disabled}
"""

SITE = """\
name: Lab
tenure: {kind: owned}
location: {country: US, region: Georgia, place: Macon}
time_zone: America/New_York
networks:
  - {name: miners, cidr: 10.8.0.0/22, purpose: miners}
  - {name: mgmt, cidr: 10.9.0.0/24, purpose: management, may_reach: [miners]}
  - {name: gpu, cidr: 10.10.0.0/24, purpose: gpu}
  - {name: bmc, cidr: 10.11.0.0/24, purpose: bmc}
  - {name: metering, cidr: 10.12.0.0/24, purpose: metering}
jump_host: mgmt-1
"""

POWER = """\
meters:
  - {name: m-0, address: 10.12.0.10, model: schneider-pm5000}
  - {name: m-1, address: 10.12.0.11, unit: 2, model: janitza-umg96, interval_s: 5, range_kw: 250}
nodes:
  - {id: grid, kind: utility, rating_kw: 400, derate: 1.0, meter: m-0}
  - {id: pad-1, kind: pad, parent: grid, rating_kw: 200, meter: m-1}
  - id: box-1
    kind: container
    parent: pad-1
    rating_kw: 150
    unmanaged_kw: 5
    pdus: {count: 2, rating_kw: 40}
  - {id: hall, kind: hall, parent: grid, rating_kw: 100}
"""

HOSTS = """\
hosts:
  - {name: mgmt-1, role: management, address: 10.9.0.10, feed: hall, bmc: 10.11.0.10}
"""

RACKS = """\
racks:
  - id: r1
    feed: box-1-p1
    slots: 4
    owner: acme
    type: s21
    profile: standard
    addressing: {static_by_slot: 10.8.0.11}
  - id: r2
    feed: box-1-p2
    slots: 3
    owner: acme
    type: s21
    profile: standard
    addressing: {dhcp: 10.8.1.0/24}
  - id: r3
    feed: box-1-p2
    slots: 2
    owner: acme
    type: s21
    profile: standard
    addressing: {static_by_slot: 10.8.2.1}
    placement: by_slot
"""

GPU = """\
racks:
  - {id: g1, feed: hall, nodes: 2, owner: acme, type: xe9680, profile: gpu,
     first_address: 10.10.0.11, first_bmc: 10.11.0.21}
"""

PLACEMENT = """\
asset,rack,slot,serial,mac,type,bin_ths,state,reason,missing_boards,since,ticket
m-0001,r1,1,SN1,02:00:00:00:00:01,,200,in_service,,,2026-01-02,
m-0002,r1,2,SN2,02:00:00:00:00:02,,195,degraded,board 2 dead,1,2026-01-02,T-1
m-0003,r1,3,SN3,02:00:00:00:00:03,,,out_of_service,no power,,2026-03-04,T-2
,r1,4,,,,,vacant,,,2026-01-02,
m-0005,r2,1,SN5,02:00:00:00:00:05,,,in_service,,,2026-01-02,
m-0006,r2,2,SN6,02:00:00:00:00:06,,,in_service,,,2026-01-02,
m-0007,r2,3,SN7,02:00:00:00:00:07,,,in_repair,fan,,2026-01-02,T-3
"""

FILES = {
    "fleet.yaml": FLEET,
    "owners/acme.yaml": OWNER,
    "device-types/s21.yaml": ANTMINER_S21,
    "device-types/xe9680.yaml": GPU_TYPE,
    "profiles/standard.yaml": PROFILE,
    "profiles/gpu.yaml": GPU_PROFILE,
    "sites/lab/site.yaml": SITE,
    "sites/lab/power.yaml": POWER,
    "sites/lab/hosts/hosts.yaml": HOSTS,
    "sites/lab/racks/box-1.yaml": RACKS,
    "sites/lab/gpu/hall.yaml": GPU,
    "sites/lab/placement/box-1.csv": PLACEMENT,
}


def files(**changes: str) -> dict[str, bytes]:
    """The inventory as bytes."""
    return {path: text.encode() for path, text in {**FILES, **changes}.items()}


def edited(path: str, old: str, new: str) -> dict[str, bytes]:
    """The inventory with one text of one file replaced; the text has to be there."""
    assert old in FILES[path], f"{old!r} is not in {path}"
    return files(**{path: FILES[path].replace(old, new, 1)})


def loaded() -> Loaded:
    """The inventory as it is."""
    return load_files(files())
