"""The command itself: loads the file of the one verb that was asked for, and turns errors into exit codes."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence

import click

VERBS: dict[str, tuple[str, str]] = {
    # Each verb's own help says the rest; the order is the order of use.
    "init": ("control_plane.cli.init", "Start an inventory in an empty folder."),
    "validate": ("control_plane.cli.validate", "Check the inventory: all findings at once."),
    "observe": ("control_plane.cli.observe", "Look at devices once and remember what they say."),
    "plan": ("control_plane.cli.plan", "Show what would be done to the hardware, effect first."),
    "apply": ("control_plane.cli.apply", "Accept the inventory and converge the site to it."),
    "run": ("control_plane.cli.run", "Keep a site converged until stopped."),
    "status": ("control_plane.cli.status", "Show where a site stands."),
    "get": ("control_plane.cli.get", "List devices, racks, feeds, holds, rollouts, events ..."),
    "explain": ("control_plane.cli.explain", "Say why one device is as it is, and what is next."),
    "trust": ("control_plane.cli.trust", "Pin the machines that answer as the declared assets."),
    "hold": ("control_plane.cli.hold", "Forbid writes below a node: somebody works there."),
    "release": ("control_plane.cli.release", "End a hold, an override, a latch or an incident."),
    "rollout": ("control_plane.cli.rollout", "Show how far rollouts have come, device by device."),
    "posture": (
        "control_plane.cli.posture",
        "List whose password is its maker's, whose write API is open or closed.",
    ),
    "workorder": (
        "control_plane.cli.workorder",
        "Print what a person does where machines change their firmware family.",
    ),
    "bmc": ("control_plane.cli.bmc", "Look at the BMCs of GPU nodes and hosts, by Redfish."),
    "meter": (
        "control_plane.cli.meter",
        "List and read the power meters of a site, by Modbus TCP.",
    ),
    "remedy": (
        "control_plane.cli.remedy",
        "List GPU nodes that are not well; close tickets, approve, reset breakers.",
    ),
    "guard": (
        "control_plane.cli.guard",
        "Keep a site below its caps by its meters, with everybody else away.",
    ),
    "curtail": ("control_plane.cli.curtail", "Bring a site, or a feed of it, down to a power."),
    "resume": ("control_plane.cli.resume", "End a curtailment."),
    "freeze": ("control_plane.cli.freeze", "Suspend configuration writes below a node."),
    "simulate": ("control_plane.cli.simulate", "Serve a site's devices on loopback."),
    "render": ("control_plane.cli.render", "Print a site's objects for a cluster."),
    "controller": (
        "control_plane.cli.controller",
        "Serve a site from its cluster.",
    ),
    "node-agent": (
        "control_plane.cli.node_agent",
        "Keep the GPUs of this node at their cap and tell how they are.",
    ),
    "firmware": (
        "control_plane.cli.firmware",
        "Put firmware images into the catalogue and hold the store against it.",
    ),
    "firmware-job": (
        "control_plane.cli.firmware_job",
        "Look at a firmware Job's machines (its pods run this).",
    ),
    "backup": ("control_plane.cli.backup", "Write what must not be lost of a site to a file."),
    "restore": ("control_plane.cli.restore", "Begin a site anew from a backup; it is held."),
    "chart": ("control_plane.cli.chart", "Compare what we know of a Helm chart with the chart."),
    "lab": ("control_plane.cli.lab", "Run a real Kubernetes on this machine."),
    "demo": ("control_plane.cli.demo", "Converge a simulated 50 MW site and prove it."),
    "completion": ("control_plane.cli.completion", "Print the completion script of a shell."),
    "version": ("control_plane.cli.version", "Print the versions."),
}


class _Verbs(click.Group):
    """Knows the names and one-line helps of all verbs without importing any of them."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = VERBS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry[0]), "command", None)
        assert isinstance(command, click.Command)  # noqa: S101 - each verb's file has one
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in VERBS:
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else " See 'gridplane --help'."
            ctx.fail(f"There is no verb '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])


@click.command(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="A first look, with nothing but this machine:  gridplane demo",
)
def root() -> None:
    """Declare sites, feeds, racks, miners and GPU nodes in Git; converge the hardware to it.

    \b
    gridplane validate                      check ./inventory
    gridplane plan --site ga-macon          what would happen, in megawatts and exahash
    gridplane apply --site ga-macon         do it, wave by wave
    gridplane explain m-000253              why is this machine as it is?
    """


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Without the garbage collector, until a verb says that it lives on (`workplace.keep_what_is`).

    A fleet is millions of values that stay; walking them again and again takes a third of a plan's time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the console script's entry. SIGTERM ends a verb as Ctrl-C does.

    Returns:
        The exit code (see `control_plane.cli.exits`).
    """
    with _ended_by(signal.SIGTERM), uncollected():
        return _main(arguments)


@contextlib.contextmanager
def _ended_by(number: signal.Signals) -> Iterator[None]:
    try:
        before = signal.signal(number, signal.default_int_handler)
    except ValueError:
        # Only the main thread hears signals.
        yield
        return
    try:
        yield
    finally:
        signal.signal(number, before)


def _main(arguments: Sequence[str] | None) -> int:
    try:
        result = root.main(
            args=list(arguments) if arguments is not None else None,
            prog_name="gridplane",
            standalone_mode=False,
        )
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return getattr(error, "code", error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last line of defence against a traceback
        from control_plane.cli.exits import report

        return report(error)
    return result if isinstance(result, int) else 0
