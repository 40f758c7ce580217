"""What a report cites: correct entries, of exactly what was run."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustcode.attacks import ATTACKS
from robustcode.components import LIBRARIES
from robustcode.defenses import DEFENSES
from robustcode.methods import METHODS
from robustcode.reports import references as cited
from robustcode.reports.bibtex import FILE, Entry, read, shown, write
from robustcode.reports.references import Reference, bibtex, references
from robustcode.reports.source import Source
from robustcode.reports.table import Row
from robustcode.store import Run

ROOT = Path(__file__).parents[2]
ENTRIES = read(FILE.read_text(encoding="utf-8"))
TABLES: dict[str, tuple[Iterable[str], Mapping[str, tuple[str, ...]]]] = {
    "attacks": (ATTACKS, cited.ATTACKS),
    "defenses": (DEFENSES, cited.DEFENSES),
    "methods": (METHODS, cited.METHODS),
}
REPORT = ["clopper1934use", "robustcode"]


def source(
    *attacks: str, defense: str = "identity", threat: str = "linf:0.1", **more: Any
) -> Source:
    """A run of these attacks as a report sees it; ``more`` goes into its summary."""
    listed = [{"name": name, "settings": {}} for name in attacks]
    summary = {"clean": {"accuracy": 1.0}, "attacks": listed, "threat": threat, **more}
    spec = {"command": "attack", "defense": defense}
    manifest = {"versions": {"robustcode": "0.1.0"}}
    return Source("run", Run(Path(), spec, manifest, summary, []), pd.DataFrame())


def proved(method: str, **settings: Any) -> Source:
    """A run of certificates."""
    spec = {"command": "certify", "defense": "identity", "method": {"name": method, **settings}}
    summary = {"clean": {"accuracy": 1.0}, "certified": {"method": method}}
    return Source("run", Run(Path(), spec, {}, summary, []), pd.DataFrame())


def keys(found: tuple[Reference, ...]) -> list[str]:
    return [reference.entry.key for reference in found]


@pytest.mark.parametrize("kind", TABLES)
def test_whatever_is_registered_has_a_reference_or_is_said_to_have_none(kind: str) -> None:
    registry, table = TABLES[kind]
    names = set(registry) - set(cited.OURS)
    assert names - set(table) == set(), "add it to reports/references.py"
    assert set(table) - names - set(LIBRARIES) == set(), "nothing is registered under that name"


def test_every_entry_is_cited_by_something_and_every_citation_has_its_entry() -> None:
    text = (ROOT / "reports" / "references.py").read_text()
    assert {key for key in ENTRIES if f'"{key}"' not in text} == set()
    for table in (*(table for _, table in TABLES.values()), cited.ESTIMATORS):
        assert {key for keys in table.values() for key in keys} <= set(ENTRIES)
    assert {*cited.TESTS.values(), *cited.NOISES.values()} <= set(ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=list(ENTRIES))
def test_an_entry_is_complete_and_its_parts_agree(entry: Entry) -> None:
    needed = {
        "inproceedings": {"booktitle", "year"},
        "article": {"journal", "year"},
        "book": {"publisher", "year"},
        "misc": set() if entry.key == "robustcode" else {"year"},
    }
    assert {"author", "title"} | needed[entry.kind] <= set(entry.fields)
    assert ("eprint" in entry.fields) == ("archivePrefix" in entry.fields)
    if entry.key == "robustcode":
        return
    year = int(entry.fields["year"])
    first = shown(entry.fields["author"].partition(",")[0]).replace("è", "e").lower()
    # Keys begin with the first author's name, and its first part where it has two.
    assert re.fullmatch(rf"{re.split('[- ]', first)[0]}{year}[a-z]+", entry.key)
    if number := entry.fields.get("eprint"):
        posted = re.fullmatch(r"(\d\d)(0[1-9]|1[0-2])\.\d{4,5}", number)
        assert posted, "a number of arXiv is of a year and a month"
        assert 0 <= year - 2000 - int(posted[1]) <= 2, "published in the years after it was posted"


def test_the_numbers_are_those_that_the_sources_name() -> None:
    """Two writings of one number: what stands beside the code, and what is cited."""
    places = [ROOT / "attacks", ROOT / "defenses", ROOT / "robustcode"]
    texts = [path.read_text() for place in places for path in place.rglob("*.py")]
    named = {number for text in texts for number in re.findall(r"\b(\d{4}\.\d{4,5})(?!\d)", text)}
    # Of this one the sources name the title and its code.
    named.add(ENTRIES["yang2020randomized"].fields["eprint"])
    assert {e.fields["eprint"] for e in ENTRIES.values() if "eprint" in e.fields} <= named


def test_an_independent_reader_finds_the_same_entries() -> None:
    bibtexparser = pytest.importorskip("bibtexparser", reason="bibtexparser is not installed")
    library = bibtexparser.parse_string(FILE.read_text(encoding="utf-8"))
    assert not library.failed_blocks
    found = {
        entry.key: Entry(entry.entry_type, entry.key, {f.key: f.value for f in entry.fields})
        for entry in library.entries
    }
    assert found == ENTRIES


def test_bibtex_and_latex_set_every_entry(tmp_path: Path) -> None:
    if not (shutil.which("bibtex") and shutil.which("pdflatex")):
        pytest.skip("bibtex and pdflatex are not installed")
    shutil.copy(FILE, tmp_path / "references.bib")
    (tmp_path / "a.tex").write_text(
        "\\documentclass{article}\\usepackage[utf8]{inputenc}\\begin{document}\\nocite{*}"
        "\\bibliographystyle{plain}\\bibliography{references}\\end{document}"
    )

    def call(*words: str) -> str:
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout
        return done.stdout

    call("pdflatex", "-interaction=nonstopmode", "-draftmode", "a")
    # A number without a volume, or a year that is missing, would be a warning.
    assert "arning" not in call("bibtex", "a")
    set_entries = re.findall(r"\\bibitem\{(\w+)\}", (tmp_path / "a.bbl").read_text())
    assert sorted(set_entries) == sorted(ENTRIES)
    call("pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a")
    assert (tmp_path / "a.pdf").exists()


def test_what_is_written_reads_back_the_same() -> None:
    assert write(ENTRIES.values()) == FILE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "line",
    ["@misc{a,\n  title = {x}\n}", "@misc{a,\n  x = {1},", "stray", "@misc{a,\n}\n@misc{a,\n}"],
    ids=["no comma", "no end", "outside", "twice"],
)
def test_a_file_that_is_not_as_ours_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"belongs to no entry|has no end"):
        read(line)


def test_sentences_read_as_sentences() -> None:
    said = ENTRIES["tramer2019adversarial"].sentence
    assert said == (
        "Tramèr and Boneh 2019, Adversarial training and robustness for multiple perturbations, "
        "Advances in Neural Information Processing Systems, arXiv:1904.13000."
    )
    assert ENTRIES["gowal2018effectiveness"].sentence.startswith("Gowal et al. 2018, On the")
    assert ENTRIES["holm1979simple"].sentence.endswith("Scandinavian Journal of Statistics 6(2).")
    for entry in ENTRIES.values():
        assert not set("{}\\$") & set(entry.sentence)


@pytest.mark.parametrize("name", sorted(set(ATTACKS) | {f"{lib}:X" for lib in LIBRARIES}))
def test_an_attack_that_was_run_is_cited_and_no_other(name: str) -> None:
    expected = cited.ATTACKS[name.partition(":")[0]]
    assert keys(references([source(name)])) == [*expected, *REPORT]
    # Planned twice, it has its settings in its name.
    assert keys(references([source(f"{name}:steps=3", name)])) == [*expected, *REPORT]


@pytest.mark.parametrize("name", sorted(DEFENSES))
def test_a_defence_is_cited_and_no_other(name: str) -> None:
    around = ["athalye2018obfuscated"] if name in cited.SURROGATE else []
    found = keys(references([source("noise", defense=f"{name}:x=1")]))
    own = cited.DEFENSES.get(name, ())
    assert found == ["carlini2019evaluating", *own, *around, *REPORT]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_proof_is_cited_and_no_other(name: str) -> None:
    assert keys(references([proved(name)])) == [*cited.METHODS[name], *REPORT]


def test_settings_that_have_a_source_of_their_own_are_cited() -> None:
    in_l1 = keys(references([source("pgd", "apgd-ce", threat="l1:12")]))
    assert {"tramer2019adversarial", "croce2021mind"} <= set(in_l1)
    estimated = keys(references([proved("smoothing", noise="laplace", estimator="anytime")]))
    assert estimated[:3] == ["cohen2019certified", "teng2020certificates", "robbins1970statistical"]
    inner = source("mended")
    inner.attacks[0]["settings"]["attack"] = "apgd-dlr"
    found = references([inner])
    assert keys(found)[:2] == ["athalye2018obfuscated", "croce2020reliable"]
    assert found[1].uses == ("apgd-dlr",)


def test_statistics_are_cited_where_they_were_used() -> None:
    def row(test: str) -> Row:
        return Row(run="a", kind="difference", name="x", settings=test, p_value=0.1, p_holm=0.1)

    plain = source("pgd")
    random = source("pgd", stochastic={"draws": 50, "any_of": {"5": {}}})
    tests = {"mcnemar1947note", "lehmann2005testing", "holm1979simple"}
    assert not tests & set(keys(references([plain])))
    assert "athalye2018synthesizing" not in keys(references([plain]))
    assert {"athalye2018synthesizing", "korn1998confidence", "halmos1946theory"} <= set(
        keys(references([random]))
    )
    corrupted = [Row(run="a", kind="corruption", name="fog", calibration=0.1)]
    cites = {"hendrycks2019benchmarking", "guo2017calibration", "kumar2019verified"}
    assert cites <= set(keys(references([plain], corrupted)))
    assert not cites & set(keys(references([plain])))
    exact = keys(references([plain, plain], [row("exact McNemar")]))
    assert set(exact) & tests == {"mcnemar1947note", "holm1979simple"}
    inverted = keys(references([plain, random], [row("inverted interval")]))
    assert set(inverted) & tests == {"lehmann2005testing", "holm1979simple"}


def test_a_publication_that_several_need_stands_once() -> None:
    found = references([source("pgd", "warm"), source("pgd", defense="smoothing")])
    assert len(keys(found)) == len(set(keys(found)))
    assert found[0].text.startswith("pgd, warm: Madry, Makelov, ")
    assert read(bibtex(found)) == {reference.entry.key: reference.entry for reference in found}


def test_names_from_outside_are_not_written_into_the_file() -> None:
    evil = "}@misc{x, \\write18{rm}"
    run = source(evil, "pgd", defense=evil)
    run.run.manifest["versions"]["robustcode"] = evil
    text = bibtex(references([run]))
    assert "write18" not in text
    assert list(read(text)) == ["madry2018towards", *REPORT]


def test_the_software_is_cited_in_the_versions_that_made_the_runs() -> None:
    older = source("pgd")
    older.run.manifest["versions"]["robustcode"] = "0.0.9"
    assert references([source("pgd"), older])[-1].text.endswith(", Versions 0.0.9 and 0.1.0.")


def test_the_entries_travel_with_the_package() -> None:
    package = importlib.import_module("robustcode.reports")
    assert Path(next(iter(package.__path__)), "references.bib").samefile(FILE)
    assert "references.bib" in (ROOT / "pyproject.toml").read_text()
