"""The pages of the checks: the index of all, and each by its code.

``python -m robustcode.checks.pages`` writes the index into the README of this folder.
"""

from __future__ import annotations

import re
from pathlib import Path

from robustcode.checks.base import Check
from robustcode.checks.catalogue import every
from robustcode.errors import UnknownNameError
from robustcode.registry import suggestion

README = Path(__file__).with_name("README.md")
# What stands between these lines of the README is written by this module.
BEGIN, END = "<!-- checks -->", "<!-- end of checks -->"
OURS = "ours"


def check_of(code: str) -> Check:
    """The check whose page tells of ``code``: its own, or one that it raises besides."""
    known = {name: check for check in every() for name in (*check.also, check.code)}
    if code in known:
        return known[code]
    raise UnknownNameError(
        f"no check has the code {code!r}.{suggestion(code, known)} `list checks` names them all."
    )


def told(code: str) -> list[str]:
    """The page of a check, in paragraphs."""
    check = check_of(code)
    page = check.page()
    besides = f"; its findings are also called {', '.join(check.also)}" if check.also else ""
    paragraphs = (
        f"{check.code}: {page.title}",
        f"It looks at {check.group}{besides}.",
        f"Raised when {page.raised}".replace("when ,", "when,"),
        f"Why it matters: {page.why}",
        f"What to do: {page.remedy}",
        f"False alarms: {page.false_alarms}",
        f"Source: {page.source or OURS}",
    )
    return [text.replace("``", "`") for text in paragraphs]


def index() -> str:
    """All checks as a table in Markdown: code, what it looks at, when it is raised, source."""
    lines = ["| code | looks at | raised when | source |", "| --- | --- | --- | --- |"]
    for check in every():
        page = check.page()
        codes = "<br>".join(f"`{code}`" for code in (check.code, *check.also))
        raised = _first_sentence(page.raised.removeprefix(", "))
        source = (page.source or OURS).removesuffix(".")
        cells = [text.replace("``", "`").replace("|", r"\|") for text in (raised, source)]
        lines.append(f"| {codes} | {check.group} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def readme(text: str) -> str:
    """``text`` with the index written anew between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{index()}\n{END}{after}"


def _first_sentence(text: str) -> str:
    """Up to the first full stop that a space follows; ``.2 %`` and ``e.g. this`` hold none."""
    return re.split(r"(?<=[\w)`%])(?<!e\.g)(?<!al)\.\s", text, maxsplit=1)[0].removesuffix(".")


if __name__ == "__main__":
    README.write_text(readme(README.read_text()))
