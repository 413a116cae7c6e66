"""Ways to get an inventory wrong. What each earns is in `findings.golden`."""

from __future__ import annotations

from tests.inventory.base import FILES, edited, files

FLEET = "fleet.yaml"
OWNER = "owners/acme.yaml"
TYPE = "device-types/s21.yaml"
GPU_TYPE = "device-types/xe9680.yaml"
PROFILE = "profiles/standard.yaml"
GPU_PROFILE = "profiles/gpu.yaml"
SITE = "sites/lab/site.yaml"
POWER = "sites/lab/power.yaml"
HOSTS = "sites/lab/hosts/hosts.yaml"
RACKS = "sites/lab/racks/box-1.yaml"
GPU = "sites/lab/gpu/hall.yaml"
PLACEMENT = "sites/lab/placement/box-1.csv"

EDITS: tuple[tuple[str, str, str, str], ...] = (
    # -- syntax
    ("byte order mark", OWNER, "name:", "\ufeffname:"),
    ("text that is reversed", OWNER, "Acme Mining", "Acme \u202egniniM"),
    ("NUL byte", OWNER, "Acme Mining", "Acme\x00Mining"),
    ("duplicate key", RACKS, "    slots: 4\n", "    slots: 4\n    slots: 5\n"),
    ("colon in a plain value", OWNER, "name: Acme Mining", "name: Acme: Mining"),
    ("unclosed bracket", PROFILE, "[main, backup]", "[main, backup"),
    ("tag", RACKS, "slots: 4", "slots: !!int '4'"),
    ("merge key", PROFILE, "kind: miner\n", "kind: miner\n<<: {mining: false}\n"),
    ("second document", PROFILE, "kind: miner\n", "kind: miner\n---\n"),
    ("directive", PROFILE, "kind: miner\n", "%YAML 1.1\n---\nkind: miner\n"),
    ("number as key", OWNER, "  main:", "  7:"),
    ("mapping as key", OWNER, "  main:", "  {a: 1}:"),
    ("alias without anchor", OWNER, "port: 3333", "port: *port"),
    ("deep nesting", OWNER, "port: 3333", f"port: {'[' * 40}{']' * 40}"),
    ("infinite rating", POWER, "rating_kw: 400", "rating_kw: .inf"),
    ("number of a hundred digits", POWER, "rating_kw: 400", f"rating_kw: {'4' * 100}"),
    ("worker with a line break", OWNER, '"acme.{asset}"', '"acme.{asset}\\n"'),
    # -- shape
    ("unknown key", RACKS, "slots: 4", "slot: 4"),
    ("missing key", RACKS, "    feed: box-1-p1\n", ""),
    ("text for a number", RACKS, "slots: 4", "slots: '4'"),
    ("number for text", OWNER, "name: Acme Mining", "name: 42"),
    ("fraction for a whole number", RACKS, "slots: 4", "slots: 4.5"),
    ("yes is a word", PROFILE, "power_mode: normal", "mining: yes"),
    ("nothing for text", OWNER, "name: Acme Mining", "name:"),
    ("list for a mapping", PROFILE, "firmware: {family: antminer_stock}", "firmware: [x]"),
    ("not a choice", TYPE, "cooling: air", "cooling: water"),
    ("not the version", FLEET, "v1alpha1", "v1"),
    ("not a field", OWNER, "firmware_families:", "approvals: {pool: [ann]}\nfirmware_families:"),
    ("name in capitals", RACKS, "id: r1", "id: Rack_1"),
    ("password in the inventory", PROFILE, "env:MINER_PASSWORD", "hunter2"),
    ("family in capitals", PROFILE, "antminer_stock", "Antminer Stock"),
    ("previous password that is the new one", PROFILE, "PASSWORD}",
     "PASSWORD, previous: [env:MINER_PASSWORD]}"),
    ("three previous passwords", PROFILE, "PASSWORD}", "PASSWORD, previous: [env:A, env:B, env:C]}"),
    ("port out of range", OWNER, "port: 3333", "port: 70000"),
    ("derate of zero", POWER, "rating_kw: 200", "rating_kw: 200, derate: 0"),
    ("negative watts", TYPE, "standby_w: 25", "standby_w: -25"),
    ("no slots", RACKS, "slots: 4", "slots: 0"),
    ("four pools", PROFILE, "[main, backup]", "[main, backup, main, backup]"),
    ("no mode", GPU_TYPE, "[{name: full, power_w: 10200}]", "[]"),
    ("two ways of addressing", RACKS, "{dhcp: 10.8.1.0/24}",
     "{dhcp: 10.8.1.0/24, static_by_slot: 10.8.1.9}"),
    ("no way of addressing", RACKS, "{dhcp: 10.8.1.0/24}", "{}"),
    # -- names
    ("unknown site in a ring", FLEET, "sites: [lab]", "sites: [lab, lap]"),
    ("unknown owner", RACKS, "owner: acme", "owner: acmee"),
    ("unknown type", RACKS, "type: s21", "type: s-21"),
    ("unknown profile", RACKS, "profile: standard", "profile: standart"),
    ("unknown pool", PROFILE, "[main, backup]", "[main, bakcup]"),
    ("unknown feed of a rack", RACKS, "feed: box-1-p1", "feed: box-1-p3"),
    ("unknown feed of a host", HOSTS, "feed: hall", "feed: hal"),
    ("unknown feed of GPU nodes", GPU, "feed: hall", "feed: halll"),
    ("unknown parent", POWER, "parent: pad-1", "parent: pad-2"),
    ("unknown network", SITE, "may_reach: [miners]", "may_reach: [miner]"),
    ("unknown rack in the record", PLACEMENT, "m-0001,r1", "m-0001,r9"),
    ("unknown type in the record", PLACEMENT, "00:01,,200", "00:01,s-21,200"),
    ("unknown mode", PROFILE, "power_mode: normal", "power_mode: norma"),
    ("unknown family", OWNER, "nvidia_gpu]", "nvidia_gpus]"),
    ("unknown jump host", SITE, "jump_host: mgmt-1", "jump_host: mgmt-2"),
    ("rack twice", RACKS, "id: r2", "id: r1"),
    ("GPU rack named as a rack", GPU, "id: g1", "id: r1"),
    ("feed twice", POWER, "id: hall", "id: pad-1"),
    ("feed named as a PDU", POWER, "id: hall", "id: box-1-p1"),
    ("network twice", SITE, "name: gpu", "name: miners"),
    ("host twice", HOSTS, "hosts:\n", ("hosts:\n"
     "  - {name: mgmt-1, role: management, address: 10.9.0.11, feed: hall}\n")),
    ("pool twice", PROFILE, "[main, backup]", "[main, main]"),
    ("GPU type in a rack of miners", RACKS, "type: s21", "type: xe9680"),
    ("profile for GPU nodes in a rack of miners", RACKS, "profile: standard", "profile: gpu"),
    ("pools on a profile for GPU nodes", GPU_PROFILE, "kind: gpu_node",
     "kind: gpu_node\npools: [main]"),
    ("GPUs on a profile for miners", PROFILE, "kind: miner", "kind: miner\ngpu: {power_limit_w: 600}"),
    ("GPUs in a type of miners", TYPE, "kind: miner",
     "kind: miner\ngpu: {model: x, memory_gib: 80, min_limit_w: 200, max_limit_w: 700}"),
    ("GPU limits the wrong way round", GPU_TYPE, "min_limit_w: 200", "min_limit_w: 800"),
    ("GPUs that draw more than their node", GPU_TYPE, "max_limit_w: 700", "max_limit_w: 1400"),
    ("GPU limit that the type does not take", GPU_PROFILE, "power_limit_w: 600", "power_limit_w: 150"),
    ("clocks the wrong way round", GPU_PROFILE, "power_limit_w: 600",
     "power_limit_w: 600, graphics_clock: {min_mhz: 1980, max_mhz: 210}"),
    ("certificates of other BMCs than there are", GPU, "first_bmc: 10.11.0.21",
     f"first_bmc: 10.11.0.21, bmc_certificates: [{'a' * 64}]"),
    ("certificate of no BMC", HOSTS, "bmc: 10.11.0.10", f"bmc_certificate: {'a' * 64}"),
    ("BMCs of an authority that is none", SITE, "networks:",
     "bmc: {credentials: {user: ops, secret_ref: env:BMC}, authority: x}\nnetworks:"),
    ("remedies of another word", GPU_PROFILE, "power_limit_w: 600", "remedies: acts"),
    ("remedies by another name", GPU_PROFILE, "power_limit_w: 600", "remedy: act"),
    ("remedies without a way to BMCs", GPU_PROFILE, "power_limit_w: 600", "remedies: act"),
    ("software that comes otherwise", GPU_PROFILE, "power_limit_w: 600", "software: act"),
    ("waves of nothing", GPU_PROFILE, "power_limit_w: 600, mig: all-disabled", "software: waves"),
    ("MIG that nobody asks for", GPU_PROFILE, "mig: all-disabled", "mig: all-1g.18gb"),
    ("driver version with a letter", GPU_PROFILE, "power_limit_w: 600", "driver: 595.91b"),
    # -- addresses
    ("octet above 255", RACKS, "10.8.0.11", "10.8.0.311"),
    ("leading zero", HOSTS, "10.9.0.10", "10.9.0.010"),
    ("host bits set", SITE, "10.9.0.0/24", "10.9.0.1/24"),
    ("prefix above 32", SITE, "10.9.0.0/24", "10.9.0.0/33"),
    ("two racks at one address", RACKS, "10.8.2.1}", "10.8.0.14}"),
    ("static inside DHCP", RACKS, "10.8.2.1}", "10.8.1.50}"),
    ("BMC at another's address", GPU, "first_bmc: 10.11.0.21", "first_bmc: 10.11.0.9"),
    ("outside the networks", RACKS, "10.8.0.11", "192.168.1.11"),
    ("past the end of the network", RACKS, "10.8.2.1}", "10.8.3.255}"),
    ("DHCP network too small", RACKS, "dhcp: 10.8.1.0/24", "dhcp: 10.8.1.0/30"),
    ("DHCP network too large", RACKS, "dhcp: 10.8.1.0/24", "dhcp: 10.0.0.0/8"),
    ("networks overlap", SITE, "10.10.0.0/24", "10.9.0.128/25"),
    ("GPU tenants reach miners", SITE, "purpose: gpu}", "purpose: gpu, may_reach: [miners]}"),
    ("back to DHCP", RACKS, "{dhcp: 10.8.1.0/24}",
     "{dhcp: 10.8.1.0/24, previous: {static_by_slot: 10.8.1.9}}"),
    ("previous address that is the new one", RACKS, "{static_by_slot: 10.8.0.11}",
     "{static_by_slot: 10.8.0.11, previous: {static_by_slot: 10.8.0.11}}"),
    ("network without a gateway", RACKS, "{static_by_slot: 10.8.0.11}",
     "{static_by_slot: 10.8.0.11, previous: {dhcp: 10.8.7.0/24}}"),
    ("previous addressing of no kind", RACKS, "{static_by_slot: 10.8.0.11}",
     "{static_by_slot: 10.8.0.11, previous: {}}"),
    ("previous octet above 255", RACKS, "{static_by_slot: 10.8.0.11}",
     "{static_by_slot: 10.8.0.11, previous: {static_by_slot: 10.8.0.311}}"),
    ("previous network with host bits", RACKS, "{static_by_slot: 10.8.0.11}",
     "{static_by_slot: 10.8.0.11, previous: {dhcp: 10.8.7.1/24}}"),
    ("previous network too large", RACKS, "{static_by_slot: 10.8.0.11}",
     "{static_by_slot: 10.8.0.11, previous: {dhcp: 10.0.0.0/8}}"),
    ("moved from DHCP without MACs", RACKS, "{static_by_slot: 10.8.2.1}",
     "{static_by_slot: 10.8.2.1, previous: {dhcp: 10.8.7.0/24}}"),
    ("gateway of another network", SITE, "purpose: miners}", "purpose: miners, gateway: 10.9.0.1}"),
    ("new octet above 255 of a rack that moves", RACKS, "{static_by_slot: 10.8.0.11}",
     "{static_by_slot: 10.8.0.311, previous: {dhcp: 10.8.7.0/24}}"),
    ("name server above 255", SITE, "purpose: miners}",
     "purpose: miners, gateway: 10.8.0.1, dns: [10.9.0.300]}"),
    ("gateway above 255", SITE, "purpose: miners}", "purpose: miners, gateway: 10.8.0.300}"),
    # -- power
    ("feeds in a circle", POWER, "parent: grid, rating_kw: 200", "parent: box-1, rating_kw: 200"),
    ("two roots", POWER, "kind: hall, parent: grid,", "kind: utility,"),
    ("pad under a hall", POWER, "parent: grid, rating_kw: 200", "parent: hall, rating_kw: 200"),
    ("PDUs under a PDU", POWER, "kind: container", "kind: pdu"),
    ("one-sided pair", POWER, "rating_kw: 100}", "rating_kw: 100, pair: pad-1}"),
    ("pair of nobody", POWER, "rating_kw: 100}", "rating_kw: 100, pair: halle}"),
    ("pair that does not survive", POWER,
     "  - {id: hall, kind: hall, parent: grid, rating_kw: 100}",
     ("  - {id: hall, kind: hall, parent: grid, rating_kw: 30, pair: hall-b}\n"
     "  - {id: hall-b, kind: hall, parent: grid, rating_kw: 20, pair: hall}")),
    ("pair that does not survive the fans below it", POWER,
     "  - {id: hall, kind: hall, parent: grid, rating_kw: 100}",
     ("  - {id: pad-a, kind: pad, parent: grid, rating_kw: 40, pair: pad-b}\n"
     "  - {id: pad-b, kind: pad, parent: grid, rating_kw: 28, pair: pad-a}\n"
     "  - {id: hall, kind: hall, parent: pad-a, rating_kw: 100, unmanaged_kw: 30}")),
    ("pair whose other side hangs under too little", POWER,
     "  - {id: hall, kind: hall, parent: grid, rating_kw: 100}",
     ("  - {id: pad-a, kind: pad, parent: grid, rating_kw: 60}\n"
     "  - {id: pad-b, kind: pad, parent: grid, rating_kw: 15}\n"
     "  - {id: hall, kind: hall, parent: pad-a, rating_kw: 100, pair: hall-b}\n"
     "  - {id: hall-b, kind: hall, parent: pad-b, rating_kw: 100, pair: hall}")),
    ("loss of a feed that is not declared", POWER, "nodes:\n",
     "contingencies: [{name: bus-section, lost: [halle]}]\nnodes:\n"),
    ("trip curve that rises", POWER, "rating_kw: 100}",
     "rating_kw: 100, breaker: [{load: 1.1, seconds: 60}, {load: 1.4, seconds: 90}]}"),
    ("nothing left for devices", POWER, "unmanaged_kw: 5", "unmanaged_kw: 120"),
    ("rack over the rating of its PDU", POWER, "rating_kw: 40}", "rating_kw: 12}"),
    ("hall over its rating", POWER, "parent: grid, rating_kw: 100}", "parent: grid, rating_kw: 20}"),
    ("limit outside the ladder", PROFILE, "power_mode: normal", "power_limit_w: 200"),
    ("ladder descends", TYPE, "power_w: 2560", "power_w: 3600"),
    ("nominal is no step", TYPE, "nominal_mode: normal", "nominal_mode: norml"),
    ("miner without boards", TYPE, "boards: 3", "boards: 0"),
    ("mode of a miner without hash", TYPE, "hashrate_ths: 160, ", ""),
    ("contract node at an owned site", POWER, "kind: utility", "kind: contract"),
    ("meter twice", POWER, "meter: m-1", "meter: m-0"),
    ("meter that nobody declares", POWER, "meter: m-1}", "meter: m-l}"),
    ("meter of no node", POWER, ", meter: m-1}", "}"),
    ("unknown model of meter", POWER, "model: janitza-umg96", "model: janitza-umg69"),
    ("two meters at one place", POWER, "10.12.0.11, unit: 2", "10.12.0.10"),
    ("two meters of one name", POWER, "{name: m-1, address", "{name: m-0, address"),
    ("meter that is looked at too rarely", POWER, "interval_s: 5", "interval_s: 300"),
    ("serial line without the time", POWER,
     "address: 10.12.0.11, unit: 2, model: janitza-umg96, interval_s: 5,",
     "gateway: mgmt-1, model: janitza-umg96, interval_s: 0.1,"),
    ("meter behind no gateway", POWER, "address: 10.12.0.11", "gateway: mgmt-9"),
    ("meter behind a host that is none", POWER, "address: 10.12.0.11", "gateway: mgmt-1"),
    ("meter without a place", POWER, "address: 10.12.0.10, ", ""),
    ("meter with two places", POWER, "address: 10.12.0.11", "address: 10.12.0.11, gateway: mgmt-1"),
    ("meter outside its network", POWER, "10.12.0.10", "10.13.0.10"),
    ("meter too small", POWER, "range_kw: 250", "range_kw: 100"),
    # -- placement
    ("slot without a row", PLACEMENT, ",r1,4,,,,,vacant,,,2026-01-02,\n", ""),
    ("asset twice", PLACEMENT, "m-0002", "m-0001"),
    ("asset named as a slot", PLACEMENT, "m-0001", "r3-s1"),
    ("slot twice", PLACEMENT, "m-0002,r1,2", "m-0002,r1,1"),
    ("MAC twice", PLACEMENT, "02:00:00:00:00:06", "02:00:00:00:00:05"),
    ("serial twice", PLACEMENT, "SN6", "SN5"),
    ("too few cells", PLACEMENT, "2026-01-02,\n", "2026-01-02\n"),
    ("other separator", PLACEMENT, "asset,rack,slot", "asset;rack;slot"),
    ("cell over two lines", PLACEMENT, "board 2 dead", '"board 2\ndead"'),
    ("open quote", PLACEMENT, "board 2 dead", '"board 2 dead'),
    ("bad MAC", PLACEMENT, "02:00:00:00:00:01", "02:00:00:00:01"),
    ("bad state", PLACEMENT, "in_service", "in_servce"),
    ("bad date", PLACEMENT, "2026-03-04", "4.3.2026"),
    ("bad slot", PLACEMENT, "m-0001,r1,1", "m-0001,r1,one"),
    ("slot outside", PLACEMENT, "m-0001,r1,1", "m-0001,r1,9"),
    ("machine on DHCP without MAC", PLACEMENT, "02:00:00:00:00:05", ""),
    ("DHCP without a record", RACKS, "{static_by_slot: 10.8.2.1}", "{dhcp: 10.8.2.0/24}"),
    ("vacant with a serial", PLACEMENT, ",r1,4,,", ",r1,4,SN4,"),
    ("out of service without a reason", PLACEMENT, "no power", ""),
    ("missing boards in service", PLACEMENT, "degraded", "in_service"),
    ("all boards missing", PLACEMENT, "dead,1,", "dead,3,"),
    ("record of a rack without one", RACKS, "static_by_slot: 10.8.0.11}\n",
     "static_by_slot: 10.8.0.11}\n    placement: by_slot\n"),
    ("bin far off", PLACEMENT, ",200,", ",2000,"),
    ("override outside", RACKS, "    placement: by_slot", ("    placement: by_slot\n"
     "    overrides: [{slots: '2-3', profile: standard}]")),
    ("overrides overlap", RACKS, "    placement: by_slot", ("    placement: by_slot\n"
     "    overrides: [{slots: '1-2', profile: standard}, {slots: '2', owner: acme}]")),
    ("override of nothing", RACKS, "    placement: by_slot", ("    placement: by_slot\n"
     "    overrides: [{slots: '1'}]")),
    # -- policy
    ("slot without owner", RACKS, "    owner: acme\n", ""),
    ("mining for nobody", PROFILE, "pools: [main, backup]\n", ""),
    ("worker with a blank", OWNER, '"acme.{asset}"', '"acme {asset}"'),
    ("worker with an unknown placeholder", OWNER, '"acme.{asset}"', '"acme.{host}"'),
    ("firmware without consent", OWNER, "[antminer_stock, nvidia_gpu]", "[nvidia_gpu]"),
    ("firmware of another model", TYPE, "families: [antminer_stock]", "families: [luxos]"),
    ("cohort of everything", FLEET, '"5%"', '"100%"'),
    ("cohort that could be both", FLEET, '"10"', '"1.0"'),
    ("cohorts that shrink", FLEET, '["1", "10"', '["10", "1"'),
    ("count after a share", FLEET, '"10", "5%"', '"5%", "10"'),
    ("hosted by nobody", SITE, "kind: owned", "kind: hosted_in"),
    ("owned with a host", SITE, "kind: owned", "kind: owned, host: Somebody"),
    ("site in two rings", FLEET, "rings:\n", "rings:\n  - {name: zero, sites: [lab]}\n"),
    ("Stratum V2 without a key", OWNER, "port: 3333,", "port: 3333, protocol: stratum2,"),
    ("unknown time zone", SITE, "America/New_York", "America/New_Yrok"),
)  # fmt: skip

CLUSTER_FILE = "sites/lab/cluster.yaml"
CLUSTER = """\
version: 1.36.3
cni: routed
pods: 10.64.0.0/16
services: 10.96.0.0/16
"""
POD_HOSTS = FILES[HOSTS].replace("bmc:", "pods: 10.64.1.0/24, bmc:")
POD_GPU = FILES[GPU].replace("first_bmc:", "first_pods: 10.64.2.0/24, first_bmc:")


def cluster(old: str = "", new: str = "", at: str = CLUSTER_FILE) -> dict[str, bytes]:
    """The base with a cluster, and one thing in it broken."""
    tree = files(**{CLUSTER_FILE: CLUSTER, HOSTS: POD_HOSTS, GPU: POD_GPU})
    assert old in tree[at].decode(), f"{at} has no {old!r}"
    return tree | {at: tree[at].decode().replace(old, new, 1).encode()}


CLUSTERS = {
    "cluster of an unknown version": cluster("1.36.3", "v1.36"),
    "cluster without a server": cluster("role: management", "role: meter_gateway", HOSTS),
    "two servers and no endpoint": cluster(
        "hosts:\n",
        "hosts:\n  - {name: cp-1, role: control_plane, address: 10.9.0.21, feed: hall, pods: 10.64.8.0/24}\n"
        "  - {name: cp-2, role: control_plane, address: 10.9.0.22, feed: hall, pods: 10.64.9.0/24}\n",
        HOSTS,
    ),
    "pods where miners are": cluster("pods: 10.64.0.0/16", "pods: 10.0.0.0/8"),
    "services where pods are": cluster("services: 10.96", "services: 10.64"),
    "pods that are no network": cluster("pods: 10.64.0.0/16", "pods: 10.64.0.1/16"),
    "host without pods": cluster("pods: 10.64.1.0/24, ", "", HOSTS),
    "host whose pods are no network": cluster("10.64.1.0/24", "10.64.1.7/24", HOSTS),
    "rack without pods": cluster("first_pods: 10.64.2.0/24, ", "", GPU),
    "rack whose pods are no network": cluster("10.64.2.0/24", "10.64.2.7/24", GPU),
    "pods of two nodes overlap": cluster("10.64.2.0/24", "10.64.0.0/24", GPU),
    "pods outside of the cluster's": cluster("10.64.1.0/24", "10.65.1.0/24", HOSTS),
    "kubelet setting that is ours": cluster("cni:", "kubelet: {cgroupDriver: cgroupfs}\ncni:"),
    "host key that is none": cluster("bmc:", "host_key: ssh-ed25519 AAAA, bmc:", HOSTS),
}

RELEASE = "firmware/s21.yaml"
SIGNATURE = (
    "UGu9for5ejJgNe7QZbMoylAUZHutOtjeL16F8Km6DD10UCn0L1BM6+TpxYkKaM7xuXdW7oAWK9zR/1s7qLOHAw=="
)
"""By the key whose private half is the bytes 0 to 31, over the digest of a5."""
SIGNED_RELEASE = f"""\
family: antminer_stock
version: Fri Aug 25 17:28:38 CST 2023
device_types: [s21]
images:
  - {{file: s21-zynq.bmu, sha256: {"a5" * 32}, size_bytes: 100, control_boards: [Zynq],
     signed_by: release, signature: {SIGNATURE}}}
can_roll_back: true
voids_warranty: false
"""
KEYS = FILES[FLEET] + "firmware_keys: {release: A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=}\n"
VERSIONED = FILES[PROFILE].replace("stock}", "stock, version: Fri Aug 25 17:28:38 CST 2023}")
IMAGE = f"images:\n  - {{file: b.bmu, sha256: {'b6' * 32}, size_bytes: 1}}\n"


def firmware(old: str = "", new: str = "", at: str = RELEASE) -> dict[str, bytes]:
    """The base with a signed release that its profile asks for, and one thing in it broken."""
    tree = files(**{RELEASE: SIGNED_RELEASE, FLEET: KEYS, PROFILE: VERSIONED})
    assert old in tree[at].decode(), f"{at} has no {old!r}"
    return tree | {at: tree[at].decode().replace(old, new, 1).encode()}


FIRMWARE = {
    "version that no release has": firmware("25 17:28", "26 17:28", PROFILE),
    "release for an unknown type": firmware("[s21]", "[s21, s22]"),
    "release for a type of another family": firmware("[s21]", "[s21, xe9680]"),
    "the same release twice": firmware() | {"firmware/two.yaml": SIGNED_RELEASE.encode()},
    "two images for one machine": firmware("images:\n", IMAGE),
    "image that nobody signed": firmware(f"signed_by: release, signature: {SIGNATURE}", ""),
    "image that is signed by a stranger": firmware("signed_by: release", "signed_by: mallory"),
    "signature of another image": firmware("a5" * 32, "b6" * 32),
    "image at a path": firmware("s21-zynq.bmu", "../../etc/passwd"),
}

ACTING = FILES[GPU_PROFILE].replace("power_limit_w: 600", "power_limit_w: 600, remedies: act")
BMCS = "bmc: {credentials: {user: ops, secret_ref: env:BMC}}\nnetworks:"

LAB = {path: text.encode() for path, text in FILES.items() if path.startswith("sites/")}


def _aliases() -> dict[str, bytes]:
    lines = ["kind: miner", "description: &a x", "firmware: {family: antminer_stock}", "pools:"]
    return files(**{PROFILE: "\n".join([*lines, *("  - *a" for _ in range(200))])})


def _bomb() -> dict[str, bytes]:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    return files(**{PROFILE: "\n".join(lines)})


CASES: dict[str, dict[str, bytes]] = {
    **CLUSTERS,
    **FIRMWARE,
    **{name: edited(path, old, new) for name, path, old, new in EDITS},
    "not UTF-8": files() | {OWNER: b"name: Caf\xe9\n"},
    "empty file": files(**{POWER: ""}),
    "only a comment": files(**{POWER: "# to do\n"}),
    "truncated file": files(**{POWER: FILES[POWER][:110]}),
    "file in a wrong folder": files() | {"sites/lab/rack/more.yaml": b"racks: []\n"},
    "file with another ending": files() | {"owners/other.yml": b"name: x\n"},
    "name of a file in capitals": files() | {"owners/Other.yaml": FILES[OWNER].encode()},
    "remedies whose BMCs nobody knows": edited(SITE, "networks:", BMCS)
    | {GPU_PROFILE: ACTING.encode()},
    "no fleet.yaml": {p: d for p, d in files().items() if p != FLEET},
    "no power.yaml": {p: d for p, d in files().items() if p != POWER},
    "no site": {p: d for p, d in files().items() if not p.startswith("sites/")},
    "no rack": {p: d for p, d in files().items() if p not in {RACKS, GPU, PLACEMENT}},
    "nothing at all": {},
    "a site in no ring": files() | {p.replace("lab", "more"): d for p, d in LAB.items()},
    "aliases by the hundred": _aliases(),
    "aliases of aliases": _bomb(),
    "too large": files() | {OWNER: b"#" * (8 * 1024 * 1024 + 1)},
    "three files at once": edited(OWNER, "port: 3333", "port: x")
    | {POWER: FILES[POWER].replace("box-1\n", "box_1\n", 1).encode()}
    | {PLACEMENT: FILES[PLACEMENT].replace("SN1", "SN 1!").encode()},
}
