"""The text of a release in the catalogue: a new file, or images put into one that stands, as it is written.

Comments, order and form of what stands are its author's: text is put in, and what comes of it is read again
before anybody writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import yaml

from control_plane.core.errors import ControlPlaneError
from control_plane.inventory.problems import Problems
from control_plane.inventory.text import read_yaml
from control_plane.inventory.yaml12 import TooLong, resolve

Entry = Mapping[str, object]
"""One image, by key, in the order in which it is written."""


class NotExtended(ControlPlaneError):
    """The file is written in a form that nothing is put into safely; a person puts it in."""


def new_release(fields: Mapping[str, object], images: Sequence[Entry], *, schema: str) -> str:
    """A whole file.

    Args:
        fields: in the order in which they are written; images come after the device types.
        images: each of them.
        schema: where editors find the schema, from the file.
    """
    lines = [f"# yaml-language-server: $schema={schema}"]
    for key, value in fields.items():
        lines.append(f"{key}: {_value(value)}")
        if key == "device_types":
            lines.append("images:")
            for image in images:
                lines += _block(image, "  ")
    return "\n".join(lines) + "\n"


def with_images(path: str, text: str, images: Sequence[Entry]) -> str:
    """The text of a release with more images at the end of its list.

    Args:
        path: as it is named in what is said.
        text: a release that loads.
        images: what to put in.

    Raises:
        NotExtended: what came of it would not read as the release and these images.
    """
    ending = "\r\n" if "\r\n" in text else "\n"
    listed = _images_of(text)
    if listed is None:
        raise NotExtended(_by_hand(path, images))
    if listed.flow_style:
        at = listed.value[-1].end_mark.index
        more = "".join(f", {_flow(image)}" for image in images)
        made = text[:at] + more + text[at:]
    else:
        indent = " " * listed.start_mark.column
        lines = text.splitlines(keepends=True)
        last = min(_last_line(listed.value[-1]), len(lines) - 1)
        if not lines[last].endswith("\n"):
            lines[last] += ending
        put_in = [line + ending for image in images for line in _block(image, indent)]
        made = "".join([*lines[: last + 1], *put_in, *lines[last + 1 :]])
    if not _is_with(path, text, made, images):
        raise NotExtended(_by_hand(path, images))
    return made


def _images_of(text: str) -> yaml.SequenceNode | None:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return None
    for key, value in root.value:
        if key.value == "images" and isinstance(value, yaml.SequenceNode) and value.value:
            return value
    return None


def _last_line(node: yaml.Node) -> int:
    """0-based: a block ends where its last word does, whatever comments follow."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(node, yaml.MappingNode) else last
    return int(node.end_mark.line)


def _is_with(path: str, before: str, after: str, images: Sequence[Entry]) -> bool:
    one = read_yaml(path, before.encode(), Problems())
    other = read_yaml(path, after.encode(), Problems())
    if one is None or other is None:
        return False
    want = {**one.value, "images": [*one.value["images"], *(_plain(image) for image in images)]}
    return bool(other.value == want)


def _plain(image: Entry) -> dict[str, object]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in image.items()}


def _by_hand(path: str, images: Sequence[Entry]) -> str:
    lines = "\n".join(line for image in images for line in _block(image, "  "))
    return f"{path} is written in a form that nothing is put into; put it into `images`:\n{lines}"


def _block(image: Entry, indent: str) -> list[str]:
    pairs = [f"{key}: {_value(value)}" for key, value in image.items()]
    return [f"{indent}{'  ' if number else '- '}{pair}" for number, pair in enumerate(pairs)]


def _flow(image: Entry) -> str:
    return "{" + ", ".join(f"{key}: {_value(value)}" for key, value in image.items()) + "}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(_value(one) for one in value)}]"
    if isinstance(value, str) and not _is_plain(value):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _is_plain(text: str) -> bool:
    """Whether it reads as the same text without quotes: a digest may be all digits."""
    if not text.isascii() or not all(c.isalnum() or c in "._-/" for c in text):
        return False
    try:
        return bool(text) and text[0] != "-" and resolve(text) == text
    except TooLong:
        return False
