"""Entries of a BibTeX file: read from the package's own file, shown as sentences, written again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent / "references.bib"
NAMED = 7  # of more authors the first is named
BEGIN = re.compile(r"@(?P<kind>[a-z]+)\{(?P<key>[A-Za-z0-9]+),")
FIELD = re.compile(r"  (?P<name>[A-Za-z]+) = \{(?P<value>.*)\},")
# Letters with marks, as the file writes them.
LETTERS = {r"{\'e}": "é", r"{\`e}": "è", r"{\^o}": "ô"}
WHERE = ("booktitle", "journal", "publisher", "howpublished")


@dataclass(frozen=True)
class Entry:
    """One publication: its kind, the key it is cited by, and its fields in LaTeX's writing."""

    kind: str
    key: str
    fields: Mapping[str, str]

    @property
    def text(self) -> str:
        """The entry as BibTeX."""
        lines = "".join(f"  {name} = {{{value}}},\n" for name, value in self.fields.items())
        return f"@{self.kind}{{{self.key},\n{lines}}}\n"

    @property
    def sentence(self) -> str:
        """The entry in words: authors and year, title, where, arXiv number."""
        year = self.fields.get("year")
        said = [" ".join(filter(None, (self._authors, year))), shown(self.fields["title"])]
        said += [shown(self.fields[name]) for name in WHERE if name in self.fields]
        if "volume" in self.fields:
            said[-1] += f" {self.fields['volume']}({self.fields['number']})"
        if "eprint" in self.fields:
            said.append(f"{self.fields['archivePrefix']}:{self.fields['eprint']}")
        if "note" in self.fields:
            said.append(shown(self.fields["note"]))
        return f"{', '.join(said)}."

    @property
    def _authors(self) -> str:
        """Family names; an author in braces is no person and stays whole."""
        names = [shown(one.partition(", ")[0]) for one in self.fields["author"].split(" and ")]
        if len(names) > NAMED:
            return f"{names[0]} et al."
        return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def read(text: str) -> dict[str, Entry]:
    """The entries of a file by their keys; ValueError for any line that is not as ours are.

    An entry begins with ``@kind{key,``, has a field on each line and ends with a brace alone.
    """
    found: dict[str, Entry] = {}
    entry: Entry | None = None
    for number, line in enumerate(text.splitlines(), 1):
        begin, field = BEGIN.fullmatch(line), FIELD.fullmatch(line)
        if entry is None and begin and begin["key"] not in found:
            entry = Entry(begin["kind"], begin["key"], {})
        elif entry is not None and field and field["name"] not in entry.fields:
            entry = Entry(entry.kind, entry.key, {**entry.fields, field["name"]: field["value"]})
        elif entry is not None and line == "}":
            found[entry.key], entry = entry, None
        elif line:
            raise ValueError(f"line {number} belongs to no entry: {line!r}")
    if entry is not None:
        raise ValueError(f"{entry.key} has no end")
    return found


def write(entries: Iterable[Entry]) -> str:
    """A file of these entries, in their order."""
    return "\n".join(entry.text for entry in entries)


def shown(value: str) -> str:
    r"""A field without LaTeX's marks.

    >>> shown(r"Tram{\`e}r: {APGD} in $l_1$, 1--2")
    'Tramèr: APGD in l1, 1-2'
    """
    for written, letter in LETTERS.items():
        value = value.replace(written, letter)
    return re.sub(r"[{}$_]", "", value).replace("--", "-")
