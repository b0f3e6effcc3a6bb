"""The Operation object of Yandex as a state diagram: SVG with attributes and classes only, as in charts.py.

It is drawn twice, for wide and for narrow pages. The stylesheet shows one of the drawings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

State = Literal["", "running", "response", "error"]

_TITLES: Final[Mapping[State, str]] = {
    "": "The states of the Operation",
    "running": "The Operation is running",
    "response": "The Operation is done, with a response",
    "error": "The Operation is done, with an error",
}
_TIP: Final = 7  # of an arrow, in its length
_LINE: Final = 18
_LONGEST: Final = 44  # characters of a box's line


class _Box(NamedTuple):
    """A state. ``shown`` is the state that the diagram marks it for; None for the call itself."""

    x: int
    y: int
    width: int
    height: int
    lines: tuple[str, ...]
    shown: State | None = None


class _Arrow(NamedTuple):
    points: tuple[tuple[int, int], ...]
    label: str = ""
    at: tuple[int, int] = (0, 0)


def state_of(operation: Mapping[str, Any]) -> State:
    """The state of an Operation of an answer."""
    if not operation.get("done"):
        return "running"
    return "error" if "error" in operation else "response"


def types_of(answer: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """The names of the messages in metadata and response if the answer's schema is an Operation."""
    properties = (answer or {}).get("properties", {})
    if not {"metadata", "response", "done"} <= properties.keys():
        return None
    return _name(properties["metadata"]), _name(properties["response"])


def operation_diagram(
    state: State = "", *, metadata: str = "metadata", response: str = "the resource", id: str = "operation"
) -> Markup:
    """The diagram with the state marked; with no state marked if it is empty."""
    of_metadata, of_response = f"metadata: {metadata}", f"response: {response}"
    failed = ("done: true", "error: google.rpc.Status")
    wide = (
        [
            _Box(1, 70, 70, 60, ("Call",)),
            _Box(111, 57, 330, 86, ("Operation", of_metadata, "done: false"), "running"),
            _Box(509, 1, 250, 66, ("done: true", of_response), "response"),
            _Box(509, 133, 250, 66, failed, "error"),
        ],
        [
            _Arrow(((71, 100), (111, 100))),
            _Arrow(((441, 85), (459, 85), (459, 34), (509, 34)), "works", (464, 28)),
            _Arrow(((441, 115), (459, 115), (459, 166), (509, 166)), "fails", (464, 160)),
        ],
    )
    narrow = (
        [
            _Box(120, 1, 100, 44, ("Call",)),
            _Box(21, 79, 298, 104, ("Operation", "metadata:", metadata, "done: false"), "running"),
            _Box(61, 213, 278, 66, ("done: true", of_response), "response"),
            _Box(61, 303, 278, 66, failed, "error"),
        ],
        [
            _Arrow(((170, 45), (170, 79))),
            _Arrow(((41, 183), (41, 246), (61, 246)), "works", (70, 206)),
            _Arrow(((31, 183), (31, 336), (61, 336)), "fails", (70, 296)),
        ],
    )
    return _drawing(*wide, state, id, "wide", 760, 200) + _drawing(*narrow, state, id, "narrow", 340, 370)


def _drawing(
    boxes: Sequence[_Box], arrows: Sequence[_Arrow], state: State, id: str, kind: str, width: int, height: int
) -> Markup:
    said = f"{_TITLES[state]}: {'; '.join(', '.join(box.lines) for box in boxes[1:])}"
    parts = [
        f'<svg class="chart diagram {kind}" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{id}-{kind}">',
        f'<title id="{id}-{kind}">{escape(said)}</title>',
    ]
    for arrow in arrows:
        (x, y), (before_x, _) = arrow.points[-1], arrow.points[-2]
        is_right = before_x != x
        ends = (*arrow.points[:-1], (x - _TIP, y) if is_right else (x, y - _TIP))
        line = " ".join(f"{at_x},{at_y}" for at_x, at_y in ends)
        tip = (
            f"{x},{y} {x - _TIP},{y - 4} {x - _TIP},{y + 4}"
            if is_right
            else f"{x},{y} {x - 4},{y - _TIP} {x + 4},{y - _TIP}"
        )
        parts.append(f'<polyline class="arrow" points="{line}"/><polygon class="tip" points="{tip}"/>')
        if arrow.label:
            parts.append(f'<text class="tick" x="{arrow.at[0]}" y="{arrow.at[1]}">{escape(arrow.label)}</text>')
    for box in boxes:
        is_now = box.shown == state
        parts.append(
            f'<rect class="state{" now" if is_now else ""}" x="{box.x}" y="{box.y}" '
            f'width="{box.width}" height="{box.height}" rx="8"/>'
        )
        top = box.y + (box.height - _LINE * len(box.lines)) / 2 + 13
        for number, text in enumerate(box.lines):
            words = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
            begin = f'<text class="{"name" if number == 0 else "line"}" x="{box.x + box.width / 2:.0f}"'
            parts.append(f'{begin} y="{top + _LINE * number:.0f}" text-anchor="middle">{escape(words)}</text>')
    return Markup("".join(parts) + "</svg>")  # noqa: S704 - every text in it is escaped


def _name(schema: Mapping[str, Any]) -> str:
    """The last part of the name of the message that an Any holds."""
    for each in schema.get("allOf", ()):
        if "$ref" in each:
            return str(each["$ref"]).rpartition("/")[2].rpartition(".")[2]
    return "google.protobuf.Empty"
