"""The rule table as policies of Pulumi. Every one is mandatory: a stack that breaks a rule makes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pulumi_policy as pack

from control_plane.inventory.load import load
from control_plane.provision.chart import known_facts, read_charts
from control_plane.provision.check import Declared, broken, over_budget, unprotected
from control_plane.provision.rules import GATE, KEPT, Rule, pools_of, rules
from control_plane.provision.settings import NAMESPACE, StackFile

NAME = "gridplane"
Report = Callable[..., None]


def serve(top: Path) -> None:
    """Answer Pulumi until it ends.

    Args:
        top: the checkout: its inventory has the pools, its charts the namespaces of operators.
    """
    pack.PolicyPack(
        name=NAME,
        enforcement_level=pack.EnforcementLevel.MANDATORY,
        policies=[*object_policies(lambda stack: table_of(top, stack)), *stack_policies()],
    )


@cache
def table_of(top: Path, stack: str) -> tuple[Rule, ...]:
    """The rules for a stack, by the inventory that it is told; of a site that does not load no pool is."""
    site = stack.rpartition(".")[0]
    inventory = StackFile.of(top, stack).said("inventory") or "inventory"
    loaded = load(top / inventory, sites={site})
    found = loaded.fleet.sites.get(site) if loaded.fleet is not None else None
    return rules(
        privileged=_privileged(top), pools=pools_of(found) if found is not None else frozenset()
    )


def _privileged(top: Path) -> frozenset[str]:
    return frozenset(
        chart.doc.namespace
        for path in sorted((top / "stacks" / "charts").glob("*.yaml"))
        for chart in read_charts(path.name, path.read_bytes(), known_facts())
        if chart.doc.privileged
    )


def object_policies(table: Callable[[str], tuple[Rule, ...]]) -> list[pack.Policy]:
    """One policy for each rule of the table."""
    any_site = rules(privileged=(), pools=())
    return [
        pack.ResourceValidationPolicy(rule.id, rule.why, _about(rule.id, table))
        for rule in any_site
    ]


def _about(rule: str, table: Callable[[str], tuple[Rule, ...]]) -> Callable[..., None]:
    def validate(args: pack.ResourceValidationArgs, report: Report) -> None:
        if args.resource_type.startswith("kubernetes:"):
            for found in broken(table(stack_in(args.urn)), args.props):
                if found.id == rule:
                    report(f"{args.name}: {found.message}")

    return validate


def stack_policies() -> list[pack.Policy]:
    """What only a whole stack can be asked."""
    protects = "; ".join(keep.title for keep in KEPT if keep.protected)
    return [
        pack.StackValidationPolicy(
            "resource-budget", "A stack holds what people read.", _budget
        ),
        pack.StackValidationPolicy("protected-deletes", f"Protected: {protects}.", _protected),
    ]  # fmt: skip


def _budget(args: pack.StackValidationArgs, report: Report) -> None:
    said = over_budget(len(args.resources))
    if said is not None:
        report(said)


def _protected(args: pack.StackValidationArgs, report: Report) -> None:
    objects = list(declared(args.resources))
    for one in objects:
        for keep in unprotected(one, _own_namespace(objects)):
            report(f"{one.name} is not protected: {keep.title}; set protect")


def _own_namespace(objects: Iterable[Declared]) -> str:
    """Where a platform stands: where its gate does."""
    for one in objects:
        about = one.object.get("metadata") or {}
        if about.get("name") == GATE:
            return str(about.get("namespace"))
    return NAMESPACE


def declared(resources: Iterable[pack.PolicyResource]) -> Iterable[Declared]:
    """The objects of a stack, as the rules look at them."""
    for one in resources:
        if one.resource_type.startswith("kubernetes:"):
            props: Mapping[str, Any] = one.props
            yield Declared(
                type=one.resource_type, name=one.name, object=props,
                protected=bool(one.opts.protect),
            )  # fmt: skip


def stack_in(urn: str) -> str:
    """`urn:pulumi:<site>.<layer>::...` → the stack."""
    return urn.split("::", maxsplit=1)[0].removeprefix("urn:pulumi:")
