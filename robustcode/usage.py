"""Words that are not as a command takes them: what Typer says of them, in one sentence."""

from __future__ import annotations

from typing import Any

import typer

# What Typer raises for them. The module that it is in changed between Typer's versions; that
# `BadParameter` is one of it did not.
UsageError: Any = typer.BadParameter.__bases__[0]


def sentence_of(wrong: Any) -> str:
    """What is wrong, with which value, and where it is told how it should be."""
    said = " ".join(wrong.format_message().split()).rstrip(".")
    context = wrong.ctx
    command = f"robustcode {context.info_name}" if context and context.parent else "robustcode"
    needed = _needed(wrong)
    if len(needed) > 1:
        said += f" (it needs {', '.join(needed)})"
    if (value := _value(wrong)) is not None:
        said += f" (it was {value!r})"
    end = "" if said.endswith("?") else ";"
    return f"{said[:1].lower()}{said[1:]}{end} `{command} --help` says what there is"


def _needed(wrong: Any) -> list[str]:
    """All that a command cannot do without, where some of it was not given."""
    if type(wrong).__name__ != "MissingParameter" or not wrong.ctx:
        return []
    return [one.opts[0] for one in wrong.ctx.command.params if one.required]


def _value(wrong: Any) -> Any:
    """What stood there instead, where Typer does not say so itself; None if that is not known."""
    cause: Any = wrong.__cause__ or wrong.__context__
    return cause.errors()[0].get("input") if hasattr(cause, "errors") else None
