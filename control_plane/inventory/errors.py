"""The register of codes: each finding of the inventory is made from one entry of this file.

E01 files and syntax · E02 shape · E03 names · E04 addresses · E05 power · E06 placement · E07 policy ·
E08 stacks · E09 cluster.
A code never changes its meaning and is never used again. `docs/reference/errors.md` is generated from
here: what is wrong, why it is refused, an example and the usual fix.
"""

from __future__ import annotations

from typing import Final

import msgspec

from control_plane.core.findings import Severity


class Code(msgspec.Struct, frozen=True):
    """One kind of problem."""

    code: str
    title: str
    why: str
    bad: str
    """An example that earns it."""
    fix: str
    """The usual next step; a finding may know a better one."""
    severity: Severity = Severity.ERROR


REGISTER: Final[dict[str, Code]] = {}


def _code(  # noqa: PLR0917 - a table: its columns in order
    code: str, title: str, why: str, bad: str, fix: str, severity: Severity = Severity.ERROR
) -> Code:
    if code in REGISTER:
        raise ValueError(f"{code} is registered twice")
    REGISTER[code] = Code(code, title, why, bad, fix, severity)
    return REGISTER[code]


# --- E01: files and syntax -------------------------------------------------------------------

UNREADABLE: Final = _code(
    "E0101",
    "file cannot be read",
    "An inventory is made of plain files. Links, pipes and devices could lead anywhere, and a file "
    "that is skipped in silence looks like machines that were given up.",
    "inventory/owners/acme.yaml -> /etc/passwd",
    "put a plain, readable file there",
)
NOT_UTF8: Final = _code(
    "E0102",
    "file is not UTF-8",
    "A byte that is no UTF-8 has no agreed meaning.",
    "name: Caf\\xe9        # Latin-1",
    "save the file as UTF-8",
)
BAD_CHARACTER: Final = _code(
    "E0103",
    "character that a reviewer cannot see",
    "NUL bytes, control codes, byte order marks, invisible line breaks and codes that reverse text "
    "make a file read differently for people and for programs.",
    "name: acme\\u202e",
    "delete the character; save as UTF-8 without byte order mark",
)
EMPTY_FILE: Final = _code(
    "E0104",
    "file is empty",
    "An empty file is a truncated write far more often than a decision.",
    "# inventory/sites/lab/power.yaml holds only this comment",
    "restore its content, or delete the file",
)
DUPLICATE_KEY: Final = _code(
    "E0105",
    "key stands twice",
    "Most readers keep the last of two equal keys and drop the first without a word.",
    "slots: 42\nslots: 24",
    "keep one of the two",
)
YAML_SYNTAX: Final = _code(
    "E0106",
    "not YAML",
    "The text does not follow the grammar, so nothing behind this place can be trusted.",
    "name: acme: mining",
    "correct the text at this place; quote values that hold `: ` or start with a special character",
)
NOT_CORE: Final = _code(
    "E0107",
    "YAML beyond the core",
    "Tags, merge keys, directives, several documents and keys that are not text are read differently "
    "by different programs. A declaration has one reading.",
    "slots: !!int '42'",
    "write the plain value",
)
TOO_BIG: Final = _code(
    "E0108",
    "past a cap on size, depth or repetition",
    "The caps keep one file from taking the memory or the time of the process that guards a site. "
    "They are listed in docs/reference/limits.md.",
    "a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
    "split the file, or write it without nesting and aliases",
)
UNKNOWN_FILE: Final = _code(
    "E0109",
    "file that no rule covers",
    "A data file in a place that gridplane does not read would be ignored in silence: with a typing "
    "error in its path, a rack file would look like a removed rack.",
    "inventory/sites/lab/rack/a.yaml      # the folder is called racks",
    "move it to where its kind belongs (docs/reference/schema.md), or out of the inventory",
)
BAD_NUMBER: Final = _code(
    "E0110",
    "number that is no quantity",
    "Infinity, not-a-number and numbers of dozens of digits pass no comparison with a rating.",
    "rating_kw: .inf",
    "write the quantity, or quote it if it is text",
)
BAD_TEXT: Final = _code(
    "E0111",
    "text with a line break or control code at its end or inside",
    "Names, users and workers are sent to devices and printed on terminals as they are.",
    'worker: "acme.rig\\n"',
    "write the text on one line, without escapes; folded text ends its marker with a dash: `>-`",
)
EMPTY_INVENTORY: Final = _code(
    "E0112",
    "nothing is declared",
    "An inventory without a site or a site without a device is a failed checkout, not a wish.",
    "an empty inventory/ folder",
    "check the path and the checkout; start a new inventory with `gridplane init`",
)
MISSING_FILE: Final = _code(
    "E0113",
    "file is missing",
    "The inventory needs fleet.yaml, and each folder of a site its site.yaml and power.yaml: without "
    "them no budget and no rating is known.",
    "inventory/sites/lab/ without power.yaml",
    "add the file (docs/reference/schema.md), or remove the folder",
)
GIT: Final = _code(
    "E0114",
    "commit cannot be read",
    "Git does not know the commit, or the folder is in no repository.",
    "gridplane plan --against no-such-branch",
    "name a branch, tag or commit that exists here; fetch it first",
)
DAMAGED_REVISION: Final = _code(
    "E0115",
    "revision is damaged",
    "A `FleetRevision` is named by the SHA-256 of its bytes, and these hold one site's files. What was cut "
    "short, altered or put under another name could be anything.",
    "a FleetRevision whose data was edited by hand",
    "make it anew from the commit with `gridplane render SITE`",
)
TOO_MANY: Final = _code(
    "E0190",
    "more findings than are shown",
    "The list is cut so that a broken file cannot drown the terminal.",
    "a file of 100,000 wrong rows",
    "fix those that are shown and validate again",
)

# --- E02: shape ------------------------------------------------------------------------------

UNKNOWN_KEY: Final = _code(
    "E0201",
    "unknown key",
    "A key that is ignored is a wish that is ignored.",
    "slot: 42          # slots",
    "correct the key or remove it",
)
MISSING_KEY: Final = _code(
    "E0202",
    "key is missing",
    "The key has no default that would be right for everybody.",
    "- id: a01         # and no feed",
    "add the key",
)
WRONG_TYPE: Final = _code(
    "E0203",
    "value of the wrong kind",
    "Text, numbers, booleans, lists and mappings are never turned into one another.",
    "slots: '42'",
    "write the kind of value that is expected; quotes make text, no quotes a number",
)
NOT_A_CHOICE: Final = _code(
    "E0204",
    "not one of the choices",
    "The key takes one of a few words.",
    "cooling: water",
    "use one of the words that are listed",
)
BAD_FORMAT: Final = _code(
    "E0205",
    "text of the wrong form",
    "Names, addresses and references to secrets have a form that everything else relies on.",
    "id: Rack_01",
    "write it in the form that is described",
)
OUT_OF_RANGE: Final = _code(
    "E0206",
    "number outside its range",
    "The limits of a field are physical or come from a protocol.",
    "port: 70000",
    "write a number inside the range",
)
BAD_LENGTH: Final = _code(
    "E0207",
    "too short or too long",
    "An empty list or text where something is needed, or more than the field can hold.",
    "racks: []",
    "add what is missing, or shorten it",
)
EXCLUSIVE: Final = _code(
    "E0208",
    "not exactly one of several keys",
    "Two ways to say one thing can disagree, none says nothing.",
    "addressing: {}    # neither static_by_slot nor dhcp",
    "keep exactly one of the keys",
)

# --- E03: names ------------------------------------------------------------------------------

UNKNOWN_SITE: Final = _code(
    "E0301",
    "unknown site",
    "The site has no folder under sites/.",
    "rings: [{name: first, sites: [labb]}]",
    "correct the name, or add sites/<name>/",
)
UNKNOWN_OWNER: Final = _code(
    "E0302",
    "unknown owner",
    "Pools, consent and approvals come from the owner.",
    "owner: acmee",
    "correct the name, or add owners/<name>.yaml",
)
UNKNOWN_TYPE: Final = _code(
    "E0303",
    "unknown device type",
    "Watts and hashrate come from the device type.",
    "type: antminer-s-21",
    "correct the name, or add device-types/<name>.yaml",
)
UNKNOWN_PROFILE: Final = _code(
    "E0304",
    "unknown profile",
    "The profile says what the devices should run.",
    "profile: efficent",
    "correct the name, or add profiles/<name>.yaml",
)
UNKNOWN_POOL: Final = _code(
    "E0305",
    "pool that the owner does not have",
    "Machines work only for pools on their owner's list.",
    "pools: [primry]",
    "correct the name, or add the pool to the owner",
)
UNKNOWN_FEED: Final = _code(
    "E0306",
    "unknown feed",
    "Every load hangs on one node of the site's feed tree.",
    "feed: pad-1-p99",
    "correct the name, or add the node to power.yaml",
)
UNKNOWN_NETWORK: Final = _code(
    "E0307",
    "unknown network",
    "Allowed flows are between networks of the same site.",
    "may_reach: [mangement]",
    "correct the name, or add the network to site.yaml",
)
UNKNOWN_RACK: Final = _code(
    "E0308",
    "unknown rack",
    "A record of placement names a rack that racks/*.yaml does not declare.",
    "a0000001,rack-99,1,…",
    "correct the rack, or declare it",
)
UNKNOWN_MODE: Final = _code(
    "E0309",
    "mode outside the ladder",
    "The device type has no such step, so no device of it can run there.",
    "power_mode: turbo      # the type has low, normal",
    "use a step of the type's ladder, or another profile for this rack",
)
UNKNOWN_FAMILY: Final = _code(
    "E0310",
    "unknown firmware family",
    "No device type lists the family.",
    "firmware_families: [antminer_stok]",
    "correct the name, or add the family to the device types that can run it",
)
UNKNOWN_HOST: Final = _code(
    "E0311",
    "unknown host",
    "The jump host is one of the site's hosts.",
    "jump_host: mgmt-9",
    "correct the name, or declare the host in hosts/*.yaml",
)
DUPLICATE_NAME: Final = _code(
    "E0312",
    "name stands twice",
    "Two things of one name cannot be told apart.",
    "nodes: [{id: pad-1, …}, {id: pad-1, …}]",
    "rename one of the two",
)
KIND_MISMATCH: Final = _code(
    "E0313",
    "miner and GPU node mixed up",
    "Racks of miners hold miners with profiles for miners; GPU racks the same for GPU nodes.",
    "profile: gpu-inference      # on a rack of miners",
    "use a type and a profile of the rack's kind",
)

# --- E04: addresses --------------------------------------------------------------------------

BAD_ADDRESS: Final = _code(
    "E0401",
    "not an address",
    "Each part of an IPv4 address is 0–255, without leading zeros.",
    "address: 10.0.0.300",
    "correct the address",
)
ADDRESS_OVERLAP: Final = _code(
    "E0402",
    "address is used twice",
    "A write would reach whichever of the two answers first.",
    "two racks with static_by_slot: 10.8.0.1",
    "move one of the ranges; a rack takes one address per slot",
)
ADDRESS_OUTSIDE: Final = _code(
    "E0403",
    "address outside the networks of its purpose",
    "Miners, GPU nodes, BMCs and hosts live in networks that are fenced off from one another.",
    "static_by_slot: 192.168.1.1      # no network for miners holds it",
    "use an address of such a network, or declare the network in site.yaml",
)
NETWORK_OVERLAP: Final = _code(
    "E0404",
    "networks overlap",
    "Of two networks that overlap, a flow rule holds for both or for none.",
    "10.8.0.0/16 and 10.8.4.0/24",
    "make them disjoint",
)
BAD_NETWORK: Final = _code(
    "E0405",
    "not a network",
    "The prefix is 0–32 and the address is the first of the network.",
    "cidr: 10.8.0.1/24",
    "write the first address of the network",
)
UNSAFE_ROUTE: Final = _code(
    "E0406",
    "flow from tenants to miners",
    "Tenants of the GPU cluster have no route to miners, BMCs or management, whatever else holds.",
    "name: gpu, purpose: gpu, may_reach: [miners]",
    "remove the flow",
)
BAD_PREVIOUS: Final = _code(
    "E0407",
    "previous addressing that nothing leaves",
    "Machines are given static addresses over the network; for one that went to DHCP nobody can vouch.",
    "addressing: {dhcp: 10.8.1.0/24, previous: {static_by_slot: 10.8.0.11}}",
    "give the rack static addresses other than those before, or take `previous` out",
)
NO_GATEWAY: Final = _code(
    "E0408",
    "machines move into a network without a gateway",
    "A machine with a static address is told its gateway with it; without one it does not reach its pools.",
    "addressing: {static_by_slot: 10.8.2.1, previous: {…}}     # and a network without `gateway`",
    "add `gateway` to the network in site.yaml; `dns` too where it is not the gateway",
)

# --- E05: power ------------------------------------------------------------------------------

FEED_CYCLE: Final = _code(
    "E0501",
    "feeds in a circle",
    "A node that is its own ancestor has no path to the grid, and no sum of loads.",
    "pad-1: parent pad-2, pad-2: parent pad-1",
    "point the parent up, to the grid",
)
FEED_ROOTS: Final = _code(
    "E0502",
    "not exactly one root",
    "One node without a parent, the interconnection, holds the cap of the whole site.",
    "two nodes without a parent",
    "set the parent of every node but one",
)
FEED_ORDER: Final = _code(
    "E0503",
    "feed under a node of its own or a lower level",
    "From the grid down: utility or contract, transformer, feeder, pad, container or hall, PDU.",
    "kind: pad, parent: a PDU",
    "correct the kind or the parent",
)
PAIR: Final = _code(
    "E0504",
    "A/B pair does not agree",
    "The two sides of a pair name each other, are of one kind and not above one another.",
    "a: pair b, but b: no pair",
    "name the pair on both sides",
)
NO_CAPACITY: Final = _code(
    "E0505",
    "nothing left for devices",
    "Rating times derate, less the unmanaged load, is what devices may draw.",
    "rating_kw: 100, unmanaged_kw: 90     # derate 0.8",
    "correct the rating or the unmanaged load",
)
OVER_RATING: Final = _code(
    "E0506",
    "nameplate above the derated rating",
    "At PDU, container and hall nobody trims: the breaker does. From the pad upwards "
    "over-subscription is allowed, the caps bind there.",
    "24 machines of 3,500 W on a PDU of 80 kW",
    "move machines to another feed, lower the declared mode, or correct the rating",
)
LIMIT_OUTSIDE: Final = _code(
    "E0507",
    "power limit outside the ladder",
    "Below its lowest step a machine refuses or stalls, above its highest the limit says nothing.",
    "power_limit_w: 200",
    "write a limit between the lowest and the highest step of the type",
)
LADDER: Final = _code(
    "E0508",
    "ladder that cannot be",
    "Steps ascend in watts above standby, have different names, and one of them is nominal.",
    "modes: [{name: high, power_w: 4000}, {name: low, power_w: 3000}]",
    "order the steps and name the nominal one",
)
CONTRACT: Final = _code(
    "E0509",
    "power of a hosted site",
    "At a host's the root is one contract node, a number on paper; nothing below is metered by us. "
    "An owned site has no contract node.",
    "tenure: {kind: hosted_in} and a root of kind utility",
    "make the root a contract node without meter, or correct the tenure",
)
DUPLICATE_METER: Final = _code(
    "E0510",
    "meter at two nodes",
    "One meter measures one place.",
    "two pads with meter: m-1",
    "name each node's own meter",
)
CONTINGENCY: Final = _code(
    "E0511",
    "too much after a loss",
    "After losing either side of a pair, anything above a side, or what `contingencies` names, the other "
    "sides and all above them carry what moves to them, with no software action.",
    "two sides of 1,000 kW with 700 kW on each",
    "move load off the pair, derate what it hangs under, or declare `emergency_kw` where it bears more",
)
TRIP_CURVE: Final = _code(
    "E0512",
    "trip curve that cannot be",
    "The more a breaker carries, the sooner it opens: points ascend in load and descend in seconds.",
    "breaker: [{load: 1.4, seconds: 60}, {load: 1.1, seconds: 1020}]",
    "order the points by load, as the curve of its maker has them",
)

# --- E06: placement --------------------------------------------------------------------------

SLOT_WITHOUT_ROW: Final = _code(
    "E0601",
    "slots without a record",
    "In a rack of `placement: recorded` each slot has a row, vacant ones too: a missing row is a "
    "machine nobody accounts for.",
    "a rack of 42 slots with 41 rows",
    "add the rows (state vacant where nothing stands)",
)
DUPLICATE_RECORD: Final = _code(
    "E0602",
    "asset, slot, MAC or serial stands twice",
    "One machine in two places, or two in one: either way a write could reach the wrong one.",
    "two rows of asset a0000001",
    "delete the row that is out of date",
)
BAD_ROW: Final = _code(
    "E0603",
    "not a row of the placement record",
    "The first line names the columns in their order; each row has as many cells.",
    "asset;rack;slot",
    "export the file as CSV with commas and the columns of docs/reference/schema.md",
)
BAD_CELL: Final = _code(
    "E0604",
    "cell of the wrong form",
    "Each column has its form.",
    "mac: 00-11-22",
    "write the cell in the form that is described",
)
SLOT_OUTSIDE: Final = _code(
    "E0605",
    "slot that the rack does not have",
    "Slots count from 1 to the rack's `slots`.",
    "overrides: [{slots: 40-44, …}]       # of 42",
    "correct the slot, or the rack's number of slots",
)
NOT_LOCATABLE: Final = _code(
    "E0606",
    "machine on DHCP without MAC",
    "On DHCP a machine is found by its MAC alone.",
    "a0000001,rack-dhcp,1,SN1,,…",
    "record the MAC, or give the rack static addresses",
)
CONTRADICTION: Final = _code(
    "E0607",
    "record contradicts itself",
    "A vacant slot has no serial, a machine no more missing boards than boards, and one that is out "
    "of service has a reason.",
    ",rack-1,7,SN77,,,,vacant,,,2026-01-02,",
    "correct the state or the cell",
)
BAD_BIN: Final = _code(
    "E0608",
    "hashrate bin far from the nameplate",
    "Bins differ by some per cent; half or one and a half of it is a slip of the pen.",
    "bin_ths: 2000        # of a machine of 200",
    "correct the bin or the type",
)
OVERRIDE_OVERLAP: Final = _code(
    "E0609",
    "override overlaps or sets nothing",
    "Two overrides of one slot would need an order.",
    "overrides: [{slots: 1-4, …}, {slots: 4-8, …}]",
    "make the slot ranges disjoint, and let each set something",
)

# --- E07: policy -----------------------------------------------------------------------------

NO_OWNER: Final = _code(
    "E0701",
    "slot without owner",
    "A machine without owner has no pools and nobody who approves.",
    "a rack without owner, and overrides for some of its slots only",
    "set the rack's owner, or override the rest",
)
NO_POOL: Final = _code(
    "E0702",
    "mining without a pool",
    "A machine that mines for nobody burns power; no write ever leaves zero pools.",
    "kind: miner, mining: true, pools: []",
    "name the pools, by priority",
)
BAD_WORKER: Final = _code(
    "E0703",
    "worker pattern",
    "A worker is printable and without blanks; {asset}, {rack}, {slot} and {site} are replaced.",
    "worker: acme.{host}",
    "use the placeholders that exist",
)
NO_CONSENT: Final = _code(
    "E0704",
    "firmware without the owner's consent",
    "The owner lists the families that may run on his machines; an empty list means any that the "
    "type ships with.",
    "firmware_families: [antminer_stock], profile with family luxos",
    "ask the owner to add the family, or use another profile",
)
FIRMWARE_MODEL: Final = _code(
    "E0705",
    "firmware that the model does not have",
    "The family is not made for this model.",
    "profile with family whatsminer_v2 on an Antminer",
    "use a profile of a family that the type lists",
)
BAD_COHORTS: Final = _code(
    "E0706",
    "cohorts of a rollout",
    "Counts (`1`, `10`) come first, then shares below all (`1%`, `0.05`), each kind growing. `1.0` "
    "could be one machine or all of them.",
    "cohorts: ['1.0', '10']",
    "write counts as whole numbers and shares with %",
)
BAD_TENURE: Final = _code(
    "E0707",
    "tenure does not agree",
    "A hosted site names its host; an owned one has none, and no actions that only a host may take.",
    "tenure: {kind: hosted_in}",
    "name the host, or correct the kind",
)
BAD_RINGS: Final = _code(
    "E0708",
    "rings of promotion",
    "Each site is in one ring, once rings are declared: a site in none would never be promoted to.",
    "rings: [{name: first, sites: [lab]}]     # and ga-macon in none",
    "put each site into exactly one ring",
)
POOL_KEY: Final = _code(
    "E0709",
    "key of a Stratum V2 pool",
    "Without the pool's public key Stratum V2 cannot tell a hijacker; Stratum V1 has none.",
    "protocol: stratum2           # and no sv2_public_key",
    "add the pool's public key, or correct the protocol",
)
NO_RELEASE: Final = _code(
    "E0710",
    "firmware that the catalogue does not have",
    "A version is installed from a release that says which image, of which digest, fits which machine. "
    "Without one a rollout could only halt.",
    "firmware: {family: antminer_stock, version: '2027.1'}     # and no firmware/*.yaml of it",
    "add firmware/<id>.yaml with the version and the device type, or take the version out of the profile",
)
RELEASE_TWICE: Final = _code(
    "E0711",
    "two releases of one firmware",
    "Which of two digests is the right one of a version cannot be told.",
    "two files in firmware/ with equal family, version and device type",
    "make one of the two, or take the device type out of one",
)
IMAGE_OVERLAP: Final = _code(
    "E0712",
    "two images for one machine",
    "An image is chosen by control board and hardware revision; each machine has to find one.",
    "images: [{file: a.tar, …}, {file: b.tar, …}]     # and neither names a control board",
    "name in each image what it is for",
)
BAD_SIGNATURE: Final = _code(
    "E0713",
    "image without a valid signature",
    "Whoever can change this repository could have any bytes written to every machine; the key is not in it.",
    "firmware_keys: {release: …}, and an image without signed_by and signature",
    "have the image signed by one of the keys of fleet.yaml",
)
PREVIOUS_TWICE: Final = _code(
    "E0714",
    "previous password that is the new one",
    "What is rotated away from is another reference than what is rotated to; each is tried once.",
    "credentials: {user: root, secret_ref: env:NEW, previous: [env:NEW]}",
    "take the reference out of `previous`, or correct it",
)
REMEDIES_BY_HAND: Final = _code(
    "E0715",
    "remedies act where no BMC can be spoken to",
    "What acts on a GPU node that fails is its BMC: it reboots the node, and cycles its power. A BMC whose "
    "password or certificate nobody declared is sent nothing, so such a node is drained and kept out of "
    "service, and everything else waits for a person.",
    "gpu: {remedies: act}         # and site.yaml has no `bmc`",
    "declare how the site's BMCs are reached, or let the profile `tell`",
    Severity.WARNING,
)
UNKNOWN_METER: Final = _code(
    "E0740",
    "unknown meter",
    "A node names a meter that `meters` does not declare, so nobody can read it.",
    "nodes: [{id: pad-1, …, meter: m-1}]     # and no m-1 among `meters`",
    "declare the meter: where it is read, and which model it is",
)
UNUSED_METER: Final = _code(
    "E0741",
    "meter of no node",
    "A meter that measures no node tells nothing that anybody uses.",
    "meters: [{name: m-9, …}]                # and no node has `meter: m-9`",
    "name it at the node that it measures, or take it out",
    Severity.WARNING,
)
UNKNOWN_METER_MODEL: Final = _code(
    "E0742",
    "unknown model of meter",
    "Which register holds the power is told by a register map; a wrong one reads noise as megawatts.",
    "model: shneider-pm5000",
    "use a model of docs/reference/meters.md, or have a map added",
)
METER_PLACE_TWICE: Final = _code(
    "E0743",
    "two meters at one place",
    "An address, a port and a unit are one meter: two nodes would be told the same power.",
    "two meters with gateway: gw-1 and unit: 4",
    "correct the unit of one",
)
METER_INTERVAL: Final = _code(
    "E0744",
    "interval that a meter cannot keep",
    "A meter that is looked at too rarely cannot guard a breaker; a serial line answers one meter after "
    "another, and has time for so many.",
    "interval_s: 300",
    "choose an interval that the meter, its line and the breaker bear",
)
METER_GATEWAY: Final = _code(
    "E0745",
    "meter that nobody knows how to reach",
    "A meter is read at its own address, or behind a host of role meter_gateway: one of the two.",
    "gateway: ga-mgmt-1                      # a host of role management",
    "give it an `address`, or the `gateway` that its line ends at",
)
METER_RANGE: Final = _code(
    "E0746",
    "meter that cannot measure its node",
    "Current transformers that are smaller than the load show too little where it matters most.",
    "range_kw: 1000                          # at a node of rating_kw: 3150",
    "correct `range_kw`, or have larger current transformers put in",
)
UNKNOWN_TIME_ZONE: Final = _code(
    "E0720",
    "time zone that this machine does not know",
    "Names change rarely, but spelling errors are frequent.",
    "time_zone: America/New_Yrok",
    "correct the name, or update the time zone data of this machine",
    Severity.WARNING,
)
WAVES_OF_NOTHING: Final = _code(
    "E0721",
    "waves of GPU software that is not declared",
    "In waves comes another driver, or another MIG profile. Where neither is declared there is nothing that "
    "a node could be behind of.",
    "gpu: {software: waves}       # and neither driver nor mig",
    "declare `driver`, `mig` or both, or leave `software` away",
)
MIG_BY_HAND: Final = _code(
    "E0722",
    "MIG profile that nobody asks for",
    "Another MIG profile needs an empty node, so it is asked of the MIG manager in waves alone. Left to "
    "people, the profile is compared and shown, and the nodes stay as they are.",
    "gpu: {mig: all-1g.18gb}      # and no `software: waves`",
    "say `software: waves`, or part the GPUs by hand",
    Severity.WARNING,
)
SECRET_UNSET: Final = _code(
    "E0790",
    "secret reference leads nowhere",
    "The declaration names where a secret is; on this host there is nothing.",
    "secret_ref: env:MINER_PASSWORD       # and the variable is not set",
    "set it where gridplane runs; the password itself never stands in the inventory",
)

# --- E09: cluster ----------------------------------------------------------------------------

NO_SERVER: Final = _code(
    "E0901",
    "cluster without a server",
    "The control plane runs on the site's hosts of role `control_plane`; where there is none, on its first "
    "management host.",
    "a cluster.yaml, and hosts of role meter_gateway only",
    "declare a host of role control_plane, or delete cluster.yaml",
)
NO_ENDPOINT: Final = _code(
    "E0902",
    "several servers without an endpoint",
    "Nodes and people find the API at one address. With a server's own, the cluster is lost with that "
    "server, however many others there are.",
    "three hosts of role control_plane, and no endpoint in cluster.yaml",
    "add the address that the load balancer or VRRP of the site holds: `endpoint: 10.21.0.20`",
)
BAD_CLUSTER_NETWORK: Final = _code(
    "E0903",
    "networks of the cluster",
    "Pods, services and machines are told apart by address. A pod that has a miner's address hides it.",
    "pods: 10.20.0.0/14         # and the miners are in 10.20.0.0/16",
    "choose ranges that nothing else of the site uses; pods may lie in a network of purpose pods",
)
NO_POD_NETWORK: Final = _code(
    "E0904",
    "node without a network for its pods",
    "With `cni: routed` the site's routers know where each node's pods are: each has its own network, "
    "inside of the cluster's.",
    "cni: routed, and a GPU rack without first_pods",
    "add `pods` to the host, or `first_pods` to the rack, or use `cni: external`",
)
OWN_SETTING: Final = _code(
    "E0905",
    "setting that gridplane derives",
    "The kubelet and kube-proxy get these from other fields; two places for one setting would need an order.",
    "kubelet: {cgroupDriver: cgroupfs}",
    "delete the field, and set what it is derived from",
)
EVEN_SERVERS: Final = _code(
    "E0906",
    "even number of servers",
    "etcd needs more than half of its members: four bear the loss of one, as three do.",
    "two hosts of role control_plane",
    "declare one more or one less",
    Severity.WARNING,
)

NO_CLUSTER: Final = _code(
    "E0907",
    "cluster layer of a site that declares no cluster",
    "What is to be made of the site's hosts stands in its cluster.yaml. A site whose cluster exists "
    "already has "
    "no cluster layer: its platform layer is given the kubeconfig.",
    "gridplane:layer: cluster     # and sites/<site>/cluster.yaml is missing",
    "write cluster.yaml, or give the platform layer a kubeconfig",
)
UNFIT_BUNDLE: Final = _code(
    "E0908",
    "offline bundle that cannot be used",
    "Machines are given what is in it, and would end half-installed.",
    "gridplane:bundle: ./bundle   # of Kubernetes 1.35, and the cluster is declared as 1.36.3",
    "make the bundle anew, of the release that cluster.yaml names",
)

# --- E08: what a site's stacks are told -------------------------------------------------------

STACK_NAME: Final = _code(
    "E0801",
    "stack of another name",
    "The layers of a site find one another by name: `<site>.<layer>`. A copied configuration would bring "
    "one site's hardware up under another's name.",
    "gridplane:site: lab          # in Pulumi.ga-macon.platform.yaml",
    "correct the site and the layer, or rename the stack",
)
NO_FILE: Final = _code(
    "E0802",
    "file that a stack is told of is not there",
    "Without it nothing of the stack can be said, and half of a stack is none.",
    "gridplane:kubeconfig: ~/.kube/conifg",
    "correct the path; it starts at the top of the checkout",
)
UNKNOWN_VALUE: Final = _code(
    "E0803",
    "value that the chart does not know",
    "Helm takes unknown values without a word and does nothing with them.",
    "driver: {useOpenKernelModules: true}     # gone; driver.kernelModuleType",
    "correct the key; the keys that are known stand in control_plane/provision/charts",
)
BAD_VALUE: Final = _code(
    "E0804",
    "value of the wrong kind for the chart",
    "A number where text is meant changes on its way: 595.10 becomes 595.1.",
    "driver: {version: 595.91}",
    "write the kind of value that the chart takes; quotes make text",
)
BAD_COMBINATION: Final = _code(
    "E0805",
    "values that exclude one another",
    "Together they end in a half-installed chart, or in nodes that two operators label.",
    "cdi: {enabled: false, nriPluginEnabled: true}",
    "change one of the two; the rule and its source stand in control_plane/provision/charts",
)
SKIPPED_RELEASE: Final = _code(
    "E0806",
    "upgrade that skips a release",
    "The operators are upgraded within a release line, or to the next one; nothing is tested beyond that, "
    "and definitions of the line between are missed.",
    "version: 26.7.0          # and 25.10.1 stands",
    "go to the next release line first, bring it up, then go on",
)
UNPINNED_CHART: Final = _code(
    "E0807",
    "chart without one exact version and one source",
    "What a chart's name points to tomorrow was tried by nobody.",
    "version: '>=26.3'",
    "name the exact version, and either a repository or a path",
)
UNKNOWN_CHART: Final = _code(
    "E0808",
    "chart that nothing is known of",
    "Its values cannot be checked before Helm sees them.",
    "charts: {gpu-operatr: {version: 26.7.0}}",
    "correct the name, or write its facts into control_plane/provision/charts",
)
NO_NETWORK: Final = _code(
    "E0809",
    "site without a network that its platform needs",
    "The controller's network policy names the networks of devices and of management; without them it "
    "would reach nothing.",
    "networks: [{name: gpu, cidr: 10.24.0.0/20, purpose: gpu}]",
    "declare the site's networks with their purpose in site.yaml",
)
NO_STORE: Final = _code(
    "E0811",
    "firmware Jobs without a store of images",
    "A Job's pods bring the images to the machines; from where has to be declared, so that a network policy "
    "can let them there and nowhere else.",
    "a profile with a version, and no firmware_store in site.yaml",
    "add `firmware_store: http://10.21.0.10:8090/images`: a web server with the files of firmware/*.yaml",
)
NO_LAYER: Final = _code(
    "E0810",
    "layer below is missing",
    "Each layer of a site stands on the one before: the platform needs a cluster, the fleet a platform.",
    "pulumi up --stack ga-macon.fleet        # and there is no stack ga-macon.platform",
    "bring the layer below up first; a platform may name a cluster that exists instead, by `kubeconfig`",
)
OFFLINE_UPDATE: Final = _code(
    "E0812",
    "update of a stack that is offline",
    "Offline nothing is asked: neither the layer below nor any machine. That is for previews, in a backend "
    "that is thrown away.",
    "pulumi up --config gridplane:offline=true",
    "pulumi preview; or take the key out: pulumi config rm gridplane:offline",
)
