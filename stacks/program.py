"""From a stack's configuration to its layer; what is wrong with either ends here, before anything is made."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Protocol, cast

import pulumi

from control_plane.core.errors import DeclarationError
from control_plane.inventory import errors
from control_plane.provision.settings import PROJECT, Layer, Settings, StackFile, read_settings
from control_plane.provision.site import DeclaredSite, read_site
from control_plane.views.findings import render_findings
from stacks.outputs import LayerOutput, MissingLayer

FROM_ENVIRONMENT = {"kubeconfig": "GRIDPLANE_KUBECONFIG", "image": "GRIDPLANE_IMAGE"}


class LayerModule(Protocol):
    """A file of this folder that is named like a layer."""

    def declare(
        self, top: Path, declared: DeclaredSite, settings: Settings, file: StackFile
    ) -> LayerOutput:
        """Everything of the layer.

        Args:
            top: the folder that relative paths start from.
            declared: the site.
            settings: what the stack is told.
            file: where it is told that, for findings.

        Raises:
            DeclarationError: what is declared cannot be; nothing was registered.
        """


def declare(top: Path) -> None:
    """Declare the stack that Pulumi runs the program for.

    Raises:
        pulumi.RunError: with every finding; nothing was registered.
    """
    stack = pulumi.get_stack()
    file = StackFile.of(top, stack)
    try:
        settings = read_settings(stack, _given(), file)
        if settings.offline and not pulumi.runtime.is_dry_run():
            what = f"{PROJECT}:offline is for previews, and this is an update"
            file.add(errors.OFFLINE_UPDATE, "offline", what)
            file.refuse()
        declared = read_site(top, settings, file)
        layer = cast("LayerModule", importlib.import_module(f"stacks.{settings.layer}"))
        output = _declared(layer, top, declared, settings, file)
    except DeclarationError as error:
        raise pulumi.RunError(f"\n{render_findings(error.findings, color=False)}") from error
    output.export()


def _declared(
    layer: LayerModule, top: Path, declared: DeclaredSite, settings: Settings, file: StackFile
) -> LayerOutput:
    try:
        return layer.declare(top, declared, settings, file)
    except MissingLayer as missing:
        file.add(errors.NO_LAYER, "layer", missing.what, fix=_below(settings, missing))
        raise DeclarationError(file.problems.found()) from missing


def _below(settings: Settings, missing: MissingLayer) -> str:
    fix = f"pulumi up --stack {missing.stack}"
    if settings.layer is not Layer.PLATFORM:
        return fix
    return f"{fix}; or name a cluster that exists: pulumi config set kubeconfig FILE --stack {settings.stack}"


def _given() -> dict[str, str]:
    """The project's keys, as Pulumi hands them over: text, of which it knows no more than we say.

    Kubeconfig and image are matters of the machine as well as of the stack: where no key names one, a
    variable may.
    """
    config = json.loads(os.environ.get("PULUMI_CONFIG", "{}"))
    prefix = f"{PROJECT}:"
    given = {
        key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)
    }
    for key, variable in FROM_ENVIRONMENT.items():
        if variable in os.environ:
            given.setdefault(key, os.environ[variable])
    return given
