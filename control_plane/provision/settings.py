"""The configuration of a stack: few shallow keys, and every mistake in them with its line.

Everything else is read from the inventory.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from control_plane.core.errors import DeclarationError
from control_plane.inventory import errors
from control_plane.inventory.problems import Problems
from control_plane.inventory.source import WHOLE_FILE, Spot, quoted
from control_plane.inventory.text import Document, read_yaml

PROJECT: Final = "gridplane"
CONFIG: Final = "stacks/config"
"""Where the configuration of stacks lies in a checkout."""
NAMESPACE: Final = "gridplane"
"""Where the controller and the declaration live, unless a stack is told otherwise."""
Mode = Literal["observe", "enforce"]


class Layer(StrEnum):
    """What one stack of a site holds; each stands on the one before."""

    CLUSTER = "cluster"
    PLATFORM = "platform"
    FLEET = "fleet"

    @property
    def below(self) -> Layer | None:
        """The layer that this one stands on."""
        layers = tuple(Layer)
        place = layers.index(self)
        return layers[place - 1] if place else None


_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "layer": tuple(Layer),
    "mode": get_args(Mode),
    "offline": ("true", "false"),
}


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a stack is told. Paths are from the top of the checkout, unless they are absolute."""

    site: str
    """A folder of `<inventory>/sites`."""
    layer: Layer
    inventory: str = "inventory"
    """The folder that holds fleet.yaml."""
    kubeconfig: str | None = None
    """A file, of a cluster that exists already: the platform layer then stands on it alone."""
    login_key: str | None = None
    """A file with the private SSH key that machines let in; without it the SSH agent's keys are tried."""
    known_hosts: str | None = None
    """A file with the machines' public host keys, beside those that the inventory has."""
    bundle: str | None = None
    """The folder of an offline bundle, for machines that fetch nothing."""
    namespace: str = NAMESPACE
    charts: str = "stacks/charts/published.yaml"
    """The file that says which charts the platform installs, and with which values."""
    image: str = "gridplane"
    """The image of the controller and of firmware Jobs, as the cluster's hosts know it."""
    pace: str | None = None
    """A ConfigMap with `network-map.json`, of a site that is simulated: firmware Jobs go by its time."""
    mode: Mode | None = None
    """Whether devices are written to; not said, what stands in the `Site` stays."""
    offline: bool = False
    """Previews alone, of whoever has no credential of the site: nothing is read but the inventory."""

    @property
    def stack(self) -> str:
        """The stack's name."""
        return stack_of(self.site, self.layer)


def stack_of(site: str, layer: Layer) -> str:
    """How the stack of a site's layer is called: one project holds all of them."""
    return f"{site}.{layer}"


class StackFile:
    """The configuration of one stack as its author sees it: values, and where each stands."""

    def __init__(self, path: str, data: bytes | None) -> None:
        """Read it; what is wrong with it as YAML is found here.

        Args:
            path: how findings name it.
            data: its bytes; `None` where there is no such file: then all has to come from `--config`.
        """
        self.path = path
        self.problems = Problems()
        self._doc: Document | None = None
        if data is not None:
            self._doc = read_yaml(path, data, self.problems)

    @classmethod
    def of(cls, top: Path, stack: str) -> StackFile:
        """The one of a stack in a checkout, which may have none."""
        path = top / CONFIG / f"Pulumi.{stack}.yaml"
        return cls(f"{CONFIG}/{path.name}", path.read_bytes() if path.is_file() else None)

    def said(self, key: str) -> str | None:
        """The value of a key, where it stands there as text; what else it is, `read_settings` finds."""
        doc = self._doc.value if self._doc is not None else None
        config = doc.get("config") if isinstance(doc, dict) else None
        value = config.get(f"{PROJECT}:{key}") if isinstance(config, dict) else None
        return value if isinstance(value, str) else None

    def spot(self, key: str) -> Spot:
        """Where the value of a key stands, or the whole file."""
        return self._find(key, is_key=False)

    def add(self, code: errors.Code, key: str, what: str, **more: object) -> None:
        """Note a problem with the value of a key."""
        self._add(code, self._find(key, is_key=False), what, more)

    def add_key(self, code: errors.Code, key: str, what: str, **more: object) -> None:
        """Note a problem with a key itself."""
        self._add(code, self._find(key, is_key=True), what, more)

    def _add(self, code: errors.Code, spot: Spot, what: str, more: Mapping[str, object]) -> None:
        source = self._doc or Document(self.path, "")
        self.problems.add(code, source, spot, what, **more)  # type: ignore[arg-type]

    def _find(self, key: str, *, is_key: bool) -> Spot:
        doc, full = self._doc, f"{PROJECT}:{key}"
        if doc is None or not isinstance(doc.value, dict):
            return WHOLE_FILE
        config = doc.value.get("config")
        if not isinstance(config, dict) or full not in config:
            return WHOLE_FILE
        return doc.key("config", full) if is_key else doc.spot("config", full)

    def refuse(self) -> None:
        """Nothing, unless something was found.

        Raises:
            DeclarationError: with all of it.
        """
        if self.problems.errors:
            raise DeclarationError(self.problems.found())


def read_settings(stack: str, given: Mapping[str, str], file: StackFile) -> Settings:
    """What a stack is told.

    Args:
        stack: its name.
        given: the project's keys, without its name before them, as Pulumi hands them over.
        file: where they stand.

    Raises:
        DeclarationError: unknown, missing or impossible values; all of them at once.
    """
    known = {field.encode_name: field for field in msgspec.structs.fields(Settings)}
    for key in given:
        if key not in known:
            file.add_key(
                errors.UNKNOWN_KEY, key, f"the stack has no key {quoted(f'{PROJECT}:{key}')}",
                fix=f"correct the key or remove it; known are {', '.join(sorted(known))}",
                word=key, known=known,
            )  # fmt: skip
        elif not given[key].strip():
            file.add(errors.BAD_LENGTH, key, f"{PROJECT}:{key} is empty")
    for name, field in known.items():
        if field.required and name not in given:
            file.add(
                errors.MISSING_KEY, name, f"stack {quoted(stack)} lacks the key '{PROJECT}:{name}'",
                fix=f"pulumi config set {name} VALUE --stack {stack}",
            )  # fmt: skip
    for key, choices in _CHOICES.items():
        if key in given and given[key] not in choices:
            file.add(
                errors.NOT_A_CHOICE, key,
                f"{PROJECT}:{key} is {quoted(given[key])}; expected one of {', '.join(choices)}",
                word=given[key], known=choices,
            )  # fmt: skip
    file.refuse()
    settings = msgspec.convert(dict(given), Settings, strict=False)
    if stack != settings.stack:
        file.add(
            errors.STACK_NAME, "site",
            f"stack {quoted(stack)} is configured as {quoted(settings.stack)}",
            fix=f"pulumi stack rename {settings.stack}, or correct {PROJECT}:site and {PROJECT}:layer",
        )  # fmt: skip
    file.refuse()
    return settings
