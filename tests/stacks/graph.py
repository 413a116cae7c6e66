"""A layer as the engine would be told of it: every registration, without an engine."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

import pulumi
from google.protobuf import json_format  # type: ignore[import-untyped]
from pulumi.runtime import mocks

Outputs = Mapping[str, Mapping[str, Any]]
_LONG = 2_000
"""Characters of inputs from which on a golden file holds their digest."""


class _Answers(mocks.Mocks):
    """What was sent is what is there; what others made or exported is what a test says."""

    def __init__(self, stacks: Outputs, live: Outputs) -> None:
        self._stacks, self._live = stacks, live

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        if args.typ == "pulumi:pulumi:StackReference":
            return args.name, {**args.inputs, "outputs": dict(self._stacks.get(args.name, {}))}
        return args.resource_id or f"{args.name}-id", {
            **args.inputs,
            **self._live.get(args.name, {}),
        }

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """Only what stacks exported is ever asked, and whether they are there."""
        assert args.token == "pulumi:pulumi:readStackOutputs", args.token
        name = args.args["name"].rpartition("/")[2]
        if name not in self._stacks:
            return {}, [("name", f'unknown stack "{args.args["name"]}"')]
        return {"outputs": dict(self._stacks[name])}, []


class _Monitor(mocks.MockMonitor):
    """Keeps what is registered, options included."""

    def __init__(self, answers: mocks.Mocks) -> None:
        super().__init__(answers)
        self.registered: list[dict[str, Any]] = []

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        if request.type != "pulumi:pulumi:Stack":
            self.registered.append(_told(request))
        with _own_loop():
            return super().RegisterResource(request)  # type: ignore[no-untyped-call]

    def ReadResource(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        self.registered.append({"type": request.type, "name": request.name, "read": request.id})
        with _own_loop():
            return super().ReadResource(request)  # type: ignore[no-untyped-call]

    def Invoke(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        with _own_loop():
            return super().Invoke(request)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _own_loop() -> Iterator[None]:
    """An event loop for a call of Pulumi's, closed behind it.

    Its mocks make one for each thread that has none, and leave it open: whoever collects garbage finds it.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()


class Hooks(dict[str, pulumi.ResourceHook]):
    """The hooks that a program registers, where the engine would call them."""

    def register_resource_hook(self, hook: pulumi.ResourceHook) -> None:
        self[hook.name] = hook


def graph(
    stack: str,
    program: Callable[[], None],
    *,
    stacks: Outputs,
    live: Outputs,
    hooks: Hooks | None = None,
) -> list[dict[str, Any]]:
    """Everything that a program registers, in the order of names.

    Args:
        stack: its name.
        program: declares it.
        stacks: name of another stack → what it exported.
        live: resource → what the API server has of it otherwise than it was sent.
        hooks: filled with those that are registered.
    """
    answers = _Answers(stacks, live)
    called = Hooks() if hooks is None else hooks
    with _own_loop():
        monitor = _Monitor(answers)
        mocks.set_mocks(
            answers, project="gridplane", stack=stack, preview=False,
            monitor=monitor, organization="organization",
        )  # fmt: skip
        with mock.patch(
            "pulumi.runtime.resource._get_callbacks", mock.AsyncMock(return_value=called)
        ):
            pulumi.runtime.test(program)()
    return sorted(monitor.registered, key=lambda one: (one["type"], one["name"]))


def _told(request: Any) -> dict[str, Any]:
    inputs = json_format.MessageToDict(request.object)
    text = json.dumps(inputs, sort_keys=True)
    told: dict[str, Any] = {"type": request.type, "name": request.name}
    if inputs:
        digest = hashlib.sha256(text.encode()).hexdigest()
        told["inputs"] = inputs if len(text) < _LONG else f"sha256:{digest}"
    for option in ("protect", "retainOnDelete"):
        if getattr(request, option):
            told[option] = True
    for option in ("parent", "provider"):
        if getattr(request, option):
            told[option] = _name(getattr(request, option))
    if request.dependencies:
        told["dependsOn"] = sorted({_name(one) for one in request.dependencies})
    if request.ignoreChanges:
        told["ignoreChanges"] = list(request.ignoreChanges)
    return told


def _name(urn: str) -> str:
    """`...::type::name`, and of a provider also its id, → the name.

    The stack itself is the one of the first test of a process, whatever the others are called.
    """
    kind, name = urn.split("::")[2:4]
    return "<stack>" if kind == "pulumi:pulumi:Stack" else name
