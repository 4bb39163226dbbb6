"""Pane 3: the selected experiment's diff, unified or side by side; only the rows in sight are made."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from console.diff_context import STORED, recut
from console.diff_moves import DiffView, last_top
from console.diff_rows import Index, Place
from console.diffs import ODD, Diff, Row, parse, shown
from console.formats import fit, width_of
from console.highlight import Colours
from console.widgets import decision
from console.widgets.decision import decision_lines
from console.widgets.lines import Line, Scene, Span
from console.word_changes import Ranges, word_changes

TWO_NUMBERS, ONE_NUMBER = 72, 44  # columns of the pane from which lines are numbered
STICKY_ROWS = 4  # rows of the pane from which the file's name stays on top


def inputs(scene: Scene) -> tuple[object, ...]:
    detail = scene.state.detail
    return (scene.number, detail and detail.diff, detail and detail.row.revision, scene.view.diff,
            scene.view.focus, scene.coloured, *decision.inputs(scene))  # fmt: skip


def title(scene: Scene) -> tuple[Span, ...]:
    detail = scene.state.detail
    if detail is None or detail.row.number != scene.number or not detail.diff:
        return ()
    row = detail.row
    return ((f"#{row.number} ", "dim"), (f"+{row.added}", "good"), (" ", ""), (f"-{row.removed}", "bad"))


def body(scene: Scene, width: int, height: int) -> list[Line]:
    detail = scene.state.detail
    if scene.number is None:
        return [Line((("the changed lines of the selected experiment", "faint"),))]
    if detail is None or detail.row.number != scene.number:
        return [Line((("reading ...", "faint"),))]
    lines = decision_lines(scene, width)
    if not any(detail.diff):
        told = "not written yet" if detail.row.state == "drafting" else "this experiment changed no line"
        return [*lines, Line(((told, "faint"),))]
    return [*lines, *_Painting(scene, detail.diff, width, height - len(lines)).lines()]


def showing(scene: Scene, width: int, height: int) -> tuple[Index, int] | None:
    """The diff as it is laid out in a body of this size, and the rows that it has; None without a diff."""
    detail = scene.state.detail
    if detail is None or detail.row.number != scene.number or not any(detail.diff):
        return None
    return index_of(detail.diff, scene.view.diff, width), height - len(decision_lines(scene, width))


def uncoloured(scene: Scene) -> tuple[Diff, int] | None:
    """The files whose code could have colours, and the hunk on top; None without a diff."""
    detail = scene.state.detail
    if detail is None or detail.row.number != scene.number or not any(detail.diff):
        return None
    files, view = files_of(detail.diff), scene.view.diff
    # counted in the stored hunks: other cuts have about as many
    return files, 0 if view.top == 0 else _index(detail.diff, STORED, False).hunk_at(view.top) - 1


# The last ones only: a diff of 20,000 lines takes megabytes. The tuple of lines stays the same while a diff does.
@lru_cache(maxsize=2)
def files_of(lines: tuple[str, ...]) -> Diff:
    return parse(lines)


@lru_cache(maxsize=3)
def _index(lines: tuple[str, ...], context: int, split: bool) -> Index:
    files = files_of(lines)
    return Index(files if context == STORED else recut(files, context), split)


def index_of(lines: tuple[str, ...], view: DiffView, width: int) -> Index:
    """The rows of ``lines`` looked at as ``view`` says in ``width`` columns."""
    return _index(lines, view.context, view.is_split(width))


class _Painting:
    """One paint of the pane: what every row of it needs to know."""

    def __init__(self, scene: Scene, lines: tuple[str, ...], width: int, rows: int) -> None:
        self._view, self._width, self._rows = scene.view.diff, width, rows
        self._index = index_of(lines, self._view, width)
        files = files_of(lines)
        # colours of another diff, or of this one before it was read again, would stand at the wrong words
        self._coloured = scene.coloured if scene.coloured is not None and scene.coloured.files is files else None
        self._digits = self._index.digits

    def lines(self) -> list[Line]:
        top = min(self._view.top, last_top(self._index, self._rows))
        places = self._index.window(top, self._rows)
        if not places:
            return []
        found = [self._line(place) for place in places]
        if places[0].kind != "file" and self._rows >= STICKY_ROWS:
            found[0] = self._file(places[0].file, self._index.hunk_at(min(top + 1, self._index.total - 1)))
        return found

    def _line(self, place: Place) -> Line:
        match place.kind:
            case "file":
                return self._file(place.file)
            case "fact":
                return Line(((fit(f"  {shown(place.text)}", self._width), "italic"),))
            case "hunk":
                return self._hunk(place)
        return self._pair(place) if self._index.split else self._unified(place)

    def _file(self, number: int, hunk: int = 0) -> Line:
        """``hunk``: how many of the whole diff have begun, told when the name has left its place."""
        file = self._index.diff[number]
        right: list[Span] = []
        if file.hunks:
            right = [(f" +{file.added}", "good"), (f" -{file.removed} ", "bad")]
        if hunk and self._width >= ONE_NUMBER:
            right.insert(0, (f" hunk {hunk} of {len(self._index.hunks)} ", "dim"))
        room = self._width - sum(width_of(text) for text, _ in right)
        if room < 8:
            right, room = [], self._width
        return Line((("▍", "accent"), (_left_cut(shown(file.path), room - 1), "strong"), *right), "bar")

    def _hunk(self, place: Place) -> Line:
        hunk = self._index.diff[place.file].hunks[place.hunk]
        head = f"{hunk.head} "
        heading = fit(shown(hunk.heading), max(0, self._width - len(head)))
        return Line(((fit(head, self._width) if not heading else head, "faint"), (heading, "hunk")))

    # --- rows ---

    def _unified(self, place: Place) -> Line:
        row = place.old or place.new
        assert row is not None
        numbers = 2 if self._width >= TWO_NUMBERS else 1 if self._width >= ONE_NUMBER else 0
        gutter = self._number(row.old) + self._number(row.new) if numbers == 2 else ""
        if numbers == 1:
            gutter = self._number(row.new or row.old)
        spans = self._code(place, row, place.other, self._width - len(gutter), "")
        return Line(((gutter, _NUMBER[row.sign]), *spans), _FILL[row.sign])

    def _pair(self, place: Place) -> Line:
        left = (self._width - 1) // 2
        right = self._width - 1 - left
        changed = place.old is not place.new
        return Line((
            *self._half(place, place.old, place.new if changed else None, left, True), ("│", "rule"),
            *self._half(place, place.new, place.old if changed else None, right, False),
        ))  # fmt: skip

    def _half(self, place: Place, row: Row | None, other: Row | None, width: int, left: bool) -> list[Span]:
        if row is None:
            return [(" " * width, "@quiet")]
        gutter = self._number(row.old if left else row.new)
        fill = _FILL[row.sign]
        ground = f"@{fill}" if fill else ""
        return [(gutter, _NUMBER[row.sign] + ground), *self._code(place, row, other, width - len(gutter), ground)]

    def _number(self, number: int | None) -> str:
        return f"{'' if number is None else number:>{self._digits}} "

    def _code(self, place: Place, row: Row, other: Row | None, width: int, ground: str) -> list[Span]:
        """The sign and the text in exactly ``width`` columns; ``other``: what it replaced or was replaced by."""
        if width <= 0:
            return []
        text = _text(row)
        changes: Ranges = ()
        if other is not None:
            before, after = (row, other) if row.sign == "-" else (other, row)
            changes = word_changes(_text(before), _text(after))[0 if row.sign == "-" else 1]
        ends = "" if row.newline else "  (no newline at the end)" if width >= 50 else " \\"  # git's own sign
        ends = ends if len(ends) < width else ""
        colours = self._coloured.of(place.file, row) if self._coloured is not None else ()
        base = _BASE[row.sign]
        spans = styled(text, width - 1 - len(ends), base, ground, f"@{_FILL[row.sign]}_word", colours, changes)
        if ends:
            spans.append((ends, f"faint{ground}"))
        return [(row.sign if row.sign in "+-" else " ", _SIGN[row.sign] + ground), *spans]


_FILL = {" ": "", "+": "added", "-": "removed", "?": "quiet"}
_BASE = {" ": "dim", "+": "added", "-": "removed", "?": "warn"}
_NUMBER = {" ": "faint", "+": "dim", "-": "dim", "?": "faint"}
_SIGN = {" ": "", "+": "good", "-": "bad", "?": "warn"}


def _text(row: Row) -> str:
    """A carriage return at the end is told where the line changed: it may be all that did."""
    if not row.text.endswith("\r"):
        return shown(row.text)
    return shown(row.text[:-1]) + ("" if row.sign == " " else "\u240d")


def styled(
    text: str, width: int, base: str, ground: str, strong: str, colours: Colours, changes: Ranges
) -> list[Span]:
    """``text`` in exactly ``width`` columns, cut into spans.

    ``base`` names its style where no colour does, ``ground`` its background, ``strong`` that of ``changes``.
    Characters that cannot be seen and were named, and the mark of a line that goes on, are warnings.
    """
    if width <= 0:
        return []
    content = fit(text, width)
    cut = width_of(text) > width
    last = len(content) - 1 if cut else min(len(text), len(content))  # past what is left of the text
    plain = content.isascii() and "<U+" not in content
    odd = () if plain else tuple(found.span() for found in ODD.finditer(content, 0, last))
    marks = [end for end, _ in colours] + [n for pair in (*changes, *odd) for n in pair]
    points = sorted({0, last, *(min(last, n) for n in marks)})
    spans: list[Span] = []
    colour = 0
    for start, stop in pairwise(points):
        while colour < len(colours) and colours[colour][0] <= start:
            colour += 1
        name = colours[colour][1] if colour < len(colours) else ""
        if _within(odd, start):
            name = "warn"
        where = strong if _within(changes, start) else ground
        style = (name or base) + where
        if spans and spans[-1][1] == style:
            spans[-1] = (spans[-1][0] + content[start:stop], style)
        else:
            spans.append((content[start:stop], style))
    rest = content[last:]
    if rest:
        spans.append((rest, ("warn" if cut else base) + ground))
    return spans


def _within(ranges: Sequence[tuple[int, int]], at: int) -> bool:
    return any(start <= at < stop for start, stop in ranges)


def _left_cut(path: str, width: int) -> str:
    """A path's end says more than its begin."""
    if width_of(path) <= width:
        return fit(path, width)
    kept = path[max(0, len(path) - max(0, width - 1)) :]
    while width_of(kept) > max(0, width - 1):
        kept = kept[1:]
    return fit(f"…{kept}", width)
