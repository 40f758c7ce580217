"""An SVG of matplotlib's made small: the same picture in about half of the bytes."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping

SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}href"
# Coordinates are kept to this part of a point: 1/7200 inch, less than a printer sets apart.
FINENESS = 100
# Letters are drawn in units of 1/64 of those of their font. Eight of them are 1/600 of a letter's
# height: under 1/60 of a point in a figure.
LETTER, COARSER = "scale(0.015625)", 8
UNDERSTOOD = re.compile(r"[MLQCz\d\s.e-]*")
COMMAND = re.compile(r"([MLQCz])([^MLQCz]*)")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
PAINT = re.compile(r"(?<=url\(#)[^)]+")


def slim(svg: bytes) -> bytes:
    """The picture without metadata, comments, and names that nothing refers to.

    What is not known here, e.g. an image of pixels, stays as it is.
    """
    root = ET.fromstring(svg)
    used = dict.fromkeys(name for element in root.iter() for name in _references(element))
    short = {name: f"i{number}" for number, name in enumerate(used)}
    _unpack(root, short)
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        element.text, element.tail = (element.text or "").strip(), ""
        if UNDERSTOOD.fullmatch(element.get("d", "A")):
            _redraw(element)
        attributes = sorted(element.items())
        element.attrib.clear()
        for name, value in attributes:
            # SVG 2 needs no other namespace for a reference.
            name = "href" if name == XLINK else name
            element.set(name, _attribute(name, value, short))
    root.set("xmlns", SVG[1:-1])
    return ET.tostring(root)


def _references(element: ET.Element) -> list[str]:
    """The ids that an element refers to, by a link or as its paint."""
    painted = [name for value in element.attrib.values() for name in PAINT.findall(value)]
    link = element.get(XLINK, "")
    return [*painted, link[1:]] if link.startswith("#") else painted


def _unpack(element: ET.Element, short: Mapping[str, str]) -> None:
    """Drop metadata, ids without use, and groups that then group for no reason."""
    for child in element:
        if child.get("id") not in short:
            child.attrib.pop("id", None)
        _unpack(child, short)
    element[:] = list(_kept(element))


def _kept(element: ET.Element) -> Iterator[ET.Element]:
    for child in element:
        if child.tag == f"{SVG}g" and not child.attrib:
            yield from child
        elif child.tag != f"{SVG}metadata":
            yield child


def _attribute(name: str, value: str, short: Mapping[str, str]) -> str:
    if name == "id":
        return short[value]
    if name == "href" and value.startswith("#"):
        return f"#{short[value[1:]]}"
    if name == "style":
        value = re.sub(r"\s*([:;])\s*", r"\1", value)
    elif name in ("x", "y", "transform"):
        value = NUMBER.sub(lambda number: f"{float(number[0]):.6g}", value)
    return PAINT.sub(lambda found: short[found[0]], value)


def _redraw(element: ET.Element) -> None:
    """Write a path as steps from point to point, and one of a letter in coarser units."""
    if element.get("transform") == LETTER:
        element.set("transform", f"scale({COARSER * 0.015625:g})")
        element.set("d", _steps(element.attrib["d"], 1 / COARSER))
    else:
        element.set("d", _steps(element.attrib["d"], FINENESS, FINENESS))


def _steps(path: str, scale: float, unit: int = 1) -> str:
    """A path in whole numbers of 1 / ``scale``, each step from the end of the one before.

    Rounded are the places and not the steps, so that no error adds up. The numbers that are
    written are the whole ones over ``unit``.
    """
    steps, x, y, start = [], 0, 0, (0, 0)
    for command, rest in COMMAND.findall(path):
        numbers = [round(scale * float(number)) for number in NUMBER.findall(rest)]
        places = list(zip(numbers[::2], numbers[1::2], strict=True))
        moved = (f"{_decimal(px - x, unit)} {_decimal(py - y, unit)}" for px, py in places)
        steps.append(command.lower() + " ".join(moved).replace(" -", "-"))
        x, y = places[-1] if places else start
        start = (x, y) if command == "M" else start
    return "".join(steps)


def _decimal(whole: int, unit: int) -> str:
    """The number ``whole / unit`` in the fewest marks; ``unit`` is 1 or FINENESS.

    >>> _decimal(-50, FINENESS), _decimal(1200, FINENESS), _decimal(12, 1)
    ('-.5', '12', '12')
    """
    if unit == 1:
        return str(whole)
    return f"{whole / unit:.2f}".rstrip("0").rstrip(".").replace("0.", ".", abs(whole) < unit)
