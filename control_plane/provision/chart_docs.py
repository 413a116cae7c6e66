"""The two files about charts: what is known of one (`charts/<name>.yaml`), and which ones a site installs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field

from control_plane.api.v1alpha1 import Document, Name, Text

Dotted = Annotated[
    str,
    Meta(
        pattern=r"^([a-z0-9-]+/)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$",
        description="Path of a value, with dots; of another chart's with its name and a slash before it.",
    ),
]
Version = Annotated[
    str,
    Meta(
        pattern=r"^v?[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$",
        description="One exact version, as text.",
    ),
]
Line = Annotated[
    str, Meta(pattern=r"^[0-9]+\.[0-9]+$", description="A release line, `26.7`, as text.")
]


class KeyDoc(Document, frozen=True, kw_only=True):
    """What is known of one value of a chart."""

    type: Annotated[
        Literal["boolean", "integer", "text", "list", "map"],
        Meta(description="`map` and `list` are not looked into."),
    ]
    default: Annotated[
        Any, Meta(description="The chart's own; left out where it is not known.")
    ] = UNSET
    choices: Annotated[tuple[str, ...], Meta(description="Of a text: the only ones.")] = ()
    gone: Annotated[str | None, Meta(description="It was once; what to write instead.")] = None
    rule: Annotated[str | None, Meta(description="What to know before setting it.")] = None
    source: Annotated[Text, Meta(description="Where the fact is from.")]

    @property
    def has_default(self) -> bool:
        """Whether the chart's own value is known."""
        return not isinstance(self.default, UnsetType)


class CombinationDoc(Document, frozen=True, kw_only=True):
    """Values that a chart may not have together, defaults included."""

    id: Name
    values: Annotated[
        dict[Dotted, Any], Meta(min_length=1, description="Where all of them stand, it is refused.")
    ]
    why: Text
    source: Text


class KeptDoc(Document, frozen=True, kw_only=True):
    """An object that the chart makes of its values: it is read back after each installation."""

    api_version: Text
    kind: Text
    name: Text
    fields: Annotated[dict[Dotted, Dotted], Meta(description="Value → where the object has it.")]


class FactsDoc(Document, frozen=True, kw_only=True):
    """`control_plane/provision/charts/<chart>.yaml`: facts about one published chart, written by us."""

    chart: Name
    repository: Text
    written_for: Annotated[Version, Meta(description="The version that the facts are about.")]
    verified: Annotated[
        Text | None,
        Meta(description="The published archive that they were compared with, and its SHA-256."),
    ] = None
    lines: Annotated[
        tuple[Line, ...],
        Meta(description="Release lines in their order; an upgrade may skip none."),
    ] = ()
    kubernetes: Annotated[
        tuple[Line, Line] | None, Meta(description="Oldest and newest minor that it runs on.")
    ] = None
    keys: dict[Dotted, KeyDoc]
    refused: tuple[CombinationDoc, ...] = ()
    kept: tuple[KeptDoc, ...] = ()


class ChartDoc(Document, frozen=True, kw_only=True):
    """One chart that is installed, and how."""

    version: Version
    repository: (
        Annotated[str, Meta(pattern=r"^(https|oci)://", description="Where it is published.")]
        | None
    ) = None
    path: Annotated[
        str | None, Meta(description="A folder or archive, from the top of the checkout.")
    ] = None
    namespace: Name
    privileged: Annotated[
        bool, Meta(description="Whether its pods need more than the pod security baseline.")
    ] = False
    values: dict[str, Any] = field(default_factory=dict)


class ChartsDoc(Document, frozen=True, kw_only=True):
    """`stacks/charts/*.yaml`: the charts of a platform, installed in this order."""

    charts: dict[Name, ChartDoc]
