"""A run put into a model card that exists: its own part replaced, all else kept byte for byte.

The YAML at the head of a card is edited as text. A library that reads and writes it would drop the
comments of its author and quote it anew.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

from robustcode.errors import ConfigError
from robustcode.reports.gating.entry import Entry
from robustcode.reports.gating.gate import Verdict
from robustcode.reports.gating.model_card import card_of, section
from robustcode.reports.gating.model_index import index_head, model_head, result_lines, text_of
from robustcode.reports.source import sources
from robustcode.store import Run

FENCE = "---"
BOM = "\ufeff"
INDEX = re.compile(r"(?:model-index|\"model-index\"|'model-index')\s*:(?P<value>.*)")
RESULTS = re.compile(r"(?P<before>\s*(?:-\s+)?)results\s*:(?P<value>.*)")
NAME = re.compile(r"(?P<before>\s*(?:-\s+)?)name\s*:(?P<value>.*)")
OURS = re.compile(r"# robustcode [0-9a-f]+: end")
ITEM = re.compile(r"(?P<indent>\s*)-(?:\s|$)")
# A key at the margin, and neither a list nor a table between braces.
KEY = re.compile(r"[^\s\[\]{}%&*!|>@`#-][^\r\n]*:")
# What may stand behind a key whose value begins on the next line.
NOTHING = re.compile(r"\s*(?:#.*)?")
BY_HAND = "; put the lines there by hand that `robustcode report` writes to model_card.md"


def with_card(text: str, run: Run, url: str = "", verdict: Verdict | None = None) -> str:
    """The text of a card with this run in it; the same run a second time changes nothing.

    ``verdict`` is that of a gate. One that the run failed is told in the card, which would else go
    on claiming what the last run had shown. ConfigError if its head cannot be edited safely.
    """
    entry = Entry(sources([run])[0], url, verdict)
    if not text.lstrip(BOM).strip():
        return card_of(entry)
    mark, rest = (BOM, text[1:]) if text.startswith(BOM) else ("", text)
    lines = list(io.StringIO(rest, newline=""))
    end = lines[0][len(lines[0].rstrip("\r\n")) :] or "\n"
    opening, head, closing, body = _parted(lines, end)
    head = _with_results(head, entry, end)
    return "".join([mark, opening, *head, closing, *_with_section(body, entry, end)])


def _parted(lines: list[str], end: str) -> tuple[str, list[str], str, list[str]]:
    """Up to the head's first fence, its lines, its second fence, and what is below."""
    # The Hub reads a head that stands below empty lines, too.
    first = next(at for at, line in enumerate(lines) if line.strip())
    if lines[first].strip() != FENCE:
        return f"{FENCE}{end}", [], f"{FENCE}{end}{end}", lines
    last = next((at for at in range(first + 1, len(lines)) if lines[at].rstrip() == FENCE), None)
    if last is None:
        raise ConfigError(
            f"the card begins with {FENCE} and has no second line of it, where its head would end; "
            "mend it and repeat the command"
        )
    if any(lines[at].rstrip("\r\n") != lines[at].rstrip() for at in (first, last)):
        raise ConfigError(
            f"the card has blanks behind the {FENCE} around its head, where the Hub reads none; "
            "remove them and repeat the command"
        )
    head = lines[first + 1 : last]
    _refuse_other_forms(head)
    return "".join(lines[: first + 1]), head, lines[last], lines[last + 1 :]


def _refuse_other_forms(head: Sequence[str]) -> None:
    """ConfigError unless lines at the margin may be added to the head, and one model-index is."""
    keys = [line for line in head if not NOTHING.fullmatch(line.rstrip())]
    if keys and not KEY.match(keys[0]):
        raise ConfigError(f"the keys of the card's head do not begin at the margin{BY_HAND}")
    if sum(bool(INDEX.match(line)) for line in head) > 1:
        raise ConfigError("the card has two model-index; remove one and repeat the command")


def _with_results(head: list[str], entry: Entry, end: str) -> list[str]:
    """The head with the entry's results among those of its name; other names keep their own."""

    def made(indent: int) -> list[str]:
        return [f"{line}{end}" for line in result_lines(entry, indent)]

    region = _region(head, f"# robustcode {entry.key}: begin", f"# robustcode {entry.key}: end")
    if region:
        first = head[region.start]
        return _replaced(head, region, made(len(first) - len(first.lstrip())))
    place = next((at for at, line in enumerate(head) if INDEX.match(line)), None)
    if place is None:
        return [*head, *(f"{line}{end}" for line in index_head(entry)), *made(2)]
    models = _models(head, place)
    for model in models:
        if _named(head, model) == entry.name:
            at, indent = _results(head, model)
            return [*head[:at], *made(indent), *head[at:]]
    # The Hub would credit the model of a list of results with all that stands there.
    margin = _indent(head[models[0].start]) if models else 0
    at = models[-1].stop if models else place + 1
    named = [f"{' ' * margin}{line}{end}" for line in model_head(entry)]
    return [*head[:at], *named, *made(margin + 2), *head[at:]]


def _models(head: Sequence[str], place: int) -> list[range]:
    """The lines of each model in the model-index at ``place``, without what is said behind it."""
    found = INDEX.match(head[place])
    inside = place + 1
    while inside < len(head) and re.match(r"\s|-|#|$", head[inside]):
        inside += 1
    told = [at for at in range(place + 1, inside) if _tells(head[at])]
    alone = found is not None and NOTHING.fullmatch(found["value"].rstrip())
    if not alone or (told and not ITEM.match(head[told[0]])):
        raise ConfigError(f"the card's model-index is not a list of models below it{BY_HAND}")
    margin = _indent(head[told[0]]) if told else 0
    starts = [at for at in told if _indent(head[at]) == margin and ITEM.match(head[at])]
    ends = [*starts[1:], told[-1] + 1] if told else []
    return [range(start, stop) for start, stop in zip(starts, ends, strict=True)]


def _tells(line: str) -> bool:
    """Whether a line says something, or ends a part of this package."""
    return not NOTHING.fullmatch(line.rstrip()) or bool(OURS.fullmatch(line.strip()))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _keys(head: Sequence[str], model: range, key: re.Pattern[str]) -> list[int]:
    """The lines of a model that give it a key: not those of what is nested in it."""
    first = head[model.start]
    column = len(first) - len(first.lstrip().removeprefix("-").lstrip())
    lines = [(at, key.match(head[at])) for at in model]
    return [at for at, found in lines if found and len(found["before"]) == column]


def _named(head: Sequence[str], model: range) -> str | None:
    """The name of a model of the index; None if it has none."""
    keys = _keys(head, model, NAME)
    found = NAME.match(head[keys[0]]) if len(keys) == 1 else None
    return None if found is None else text_of(found["value"])


def _results(head: Sequence[str], model: range) -> tuple[int, int]:
    """Where the results of a model begin: line and indentation."""
    keys = _keys(head, model, RESULTS)
    key = RESULTS.match(head[keys[0]]) if len(keys) == 1 else None
    if key is None or not NOTHING.fullmatch(key["value"].rstrip()):
        raise ConfigError(
            "the results of the model of this name in the card's model-index are not a list of "
            f"lines below it{BY_HAND}"
        )
    below = [at for at in range(keys[0] + 1, model.stop) if _tells(head[at])]
    item = ITEM.match(head[below[0]]) if below else None
    least = len(key["before"])
    indent = len(item["indent"]) if item else 0
    # An item further left belongs to a list around this one, which is then empty.
    return keys[0] + 1, indent if item and indent >= least else least


def _with_section(body: list[str], entry: Entry, end: str) -> list[str]:
    made = [f"{line}{end}" for line in section(entry)]
    marks = (f"<!-- robustcode {entry.key}: {place} -->" for place in ("begin", "end"))
    region = _region(body, *marks)
    if region:
        return _replaced(body, region, made)
    above = list(body)
    if above and not above[-1].endswith(("\n", "\r")):
        above[-1] += end
    return [*above, end, *made]


def _region(lines: Sequence[str], begin: str, finish: str) -> range | None:
    """The lines from one mark to the other, both included; None if there is neither."""
    places = [[at for at, line in enumerate(lines) if line.strip() == m] for m in (begin, finish)]
    if places == [[], []]:
        return None
    if [len(found) for found in places] != [1, 1] or places[0][0] > places[1][0]:
        raise ConfigError(
            f"the card does not have one line {begin!r} and one {finish!r} below it; remove what "
            "is left of them and repeat the command"
        )
    return range(places[0][0], places[1][0] + 1)


def _replaced(lines: list[str], region: range, made: list[str]) -> list[str]:
    return [*lines[: region.start], *made, *lines[region.stop :]]


def put(run: Run, file: Path, url: str = "", verdict: Verdict | None = None) -> str:
    """The text of the card ``file`` with this run in it, a new card where there is no file."""
    try:
        text = file.read_bytes().decode() if file.exists() else ""
    except UnicodeDecodeError as cause:
        raise ConfigError(
            f"the model card {file} is no text in UTF-8 (byte {cause.start}); name another file"
        ) from cause
    except OSError as cause:
        raise ConfigError(
            f"the model card {file} cannot be read: {cause.strerror or cause}; name another file"
        ) from cause
    return with_card(text, run, url, verdict)
