"""What must hold of the files that every site uses, each by itself."""

from __future__ import annotations

import re
from typing import Final

from control_plane.api.v1alpha1 import (
    DeviceTypeDoc,
    FleetDoc,
    GpuModelDoc,
    GpuProfileDoc,
    OwnerDoc,
    ProfileDoc,
)
from control_plane.core.gpu import MIG_OFF
from control_plane.inventory import errors
from control_plane.inventory.expand import cohort
from control_plane.inventory.problems import Problems
from control_plane.inventory.shape import File
from control_plane.inventory.source import quoted
from control_plane.inventory.tree import Tree

_PLACEHOLDERS: Final = ("asset", "rack", "slot", "site")
_WORKER: Final = re.compile(r"([!-z|~]|\{(asset|rack|slot|site)\})+")
"""Printable, no blanks, no braces but those of a placeholder."""


def check_shared(tree: Tree, problems: Problems, *, all_sites: bool) -> None:
    """Check fleet.yaml, owners, device types and profiles.

    `all_sites`: the tree holds every site, so that a ring may be held against them.
    """
    if tree.fleet:
        _cohorts(tree.fleet, problems)
        if all_sites:
            _rings(tree.fleet, tree, problems)
    for owner in tree.owners.values():
        if owner:
            _owner(owner, tree, problems)
    for kind in tree.types.values():
        if kind:
            _ladder(kind, problems)
    for profile in tree.profiles.values():
        if profile:
            _profile(profile, problems)
            _previous(profile, problems)


def _previous(profile: File[ProfileDoc], problems: Problems) -> None:
    given = profile.data.credentials
    known = {given.secret_ref} if given else set()
    for index, ref in enumerate(given.previous if given else ()):
        if ref in known:
            spot = profile.doc.spot("credentials", "previous", index)
            what = f"{quoted(ref)} stands twice among the credentials"
            problems.add(errors.PREVIOUS_TWICE, profile.doc, spot, what)
        known.add(ref)


def _cohorts(fleet: File[FleetDoc], problems: Problems) -> None:
    doc, before, in_shares = fleet.doc, 0.0, False
    for index, text in enumerate(fleet.data.rollout.cohorts):
        size = cohort(text)
        is_share = text.endswith("%") or ("." in text and size < 1)
        is_count = not text.endswith("%") and "." not in text and size >= 1
        what = None
        if is_share and not 0 < size < 1:
            what = f"cohort {quoted(text)} is no part of the site: the rest comes last by itself"
        elif not is_share and not is_count:
            what = f"cohort {quoted(text)} is neither a count nor a share"
        elif is_count and in_shares:
            what = f"cohort {quoted(text)} is a count after a share"
        elif size <= before and is_share == in_shares:
            what = f"cohort {quoted(text)} does not grow"
        if what:
            spot = doc.spot("rollout", "cohorts", index)
            problems.add(errors.BAD_COHORTS, doc, spot, what)
            return
        before, in_shares = size, is_share


def _rings(fleet: File[FleetDoc], tree: Tree, problems: Problems) -> None:
    doc, seen, names = fleet.doc, dict[str, str](), set[str]()
    for index, ring in enumerate(fleet.data.rings):
        if ring.name in names:
            what = f"ring {quoted(ring.name)} stands twice"
            problems.add(errors.DUPLICATE_NAME, doc, doc.spot("rings", index, "name"), what)
        names.add(ring.name)
        for place, site in enumerate(ring.sites):
            spot = doc.spot("rings", index, "sites", place)
            if site not in tree.sites:
                what = f"ring {quoted(ring.name)} names the site {quoted(site)}"
                problems.add(errors.UNKNOWN_SITE, doc, spot, what, word=site, known=tree.sites)
            elif site in seen:
                what = f"site {quoted(site)} is in ring {quoted(seen[site])} already"
                problems.add(errors.BAD_RINGS, doc, spot, what)
            seen.setdefault(site, ring.name)
    if fleet.data.rings:
        for site in sorted(set(tree.sites) - set(seen)):
            what = f"site {quoted(site)} is in no ring"
            problems.add(errors.BAD_RINGS, doc, doc.key("rings"), what)


def _owner(owner: File[OwnerDoc], tree: Tree, problems: Problems) -> None:
    doc = owner.doc
    for name, pool in owner.data.pools.items():
        if not _WORKER.fullmatch(pool.worker):
            what = (
                f"worker {quoted(pool.worker)} of pool {quoted(name)} has a blank, a control code "
            )
            what += f"or a brace that is none of {', '.join('{' + p + '}' for p in _PLACEHOLDERS)}"
            problems.add(errors.BAD_WORKER, doc, doc.spot("pools", name, "worker"), what)
        is_v2 = pool.protocol == "stratum2"
        if is_v2 != bool(pool.sv2_public_key):
            has = "no sv2_public_key" if is_v2 else "an sv2_public_key, but speaks Stratum V1"
            what = f"pool {quoted(name)} has {has}"
            problems.add(errors.POOL_KEY, doc, doc.spot("pools", name, "sv2_public_key"), what)
    known = {family for kind in tree.types.values() if kind for family in kind.data.families}
    if all(tree.types.values()):
        for index, family in enumerate(owner.data.firmware_families):
            if family not in known:
                spot = doc.spot("firmware_families", index)
                what = f"no device type lists the firmware family {quoted(family)}"
                problems.add(errors.UNKNOWN_FAMILY, doc, spot, what, word=family, known=known)


def _ladder(kind: File[DeviceTypeDoc], problems: Problems) -> None:
    doc, data = kind.doc, kind.data
    before_w, names = data.standby_w, set[str]()
    for index, mode in enumerate(data.modes):
        spot = doc.spot("modes", index, "power_w")
        if mode.power_w <= before_w:
            above = "the step before it" if index else "standby"
            what = f"mode {quoted(mode.name)} draws {mode.power_w:g} W, not more than {above} "
            problems.add(errors.LADDER, doc, spot, f"{what}({before_w:g} W)")
        if data.kind == "miner" and not mode.hashrate_ths:
            what = f"mode {quoted(mode.name)} of a miner has no hashrate_ths"
            problems.add(errors.LADDER, doc, doc.spot("modes", index), what)
        if mode.name in names:
            what = f"mode {quoted(mode.name)} stands twice"
            problems.add(errors.LADDER, doc, doc.spot("modes", index, "name"), what)
        names.add(mode.name)
        before_w = mode.power_w
    if data.nominal_mode not in names:
        what = f"nominal_mode {quoted(data.nominal_mode)} is no step of the ladder"
        spot = doc.spot("nominal_mode")
        problems.add(errors.LADDER, doc, spot, what, word=data.nominal_mode, known=names)
    need, has = (("boards", data.boards), ("gpus", data.gpus))[data.kind == "gpu_node"]
    if not has:
        what = f"a type of kind {data.kind} has {need}: 0"
        problems.add(errors.OUT_OF_RANGE, doc, doc.spot(need), what, fix=f"write how many {need}")
    if data.gpu is not None:
        _gpus(kind, data.gpu, problems)


def _gpus(kind: File[DeviceTypeDoc], gpu: GpuModelDoc, problems: Problems) -> None:
    doc, data = kind.doc, kind.data
    if data.kind == "miner":
        what = "a type of miners has GPUs"
        problems.add(errors.KIND_MISMATCH, doc, doc.key("gpu"), what, fix="take `gpu` out")
        return
    full_w = max(mode.power_w for mode in data.modes)
    if gpu.min_limit_w > gpu.max_limit_w:
        what = f"min_limit_w ({gpu.min_limit_w:g} W) is above max_limit_w ({gpu.max_limit_w:g} W)"
        problems.add(
            errors.OUT_OF_RANGE, doc, doc.spot("gpu", "min_limit_w"), what, fix="swap them"
        )
    elif data.gpus * gpu.max_limit_w >= full_w:
        what = f"{data.gpus} GPUs of {gpu.max_limit_w:g} W draw no less than the whole node ({full_w:g} W)"
        fix = "correct the limit, or the watts of the node's modes"
        problems.add(errors.LADDER, doc, doc.spot("gpu", "max_limit_w"), what, fix=fix)


def _gpu_profile(profile: File[ProfileDoc], gpu: GpuProfileDoc, problems: Problems) -> None:
    doc = profile.doc
    if profile.data.kind == "miner":
        what = "a profile for miners says something of GPUs"
        problems.add(errors.KIND_MISMATCH, doc, doc.key("gpu"), what, fix="take `gpu` out")
    for name in ("graphics_clock", "memory_clock"):
        clocks = getattr(gpu, name)
        if clocks is not None and clocks.min_mhz > clocks.max_mhz:
            what = f"min_mhz ({clocks.min_mhz}) is above max_mhz ({clocks.max_mhz})"
            spot = doc.spot("gpu", name, "min_mhz")
            problems.add(errors.OUT_OF_RANGE, doc, spot, what, fix="swap them")
    if gpu.software == "waves" and gpu.driver is None and gpu.mig is None:
        what = "the profile has software come in waves, and declares neither a driver nor a MIG profile"
        problems.add(errors.WAVES_OF_NOTHING, doc, doc.spot("gpu", "software"), what)
    if gpu.software == "leave" and gpu.mig not in {None, MIG_OFF}:
        what = f"MIG profile {quoted(gpu.mig)} is declared, and asked of no node"
        problems.add(errors.MIG_BY_HAND, doc, doc.spot("gpu", "mig"), what)


def _profile(profile: File[ProfileDoc], problems: Problems) -> None:
    doc, data = profile.doc, profile.data
    if data.kind == "miner" and data.mining and not data.pools:
        spot = doc.spot("pools") if "pools" in doc.value else doc.spot()
        problems.add(errors.NO_POOL, doc, spot, "the profile mines, and names no pool")
    if data.gpu is not None:
        _gpu_profile(profile, data.gpu, problems)
    if data.kind == "gpu_node" and data.pools:
        what = "a profile for GPU nodes names pools"
        problems.add(errors.KIND_MISMATCH, doc, doc.spot("pools"), what)
    for index, pool in enumerate(data.pools):
        if pool in data.pools[:index]:
            what = f"pool {quoted(pool)} stands twice"
            problems.add(errors.DUPLICATE_NAME, doc, doc.spot("pools", index), what)
