"""Write what is derived from code: JSON Schemas and the reference pages.

`--check` writes nothing, and fails where a file differs from what would be written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from control_plane.api.crd import definitions
from control_plane.api.schema import file_name, schema_of
from control_plane.api.v1alpha1 import DOCUMENTS, PLACEMENT_COLUMNS
from control_plane.core import limits, metrics
from control_plane.core.decision import PENDING, Reason
from control_plane.inventory import errors
from control_plane.views.explain import NEXT
from tools.cli_page import cli_page
from tools.drivers_page import drivers_page
from tools.gpu_page import gpu_page
from tools.meters_page import meters_page

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = "docs/reference/schema/v1alpha1"
CRDS = "manifests/crds"
MADE = "<!-- Made by `make generate`. Do not edit. -->\n"

CELLS = {
    "asset": "The machine's own id; empty or `<rack>-s<slot>` for a vacant slot.",
    "rack": "Id of a rack in `racks/*.yaml` with `placement: recorded`.",
    "slot": "1 … `slots` of the rack.",
    "serial": "As the machine tells it; may be empty.",
    "mac": "Six pairs of hexadecimal digits; needed on DHCP.",
    "type": "Device type, where it is not the rack's.",
    "bin_ths": "Hashrate bin as sold, TH/s; empty: the type's nominal.",
    "state": "`in_service`, `degraded`, `out_of_service`, `in_repair` or `vacant`.",
    "reason": "Why it is not in service.",
    "missing_boards": "Hash boards that are not there or dead.",
    "since": "Date of the record, `2026-01-31`.",
    "ticket": "Where the work on it is tracked.",
}


def files() -> Iterator[tuple[str, str]]:
    """Path → content of everything that is derived."""
    for _, kind in DOCUMENTS:
        yield f"{SCHEMAS}/{file_name(kind)}", json.dumps(schema_of(kind), indent=2) + "\n"
    for name, definition in definitions().items():
        text = yaml.dump(definition, Dumper=yaml.CSafeDumper, sort_keys=False, width=100)
        yield (
            f"{CRDS}/{name}",
            "# Made by `make generate` from control_plane/api/objects.py. Do not edit.\n" + text,
        )
    yield "docs/reference/schema.md", _schema_page()
    yield "docs/reference/errors.md", _errors_page()
    yield "docs/reference/limits.md", _limits_page()
    yield "docs/reference/metrics.md", _metrics_page()
    yield "docs/reference/cli.md", cli_page(MADE)
    yield "docs/reference/drivers.md", drivers_page(MADE)
    yield "docs/reference/gpu.md", gpu_page(MADE)
    yield "docs/reference/meters.md", meters_page(MADE)
    yield "docs/reference/reasons.md", _reasons_page()


# --- pages -----------------------------------------------------------------------------------


def _schema_page() -> str:
    parts = [
        "# Inventory files\n",
        MADE,
        (
            "Version `gridplane.dev/v1alpha1`. The path of a file decides what it is; a data file at any\n"
            "other path is an error. Each has a JSON Schema (2020-12) in `schema/v1alpha1/` for editors.\n"
        ),
    ]
    seen: set[str] = set()
    for path, kind in DOCUMENTS:
        schema = schema_of(kind)
        parts.append(f"## `{path}`\n")
        parts += _tables(kind.__name__, schema["$defs"], seen, top=True)
    parts.append("## `sites/*/placement/*.csv`\n")
    parts.append("Comma separated, UTF-8, these columns in this order, one row per slot:\n")
    rows = [f"| `{column}` | {CELLS[column]} |" for column in PLACEMENT_COLUMNS]
    parts.append("\n".join(["| column | meaning |", "| --- | --- |", *rows]) + "\n")
    return "\n".join(parts)


def _tables(
    name: str, defs: Mapping[str, Any], seen: set[str], *, top: bool = False
) -> Iterator[str]:
    """The table of one class, then those of the classes that it is made of."""
    if name in seen:
        return
    seen.add(name)
    schema = defs[name]
    if not top:
        yield f"### {name.removesuffix('Doc')}\n"
    yield f"{schema['description']}\n"
    rows, parts = [], []
    for key, field in schema["properties"].items():
        kind, part = _kind(field)
        default = field.get("default")
        need = (
            "required"
            if key in schema["required"]
            else ("" if default is None else f"`{json.dumps(default)}`")
        )
        rows.append(f"| `{key}` | {kind} | {need} | {_words(field)} |")
        if part:
            parts.append(part)
    yield "\n".join(["| key | value | default | |", "| --- | --- | --- | --- |", *rows]) + "\n"
    for part in parts:
        yield from _tables(part, defs, seen)


def _kind(field: Mapping[str, Any]) -> tuple[str, str | None]:
    """A type in words, and the class that it names."""
    if "$ref" in field:
        part = field["$ref"].rpartition("/")[2]
        return f"[{part.removesuffix('Doc')}](#{part.removesuffix('Doc').lower()})", part
    if "anyOf" in field:
        return _kind(next(one for one in field["anyOf"] if one.get("type") != "null"))
    if "enum" in field:
        return " \\| ".join(f"`{value}`" for value in field["enum"]), None
    match field.get("type"):
        case "array":
            kind, part = _kind(field["items"])
            return f"list of {kind}", part
        case "object":
            kind, part = _kind(field.get("additionalProperties", {}))
            return f"name → {kind}", part
        case "string":
            return "text", None
        case None:
            return "anything", None
        case other:
            low, high = field.get("minimum", field.get("exclusiveMinimum")), field.get("maximum")
            span = "" if low is None and high is None else f" {_span(field, low, high)}"
            return f"{other}{span}", None


def _span(field: Mapping[str, Any], low: float | None, high: float | None) -> str:
    above = "above " if "exclusiveMinimum" in field else ""
    if high is None:
        return f"{above or 'from '}{low:,g}" if low is not None else ""
    return f"{above}{low or 0:,g} … {high:,g}"


def _words(field: Mapping[str, Any]) -> str:
    inner: Mapping[str, Any] = next((o for o in field.get("anyOf", ()) if o.get("description")), {})
    text = field.get("description") or inner.get("description") or ""
    pattern = field.get("pattern")
    return text if text or not pattern else f"`{pattern}`".replace("|", "\\|")


def _errors_page() -> str:
    parts = [
        "# Findings\n",
        MADE,
        (
            "Every finding has a code that never changes its meaning. `gridplane validate` shows all of a\n"
            "tree at once, as `path:line:column: error[CODE] what`, with the line itself and a fix.\n"
        ),
        (
            "What a file means is only checked once it has the right shape: after correcting E01 and E02 a\n"
            "second look may find more.\n"
        ),
    ]
    for code in sorted(errors.REGISTER.values(), key=lambda one: one.code):
        warning = " (warning)" if code.severity == "warning" else ""
        parts.append(f"## {code.code}: {code.title}{warning}\n")
        parts.append(f"{code.why}\n")
        parts.append(f"```\n{code.bad}\n```\n")
        parts.append(f"Fix: {code.fix}.\n")
    return "\n".join(parts)


def _limits_page() -> str:
    rows = [
        f"| `{limit.name}` | {limit.value:,g} | {limit.unit} | {limit.source} |"
        for limit in limits.REGISTER
    ]
    head = ["| limit | value | unit | source |", "| --- | ---: | --- | --- |"]
    return "\n".join(
        [
            "# Limits\n",
            MADE,
            (
                "What a site may choose is in its declaration; these cannot be switched off. Sources\n"
                "such as `asic-devices §5`, `control S2` and `design §3` are the project's collected facts\n"
                "and its design, which are kept outside this repository.\n"
            ),
            *head,
            *rows,
            "",
        ]
    )


def _metrics_page() -> str:
    rows = [
        f"| `{one.name}` | {one.type} | {', '.join(f'`{name}`' for name in one.labels)} | {one.help} |"
        for one in metrics.REGISTER
    ]
    head = ["| metric | type | labels | |", "| --- | --- | --- | --- |"]
    return "\n".join(
        [
            "# Metrics\n",
            MADE,
            (
                "What `gridplane controller` serves at `/metrics`. Everything of ours has the label `site`\n"
                "too. What is about devices is told by the process that leads, and by no other; its\n"
                "counters begin anew with a tenure.\n"
            ),
            *head,
            *rows,
            "",
        ]
    )


def _reasons_page() -> str:
    rows = [
        f"| `{reason}` | {'yes' if reason in PENDING else ''} | {NEXT[reason].format(asset='DEVICE')} |"
        for reason in Reason
    ]
    return "\n".join(
        [
            "# Reasons\n",
            MADE,
            (
                "Why a device, or one of its fields, is left as it is. `plan` and `status` count devices by\n"
                "these words, `get devices --reason REASON` lists them, `explain DEVICE` says more.\n"
                "What passes by itself is shown as *Waiting*, everything else as *Exceptions*.\n"
            ),
            "| reason | passes by itself | next |",
            "| --- | --- | --- |",
            *rows,
            "",
        ]
    )


def main() -> int:
    """Write, or with `--check` compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail on a difference")
    check = parser.parse_args().check
    wanted = dict(files())
    derived = [*(ROOT / SCHEMAS).glob("*.json"), *(ROOT / CRDS).glob("*.yaml")]
    stale = sorted(
        name for name in (str(p.relative_to(ROOT)) for p in derived) if name not in wanted
    )
    for name, text in wanted.items():
        path = ROOT / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if check and stale:
        sys.stderr.write(f"differs from the code: {', '.join(stale)}\nrun: make generate\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
