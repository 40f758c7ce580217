"""The samples of a page: each says of itself what its records say."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustcode import certificates
from robustcode.certificates import Certificate, status_of
from robustcode.certified import summarise_proofs
from robustcode.partial import Gap
from robustcode.records import Record, table_of, to_lines
from robustcode.reports.numbers.proofs import pairs_of
from robustcode.reports.sections.explorer import Explorer, embedded, explorer_of
from robustcode.reports.source import Source, sources
from robustcode.store import RunFolder, load_run, write_atomic
from robustcode.summary import summarise

SPEC = {
    "model": "digits_cnn",
    "data": "digits",
    "defense": {"name": "identity"},
    "adversary": {"name": "solo"},
}
ATTACKS = ("noise", "pgd:steps=50", "square")
EPS = 0.1


def record(sample: int, attack: str, prediction: int | None, **given: Any) -> Record:
    """A deterministic verdict on a sample of class 1, right as it is unless told otherwise."""
    right = prediction == 1
    settled = {"label": 1, "clean": 1, "clean_correct": True, "selected": attack == ATTACKS[0]}
    spent = {"distance": EPS, "forwards": 10, "backwards": 9, "seed": 0}
    none: dict[str, Any] = {"votes": None, "choosing": None, "clean_votes": None}
    own = {"sample": sample, "attack": attack, "prediction": prediction, "correct": right}
    return Record(**(none | settled | spent | own | given))


def written(folder: Path, name: str, lines: bytes, summary: dict[str, Any], **given: Any) -> Path:
    """A finished run folder of one shard, as the engine leaves it."""
    run = RunFolder(folder)
    with run.locked():
        run.open({}, given.pop("manifest", {}))
        run.write_spec({**SPEC, "threat": f"linf:{EPS}", **given})
        run.missing_shards(1)
        sha = write_atomic(folder / name, lines)
        run.list_shard(0, {"sha256": {name: sha}, "cost": COST})
        run.finish([], summary)
    return folder


COST = {"judge_forwards": 0, "seconds": 1.0, "cpu_seconds": 1.0, "peak_memory_mb": 1.0}


def attacked(
    folder: Path, records: Sequence[Record], draws: int | None = None, **given: Any
) -> Path:
    names = list(dict.fromkeys(one.attack for one in records))
    described = [{"name": name, "settings": {}, "control": False} for name in names]
    shards = [{"cost": {**COST, "attack_seconds": dict.fromkeys(names, 1.0)}}]
    summary = summarise(table_of(records), described, draws, shards)
    return written(folder, "records/shard-00000.jsonl", to_lines(records), summary, **given)


def proved(folder: Path, proofs: Sequence[Certificate]) -> Path:
    table = certificates.table_of(proofs)
    said = {"method": "crown", "subject": "identity", "threat": f"linf:{EPS}", "eps": EPS}
    summary = summarise_proofs(table, [{"cost": COST}], **said)
    lines = certificates.to_lines(proofs)
    name = "certificates/shard-00000.jsonl"
    return written(folder, name, lines, summary, command="certify", method="crown")


def read(*folders: Path) -> list[Source]:
    return sources([load_run(folder) for folder in folders])


def tables(*folders: Path) -> list[dict[str, Any]]:
    """The tables of a page's runs as its script reads them."""
    found = read(*folders)
    explorer = explorer_of(found, pairs_of(found))
    assert explorer is not None
    return list(json.loads(explorer.data)["runs"])


def column(table: dict[str, Any], *path: str | int) -> list[Any]:
    """A column with one value a sample again."""
    value: Any = table
    for step in path:
        value = value[step]
    return value if isinstance(value, list) else [value] * len(table["sample"])


def words(table: dict[str, Any], name: str = "verdict", among: str = "verdicts") -> list[str]:
    return [table[among][place] for place in column(table, name)]


def of_each(records: Iterable[Record]) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {}
    for one in records:
        found.setdefault(one.sample, []).append(one)
    return dict(sorted(found.items()))


def verdict_of(records: Sequence[Record]) -> str:
    """What came of a sample of a deterministic run, told from its records one after another."""
    if not records[0].clean_correct:
        return "wrong without attack"
    if any(one.finished and not one.correct for one in records):
        return "broken"
    if records[0].proved:
        return "proved"
    if not all(one.finished for one in records):
        return "unfinished"
    return "refused" if any(one.prediction is None for one in records) else "stood"


@pytest.fixture
def varied() -> list[Record]:
    """Samples on which attacks win, fail, are refused, are ended, and are not needed, by chance."""
    rng = np.random.default_rng(7)
    records = []
    for sample in rng.permutation(200).tolist():
        label = sample % 3
        clean = None if rng.random() < 0.05 else int(rng.choice([label] * 8 + [4, 5]))
        own = {"label": label, "clean": clean, "clean_correct": clean == label}
        is_proved = clean == label and rng.random() < 0.1
        ends = [is_proved or end for end in (rng.random(len(ATTACKS)) < 0.9).tolist()]
        taken = [None if n == 9 else label if n < 7 else 7 for n in rng.integers(10, size=3)]
        taken = [label] * 3 if is_proved else taken
        # Of a proposal a refusal is right, of a sample that is refused itself nothing is.
        right = [clean == label and one in (None, label) for one in taken]
        lost = [place for place in range(len(ATTACKS)) if ends[place] and not right[place]]
        for place, attack in enumerate(ATTACKS):
            records.append(
                record(
                    sample,
                    attack,
                    taken[place] if ends[place] else clean,
                    **own,
                    correct=right[place] if ends[place] else None,
                    finished=ends[place],
                    proved=is_proved,
                    selected=place == min(lost, default=2),
                    distance=float(rng.random()) * EPS,
                    forwards=int(rng.integers(10_000)),
                    carried=ATTACKS[0] if place and rng.random() < 0.2 else None,
                )
            )
    return records


def test_each_verdict_is_that_of_the_records(tmp_path: Path, varied: list[Record]) -> None:
    (table,) = tables(attacked(tmp_path / "run", varied))
    expected = {sample: verdict_of(own) for sample, own in of_each(varied).items()}
    assert dict(zip(table["sample"], words(table), strict=True)) == expected
    assert len(set(expected.values())) == 6


def test_as_many_are_right_as_the_summary_says(tmp_path: Path, varied: list[Record]) -> None:
    (source,) = read(attacked(tmp_path / "run", varied))
    explorer = explorer_of([source])
    assert explorer is not None
    verdicts = words(explorer.runs[0])
    right = sum(verdicts.count(word) for word in ("proved", "stood", "refused"))
    assert right == source.run.summary["robust"]["correct"]
    assert verdicts.count("unfinished") == source.run.summary["robust"]["unfinished"]


def test_nothing_of_an_attack_is_lost_but_digits(tmp_path: Path, varied: list[Record]) -> None:
    (table,) = tables(attacked(tmp_path / "run", varied))
    by_sample = of_each(varied)
    for place, name in enumerate(table["attacks"]):
        own = [next(one for one in by_sample[n] if one.attack == name) for n in table["sample"]]
        assert column(table, "by", place, "prediction") == [one.prediction for one in own]
        assert column(table, "by", place, "forwards") == [one.forwards for one in own]
        assert column(table, "by", place, "made") == [
            2 if one.proved else 0 if one.finished else 1 for one in own
        ]
        distances = column(table, "by", place, "distance")
        assert distances == [float(f"{one.distance:.3e}") for one in own]
        carried = [None if n is None else ATTACKS[n] for n in column(table, "by", place, "carried")]
        assert carried == [one.carried for one in own]
        held = column(table, "by", place, "held")
        ended = [n for n, one in enumerate(own) if one.finished]
        assert [held[n] == 1 for n in ended] == [own[n].correct for n in ended]


def test_the_worst_attack_is_the_selected_one(tmp_path: Path, varied: list[Record]) -> None:
    """Of what was wrong to begin with there is none."""
    (table,) = tables(attacked(tmp_path / "run", varied))
    selected = {one.sample: one.attack for one in varied if one.selected and one.clean_correct}
    worst = [None if n is None else ATTACKS[n] for n in column(table, "worst")]
    assert worst == [selected.get(sample) for sample in table["sample"]]


def voted(sample: int, attack: str, right: int, **given: Any) -> Record:
    """A verdict of a random defence, by 10 draws of which ``right`` were."""
    votes, clean = (10 - right, right, 0), (1, 9, 0)
    shares = {"votes": votes, "choosing": right / 10, "clean_votes": clean, "clean_correct": 0.9}
    prediction = int(np.argmax(votes))
    return record(sample, attack, prediction, **shares, **{"correct": right / 10} | given)


def test_the_majority_decides_of_a_random_defence(tmp_path: Path) -> None:
    """On the selected proposal, although another attack leaves less of the sample."""
    records = [
        *(voted(0, "noise", 7, selected=True), voted(0, "pgd", 2, selected=False)),
        *(voted(1, "noise", 8, selected=False), voted(1, "pgd", 3, selected=True)),
        *(voted(2, "noise", 9, selected=False), voted(2, "pgd", 9, selected=False)),
    ]
    source = read(attacked(tmp_path / "run", records, draws=10))[0]
    explorer = explorer_of([source])
    assert explorer is not None
    (table,) = explorer.runs
    assert words(table) == ["stood", "broken", "stood"]
    assert column(table, "by", 1, "share") == [0.2, 0.3, 0.9]
    assert column(table, "share") == [0.9] * 3
    assert source.run.summary["stochastic"]["majority"]["correct"] == 2
    assert any("majority" in note for note in explorer.notes)


def proof(sample: int, radius: float, prediction: int | None = 1) -> Certificate:
    status = status_of(prediction, 1, radius, EPS)
    return Certificate(sample=sample, label=1, prediction=prediction, status=status, radius=radius)


def test_certificates_stand_beside_attacks(tmp_path: Path) -> None:
    records = [record(n, "pgd", 1 if n < 3 else 0, selected=True) for n in range(4)]
    proofs = [proof(0, 0.25), proof(1, 0.05), proof(3, 0.0)]
    table, proved_table = tables(
        attacked(tmp_path / "attacked", records), proved(tmp_path / "proved", proofs)
    )
    assert words(table) == ["proved", "stood", "stood", "broken"]
    states = [None if n is None else table["states"][n] for n in column(table, "bracket")]
    assert states == ["certified", "undecided", None, "broken"]
    assert column(table["proofs"][0] | {"sample": [0] * 4}, "radius") == [0.25, 0.05, None, 0]
    assert words(proved_table) == ["certified", "undecided", "undecided"]
    assert column(proved_table, "radius") == [0.25, 0.05, 0]


def test_a_run_of_certificates_says_what_they_say(tmp_path: Path) -> None:
    proofs = [proof(0, 0.25), proof(1, 0.05), proof(2, 0.3, 2), proof(3, 0.0, None)]
    (table,) = tables(proved(tmp_path / "proved", proofs))
    assert words(table) == [one.status for one in proofs]
    explorer = explorer_of(read(tmp_path / "proved"))
    assert explorer is not None
    # The draws of a proof are not those of a random defence's judge.
    assert not any("majority" in note for note in explorer.notes)
    assert column(table, "clean") == [1, 1, 2, None]


def test_no_name_ends_the_element_it_stands_in(tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script><!--\u2028&lt;\u202e"
    manifest = {"class_names": [hostile, "b"]}
    records = [record(0, hostile, 0, selected=True)]
    folder = attacked(tmp_path / "run", records, title=hostile, manifest=manifest)
    found = read(folder)
    explorer = explorer_of(found)
    assert explorer is not None
    page = f'<script type="application/json">{explorer.embedded}</script><p>'
    assert Elements(page).found == ["script", "p"]
    table = json.loads(Elements(page).text)["runs"][0]
    shown = "</script><script>alert(1)</script><!-- &lt;"
    assert [table["run"], *table["attacks"], table["classes"][0]] == [shown] * 3


class Elements(HTMLParser):
    """The elements that a browser sees, and the text of the first."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_escapes_are_those_of_json() -> None:
    text = json.dumps("<>&\u2028\u2029", ensure_ascii=False)
    assert not set("<>&\u2028\u2029") & set(str(embedded(text)))
    assert json.loads(embedded(text)) == json.loads(text)


def test_words_that_no_sample_needs_are_not_explained(tmp_path: Path) -> None:
    records = [record(n, "pgd", n, selected=True) for n in range(2)]
    explorer = explorer_of(read(attacked(tmp_path / "run", records)))
    assert explorer is not None
    explained = [(one.column, [word for word, _ in one.words]) for one in explorer.meanings]
    assert explained == [("Verdict", ["stood", "broken"])]


@pytest.mark.parametrize(("missing", "asked"), [(5, 7), (None, None), (0, 2)])
def test_what_is_missing_is_counted(missing: int | None, asked: int | None, tmp_path: Path) -> None:
    """Of a run that was read in part, as far as it is known what was asked for."""
    records = [record(n, "pgd", n, selected=True) for n in range(2)]
    run = load_run(attacked(tmp_path / "run", records))
    explorer = explorer_of(sources([replace(run, gap=Gap(missing, asked))]))
    assert explorer is not None
    assert explorer.runs[0]["missing"] == missing


def test_there_is_nothing_to_explore_without_samples() -> None:
    assert explorer_of([]) is None


def test_the_same_run_gives_the_same_bytes(tmp_path: Path, varied: list[Record]) -> None:
    folder = attacked(tmp_path / "run", varied)
    one, other = (explorer_of(read(folder)) for _ in range(2))
    assert isinstance(one, Explorer)
    assert isinstance(other, Explorer)
    assert one.data == other.data


def test_ten_thousand_samples_under_six_attacks_take_one_and_a_half_megabytes(
    tmp_path: Path,
) -> None:
    """A thousand take a tenth, where no column is short by being constant and numbers are long."""
    rng = np.random.default_rng(3)
    tried = [(sample, f"attack{n}") for sample in range(10_000, 11_000) for n in range(6)]
    taken, passes = rng.integers(10, size=6_000), rng.integers(1_000, 10_000, size=(2, 6_000))
    away = rng.random(6_000)
    records = [
        record(
            *(sample, name, int(taken[at])),
            selected=name == "attack0",
            distance=float(away[at]),
            forwards=int(passes[0, at]),
            backwards=int(passes[1, at]),
        )
        for at, (sample, name) in enumerate(tried)
    ]
    found = read(attacked(tmp_path / "run", records))
    begun = time.process_time()
    explorer = explorer_of(found)
    assert time.process_time() - begun < 0.5
    assert explorer is not None
    assert len(explorer.data.encode()) < 150_000
