"""Bytes → plain values, with line and column of every key and value. YAML 1.2 core, strictly.

libyaml does the scanning; the tree is built here from its events, so that depth, size and repetition
are capped while reading and nothing recurses. What cannot be read twice in two ways is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import yaml
from yaml._yaml import CParser  # libyaml's own parser; `yaml` exports it only inside loaders

from control_plane.core import limits
from control_plane.inventory import errors
from control_plane.inventory.problems import Problems
from control_plane.inventory.source import WHOLE_FILE, Source, Spot, quoted, spot_of, unprintable
from control_plane.inventory.yaml12 import Scalar, TooLong, resolve

Step = str | int
Value = Any  # what JSON can hold: scalars, lists, and mappings with text as keys

_Raw = tuple[int, int, int]
"""Line and column, 0-based, and span."""


class Document(Source):
    """One file of YAML: its value, and where each part of it stands."""

    __slots__ = ("_marks", "_root", "value")

    def __init__(self, path: str, text: str) -> None:
        super().__init__(path, text)
        self.value: Value = None
        self._root: _Raw = (0, 0, 1)
        self._marks: dict[int, dict[Step, tuple[_Raw, _Raw]]] = {}

    def spot(self, *steps: Step) -> Spot:
        """Where the value at a path stands; of a part that is not written, its nearest parent."""
        return self._find(steps, 1)

    def key(self, *steps: Step) -> Spot:
        """Where the key of the value at a path stands."""
        return self._find(steps, 0)

    def _find(self, steps: tuple[Step, ...], which: int) -> Spot:
        value, found = self.value, self._root
        for number, step in enumerate(steps, 1):
            pair = self._marks.get(id(value), {}).get(step)
            if pair is None:
                break
            found = pair[which if number == len(steps) else 1]
            value = value[step]
        return Spot(found[0] + 1, found[1] + 1, found[2])


def decode(path: str, data: bytes, max_bytes: int, problems: Problems) -> str | None:
    """The text of a file, or `None` and a finding."""
    if len(data) > max_bytes:
        what = f"{len(data):,} bytes; at most {max_bytes:,} are read"
        problems.add_file(errors.TOO_BIG, path, what)
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        what = f"byte 0x{data[error.start]:02x} at offset {error.start} is not UTF-8"
        problems.add(errors.NOT_UTF8, Source(path, before), spot_of(before, len(before)), what)
        return None
    bad = unprintable(text.replace("\r\n", " \n"))
    if bad:
        name = "a byte order mark" if bad.group() == "\ufeff" else "a character that nobody sees"
        source = Source(path, text)
        what = f"{name}, U+{ord(bad.group()):04X}"
        problems.add(errors.BAD_CHARACTER, source, spot_of(text, bad.start()), what)
        return None
    return text


def read_yaml(path: str, data: bytes, problems: Problems) -> Document | None:
    """The document of a file; `None` where its value cannot be told. Never raises."""
    text = decode(path, data, limits.YAML_MAX_BYTES, problems)
    if text is None:
        return None
    document = Document(path, text)
    reader = _Reader(document, problems)
    try:
        return document if reader.read() else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        spot = Spot(mark.line + 1, mark.column + 1) if mark else WHOLE_FILE
        what = ", ".join(part for part in (error.problem, error.context) if part)
        problems.add(errors.YAML_SYNTAX, document, spot, what)
    except yaml.YAMLError as error:
        problems.add(errors.YAML_SYNTAX, document, WHOLE_FILE, str(error).splitlines()[0])
    return None


class _Stop(Exception):
    """A cap was passed."""


_NOTHING: Final = object()


class _Reader:
    """Builds the value of one document from events, with a stack of its own."""

    def __init__(self, document: Document, problems: Problems) -> None:
        self._doc = document
        self._problems = problems
        self._marks = document._marks  # noqa: SLF001 - the reader fills what the document keeps
        self._anchors: dict[str, tuple[Value, int]] = {}
        self._aliases = 0
        self._nodes = 0
        self._documents = 0
        self._stack: list[tuple[Value, str | None, int]] = []
        self._target: Value = _NOTHING
        """The open collection."""
        self._places: dict[Step, tuple[_Raw, _Raw]] = {}
        """Where the parts of the open collection stand."""
        self._waiting: Value = _NOTHING
        """The open mapping's key that waits for its value; `None` for one that was refused."""
        self._waiting_at: _Raw = (0, 0, 1)
        self._dropped: list[Value] = []
        """Values of refused keys: kept, as `_marks` knows collections by their identity."""

    def read(self) -> bool:
        """Fill the document; false where there is no value to go on with."""
        try:
            self._events()
        except _Stop:
            return False
        if self._doc.value is None:
            what = "holds nothing" if not self._doc.text.strip() else "holds no value"
            self._problems.add(errors.EMPTY_FILE, self._doc, WHOLE_FILE, what)
            return False
        return True

    def _events(self) -> None:
        next_event: Callable[[], Any] = CParser(self._doc.text).get_event
        while True:
            event = next_event()
            kind = type(event)
            if kind is yaml.ScalarEvent:
                at = self._raw(event)
                value = self._scalar(event, at)
                if event.anchor is not None:
                    self._anchors[event.anchor] = (value, 1)
                self._put(value, at)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                self._open({} if kind is yaml.MappingStartEvent else [], event)
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                self._close()
            elif kind is yaml.AliasEvent:
                at = self._raw(event)
                self._put(self._alias(event, at), at)
            elif kind is yaml.DocumentStartEvent:
                self._begin(event)
            elif kind is yaml.StreamEndEvent:
                return

    def _begin(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            self._refuse(self._raw(event), "a second document")
            raise _Stop
        if event.version or event.tags:
            self._refuse(self._raw(event), "a directive")

    def _open(self, value: Value, event: Any) -> None:
        at = self._raw(event)
        if event.tag is not None:
            self._refuse(at, f"tag {quoted(event.tag)}")
        if len(self._stack) >= limits.YAML_MAX_DEPTH:
            self._stop(at, f"nested deeper than {limits.YAML_MAX_DEPTH} levels")
        if type(self._target) is dict and self._waiting is _NOTHING:
            self._refuse(at, "a key that is a list or a mapping")
            raise _Stop
        self._put(value, at)
        self._stack.append((value, event.anchor, self._nodes))
        self._target = value
        self._places = self._marks[id(value)] = {}

    def _close(self) -> None:
        closed, anchor, before = self._stack.pop()
        if anchor is not None:
            self._anchors[anchor] = (closed, self._nodes - before)
        self._target = self._stack[-1][0] if self._stack else _NOTHING
        self._places = self._marks[id(self._target)] if self._stack else {}

    def _put(self, value: Value, at: _Raw) -> None:
        """Set a value where the next one belongs."""
        self._nodes += 1
        if self._nodes > limits.YAML_MAX_NODES:
            self._stop(at, f"more than {limits.YAML_MAX_NODES:,} values, aliases expanded")
        target = self._target
        if target is _NOTHING:
            self._doc.value, self._doc._root = value, at  # noqa: SLF001 - as above
        elif type(target) is list:
            self._places[len(target)] = (at, at)
            target.append(value)
        elif self._waiting is _NOTHING:
            self._waiting, self._waiting_at = self._key(value, at), at
        else:
            if self._waiting is not None:
                target[self._waiting] = value
                self._places[self._waiting] = (self._waiting_at, at)
            else:
                self._dropped.append(value)
            self._waiting = _NOTHING

    @staticmethod
    def _raw(event: Any) -> _Raw:
        start, end = event.start_mark, event.end_mark
        span = end.column - start.column if end.line == start.line else 1
        return start.line, start.column, span if span > 0 else 1

    def _scalar(self, event: Any, at: _Raw) -> Scalar:
        text: str = event.value
        if event.tag is not None:
            self._refuse(at, f"tag {quoted(event.tag)}")
            return text
        if not event.implicit[0]:  # quoted, literal or folded: text
            if (text[-1:] == "\n" or unprintable(text)) and text:
                what = f"text {quoted(text)} ends in a line break or holds a control code"
                self._problems.add(errors.BAD_TEXT, self._doc, _spot(at), what)
            return text
        try:
            value = resolve(text)
        except TooLong:
            what = f"number of {len(text)} characters"
            self._problems.add(errors.BAD_NUMBER, self._doc, _spot(at), what)
            return None
        if type(value) is float and not math.isfinite(value):
            what = f"{quoted(text)} is no quantity"
            self._problems.add(errors.BAD_NUMBER, self._doc, _spot(at), what)
        return value

    def _key(self, value: Value, at: _Raw) -> str | None:
        """The key to set; `None` where its value is to be dropped."""
        if type(value) is not str:
            self._refuse(at, "a key that is not text", fix="put the key in quotes")
            return None
        if value == "<<":
            self._refuse(at, "a merge key", fix="write the keys out")
            return None
        if value in self._target:
            first = self._places[value][0][0] + 1
            what = f"key {quoted(value)} stands in line {first} already"
            self._problems.add(errors.DUPLICATE_KEY, self._doc, _spot(at), what)
            return None
        return value

    def _alias(self, event: Any, at: _Raw) -> Value:
        self._aliases += 1
        if self._aliases > limits.YAML_MAX_ALIASES:
            self._stop(at, f"more than {limits.YAML_MAX_ALIASES} aliases")
        if event.anchor not in self._anchors:
            what = f"alias {quoted(event.anchor)} has no finished anchor before it"
            self._problems.add(errors.YAML_SYNTAX, self._doc, _spot(at), what)
            raise _Stop
        value, nodes = self._anchors[event.anchor]
        self._nodes += nodes
        return value

    def _refuse(self, at: _Raw, what: str, *, fix: str | None = None) -> None:
        sentence = f"{what}: a declaration has one reading"
        self._problems.add(errors.NOT_CORE, self._doc, _spot(at), sentence, fix=fix)

    def _stop(self, at: _Raw, what: str) -> None:
        self._problems.add(errors.TOO_BIG, self._doc, _spot(at), what)
        raise _Stop


def _spot(at: _Raw) -> Spot:
    return Spot(at[0] + 1, at[1] + 1, at[2])
