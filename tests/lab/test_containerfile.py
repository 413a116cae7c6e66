"""Our Containerfile is carried out as a builder would, or refused with the line that is not understood."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.lab import containerfile, debian
from control_plane.lab.commands import CommandFailed, run
from control_plane.lab.containerfile import Bind, NotUnderstood, Recipe, Step
from tests.conftest import ROOT

BELOW = 'FROM docker.io/library/debian AS debian\nARG PACKAGES="one two"\nRUN apt-get install x\n'
SETTINGS = 'ENV A=1 B="two words"\nWORKDIR /data\nUSER 7:8\nENTRYPOINT ["thing", "--x"]\n'
SMALL = f"""
# A comment.
{BELOW}
FROM debian
RUN --mount=type=bind,source=dist/x,target=/x \\
    # also here
    one \\
    && two
RUN three
{SETTINGS}"""


def test_the_last_stage_is_what_is_carried_out() -> None:
    assert containerfile.read(SMALL) == Recipe(
        packages=("one", "two"),
        steps=(
            Step(command="one      && two", binds=(Bind(source="dist/x", target="/x"),)),
            Step(command="three", binds=()),
        ),
        environment={"A": "1", "B": "two words"},
        user="7:8",
        folder="/data",
        entrypoint=("thing", "--x"),
    )


def test_ours_runs_gridplane_as_nobody_special() -> None:
    recipe = containerfile.read((ROOT / "Containerfile").read_text())
    assert recipe.entrypoint == ("gridplane",)
    assert recipe.user == "65532:65532"
    assert "python3" in recipe.packages


@pytest.mark.parametrize(
    "line",
    [
        "COPY a b",
        "ADD https://example.com/x /x",
        "HEALTHCHECK CMD true",
        'RUN ["exec", "form"]',
        "RUN --mount=type=secret,id=x true",
        "RUN --network=host true",
        "run true",
    ],
)
def test_what_is_not_known_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(NotUnderstood) as refused:
        containerfile.read(SMALL.replace("RUN three", line))
    assert line in str(refused.value)


def test_a_step_after_a_setting_is_refused_for_a_builder_runs_it_under_that_setting() -> None:
    with pytest.raises(NotUnderstood, match="RUN late"):
        containerfile.read(SMALL.replace("WORKDIR", "RUN late\nWORKDIR"))


@pytest.mark.parametrize("part", ["ARG", "RUN three", "WORKDIR", "USER", "ENTRYPOINT"])
def test_another_shape_is_refused(part: str) -> None:
    text = f"{BELOW}FROM debian\nRUN three\n{SETTINGS}"
    without = [line for line in text.splitlines() if not line.startswith(part)]
    with pytest.raises(NotUnderstood, match="needs a stage"):
        containerfile.read("\n".join(without))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian tree of this module's own."""
    recipe = containerfile.read((ROOT / "Containerfile").read_text())
    place = tmp_path_factory.mktemp("containerfile") / "root"
    below = debian.tree(debian.Spec(name="gridplane", packages=recipe.packages))
    run("cp", "-a", "--reflink=auto", below, place)
    return place


def carry_out(command: str, root: Path, context: Path) -> None:
    bind = Bind(source="given", target="/given")
    (context / "given").mkdir(parents=True)
    (context / "given" / "word").write_text("of the context")
    recipe = Recipe(
        packages=("x",),
        steps=(Step(command=command, binds=(bind,)),),
        environment={},
        user="0",
        folder="/",
        entrypoint=("x",),
    )
    containerfile.carry_out(recipe, root, context, epoch_s=86_400)


@pytest.mark.root
def test_a_step_sees_its_folder_its_time_and_nothing_of_ours(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "1")
    carry_out("cp /given/word /word; env >/seen; umask >>/seen", root, tmp_path)
    assert (root / "word").read_text() == "of the context"
    seen = (root / "seen").read_text().splitlines()
    assert "SOURCE_DATE_EPOCH=86400" in seen
    assert "0022" in seen
    assert not any("SECRET_OF_OURS" in line for line in seen)
    assert not (root / "given").exists(), "it is no part of the image"


@pytest.mark.root
def test_a_step_has_no_network_and_cannot_write_to_what_it_is_given(
    root: Path, tmp_path: Path
) -> None:
    with pytest.raises(CommandFailed, match="Read-only file system"):
        carry_out("echo changed >/given/word", root, tmp_path / "again")
    with pytest.raises(CommandFailed, match="Network is unreachable"):
        carry_out(
            "python3 -c 'import socket; socket.create_connection((\"192.0.2.1\", 9), 5)'",
            root,
            tmp_path / "once-more",
        )


@pytest.mark.root
def test_a_step_that_fails_says_why_and_leaves_no_mount(root: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="went wrong here"):
        carry_out("echo went wrong here >&2; exit 3", root, tmp_path)
    assert not (root / "given").exists()
    assert str(root) not in Path("/proc/self/mountinfo").read_text()
