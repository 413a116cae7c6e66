"""What one layer of a site tells the next: typed, and read through a `StackReference`.

Nothing here waits: what a layer below has not said yet is unknown in a preview, and an error in an update.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any, Self

import pulumi

from control_plane.provision.settings import Layer, stack_of

_READ = "pulumi:pulumi:readStackOutputs"
_TRIES, _PAUSE_S = 10, 0.2


class MissingLayer(Exception):
    """A layer that this one stands on is not there; whoever runs Pulumi acts."""

    def __init__(self, what: str, stack: str) -> None:
        self.what, self.stack = what, stack
        super().__init__(what)


@dataclass(frozen=True, kw_only=True)
class LayerOutput:
    """Base of what a layer exports: each field is an output of its name in camelCase."""

    def export(self) -> None:
        """Make them outputs of the stack. Secrets stay secret."""
        for field in dataclasses.fields(self):
            pulumi.export(_camel(field.name), getattr(self, field.name))

    @classmethod
    def unknown(cls) -> Self:
        """Of a layer that is not asked: a provider that waits for it is never started by a preview."""
        return cls(
            **{
                field.name: pulumi.Output.from_input(pulumi.UNKNOWN)
                for field in dataclasses.fields(cls)
            }
        )

    @classmethod
    def from_outputs(cls, below: pulumi.StackReference, stack: str) -> Self:
        """What another stack exported.

        An output that is not there raises when it is needed, with what to do: the stack was never brought
        up, or was destroyed.
        """
        return cls(
            **{
                field.name: _required(below, stack, _camel(field.name))
                for field in dataclasses.fields(cls)
            }
        )


@dataclass(frozen=True, kw_only=True)
class ClusterOutput(LayerOutput):
    """A site's cluster."""

    kubeconfig: pulumi.Output[str]
    """Secret. An administrator's."""
    cluster_identifier: pulumi.Output[str]
    """Tells the cluster from every other, whatever its kubeconfig says: the site."""


@dataclass(frozen=True, kw_only=True)
class PlatformOutput(LayerOutput):
    """What a site's declaration needs of its cluster."""

    kubeconfig: pulumi.Output[str]
    """Secret, as the cluster layer gave it."""
    cluster_identifier: pulumi.Output[str]
    namespace: pulumi.Output[str]
    """Where the declaration goes."""
    charts: pulumi.Output[dict[str, str]]
    """Chart → version that stands."""


@dataclass(frozen=True, kw_only=True)
class FleetOutput(LayerOutput):
    """What a site was told last."""

    revision: pulumi.Output[str]
    """Name of the `FleetRevision` that the `Site` points to."""
    jobs: pulumi.Output[list[str]]
    """Names of the firmware Jobs that it declares."""
    past_jobs: pulumi.Output[list[str]]
    """Names of those that it declared before, the newest last: they stay, and may be at work."""


def reference(site: str, layer: Layer) -> tuple[pulumi.StackReference, str]:
    """The stack of another layer of the site, and its name.

    Raises:
        MissingLayer: there is no such stack, or it cannot be read.
    """
    stack = stack_of(site, layer)
    full = f"{pulumi.get_organization()}/{pulumi.get_project()}/{stack}"
    try:
        # Only whether it answers: what the engine says of a stack that is not there names no fix.
        pulumi.runtime.invoke(_READ, {"name": full})
    except Exception as error:
        raise MissingLayer(
            f"stack {stack} cannot be read: {str(error).rpartition(': ')[2]}", stack
        ) from error
    return pulumi.StackReference(stack, full), stack


def told_before(stack: str) -> dict[str, Any]:
    """What the stack that is being updated exported at the end of its last update; nothing before its first.

    Asked for as a value, before anything is registered, and asked again where there is no answer: a backend
    of files has none for the moment in which the engine writes the state; a `StackReference` fails then.
    """
    full = f"{pulumi.get_organization()}/{pulumi.get_project()}/{stack}"
    left = _TRIES
    while True:
        left -= 1
        try:
            answer = pulumi.runtime.invoke(_READ, {"name": full}).value
            return dict((answer or {}).get("outputs") or {})
        except Exception:
            if not left:
                raise
            time.sleep(_PAUSE_S)


def _required(below: pulumi.StackReference, stack: str, name: str) -> pulumi.Output[str]:
    def check(value: str | None) -> str:
        if value is None:
            raise pulumi.RunError(
                f"stack {stack} has no output '{name}': it was never brought up, or was destroyed; "
                f"pulumi up --stack {stack}"
            )
        return value

    return below.get_output(name).apply(check)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
