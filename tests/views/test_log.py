"""Log lines: one per thing, as JSON and as text, and never a secret."""

from __future__ import annotations

import json

from control_plane.core.secret import Secret
from control_plane.views.log import Form, LogWriter

NOON_S = 1_764_072_000.25


def said(form: Form, message: str, **more: object) -> str:
    lines: list[str] = []
    log = LogWriter(form, site="lab", write=lines.append, wall_s=lambda: NOON_S)
    log(message, **more)  # type: ignore[arg-type]
    [line] = lines
    return line


def test_a_json_line_has_when_how_bad_where_and_what() -> None:
    assert json.loads(said("json", "leads", kind="leader", fence=3)) == {
        "time": "2025-11-25T12:00:00.250Z",
        "level": "info",
        "site": "lab",
        "kind": "leader",
        "message": "leads",
        "fence": 3,
    }


def test_a_field_cannot_pose_as_one_of_the_lines_own() -> None:
    line = json.loads(said("json", "m", level="warning", site="elsewhere"))
    assert line["site"] == "lab"
    assert line["site_"] == "elsewhere"
    assert line["level"] == "warning"


def test_text_is_one_line_whatever_a_device_said() -> None:
    assert said("text", "it says\na\x1b[2Jb", kind="page", asset="m-1") == (
        "2025-11-25T12:00:00.250Z info    page: it says\\na\\u001b[2Jb asset=m-1"
    )


def test_a_secret_prints_as_stars() -> None:
    forms: tuple[Form, ...] = ("json", "text")
    for form in forms:
        line = said(form, "m", password=Secret("hunter2"))
        assert "hunter2" not in line
        assert "***" in line
