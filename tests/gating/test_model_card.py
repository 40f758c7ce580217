"""A model card, read back by the library of the Hub that it is written for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import robustcode
from robustcode.errors import ConfigError
from robustcode.reports.gating.cards import put, with_card
from robustcode.reports.gating.entry import Entry
from robustcode.reports.gating.gate import FINDINGS, Condition, Verdict
from robustcode.reports.gating.model_card import model_card
from robustcode.reports.gating.model_index import scalar, yaml_lines
from robustcode.reports.grids import BOUND
from robustcode.reports.source import sources
from robustcode.store import Run

CARD = """---
license: mit  # as agreed
tags: [digits, "a: b"]
model-index:
- name: Mine
  results:
    # by hand
    - task: {type: image-classification}
      dataset: {type: digits, name: Digits}
      metrics:
        - {type: accuracy, value: 0.5}
library_name: pytorch
---
# Mine

---
Text.
"""
# A run of which the summary alone is told: its records would not fit to what is written there.
NO_SHARDS = {"expected": 0, "done": 0, "files": {}}
FINDING = {"code": "zero-gradient", "severity": "failure", "what": "none at all", "remedy": "look"}
HOSTILE = (
    "<script>alert(1)</script>",
    "<!-- robustcode 00000000: end -->",
    "---\n- !!python/object/apply:os.system [ls]",
    "*a &a !tag {x: [y]} | > % @ `",
    "![x](javascript:alert(1)) [l](http://x) <http://x>",
    "````\n```",
    '": "}',
    "\u2028\x85\ufeff\x00\x1b",
    "| a | b |\n| --- |",
)
TEXT = st.text(max_size=30) | st.sampled_from(HOSTILE)
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("card") / "run"
    found = robustcode.attack(
        "digits_cnn",
        "digits",
        "linf:0.1",
        out,
        attacks=["noise", "fgsm"],
        samples=16,
        progress=False,
    )
    return replace(found, findings=[])


@pytest.fixture(scope="module")
def proved(run: Run) -> Run:
    """A run of certificates with numbers of its own."""
    spec = {**run.spec, "command": "certify", "threat": "linf:0.05"}
    block = {"method": "crown", "threat": "linf:0.05", "subject": "identity", "samples": 16}
    block |= {"accuracy": 0.25, "low": 0.0727, "high": 0.5238, "correct": 4}
    own: dict[str, Any] = {"robust": None, "attacks": [], "certified": block, "threat": "linf:0.05"}
    summary, manifest = {**run.summary, **own}, {**run.manifest, "shards": NO_SHARDS}
    return replace(run, spec=spec, summary=summary, manifest=manifest)


def results_of(text: str) -> dict[str, Any]:
    """What the Hub's library reads from a card, an EvalResult by each kind of number."""
    card: Any = ModelCard(text)
    return {result.metric_type: result for result in card.data.eval_results}


def head_of(text: str) -> dict[str, Any]:
    return dict(yaml.safe_load(text.removeprefix("\ufeff").split("---")[1]))


def test_the_hub_reads_the_numbers_that_the_summary_has(run: Run) -> None:
    found = results_of(model_card(run, "https://example.org/report"))
    for kind, key in (("accuracy", "clean"), ("robust_accuracy", "robust")):
        block, result = run.summary[key], found[kind]
        assert result.metric_value == block["accuracy"]
        assert result.metric_args["low"] == block["low"]
        assert result.metric_args["high"] == block["high"]
        assert result.metric_args["samples"] == 16
        assert result.task_type == "image-classification"
        assert result.dataset_type == "digits"
        assert result.source_url == "https://example.org/report"
    assert (
        found["robust_accuracy"].metric_name
        == "Upper bound of the robust accuracy of digits_cnn under 1 attack in linf:0.1"
    )
    assert found["robust_accuracy"].metric_args["attacks"] == ["noise", "fgsm"]
    assert "bound" not in found["accuracy"].metric_args
    assert found["robust_accuracy"].metric_args["bound"] == "upper"
    assert f"- {BOUND}\n" in model_card(run)
    assert run.manifest["data_sha256"]["digits"] in str(found["accuracy"].dataset_args)


def test_what_is_proved_is_told_as_proved(proved: Run) -> None:
    found = results_of(model_card(proved))
    assert set(found) == {"accuracy", "certified_accuracy"}
    assert found["certified_accuracy"].metric_value == 0.25
    assert found["certified_accuracy"].metric_args["bound"] == "lower"
    name = "Certified accuracy of digits_cnn by crown in linf:0.05"
    assert found["certified_accuracy"].metric_name == name


def test_a_run_of_corruptions_tells_of_corruptions(tmp_path: Path) -> None:
    """And not, under the name of robustness, of its clean accuracy alone."""
    spoilt = robustcode.corrupt(
        *("digits_cnn", "digits", tmp_path / "run"),
        corruptions=["contrast", "frost"],
        severities=[1, 5],
        samples=20,
        progress=False,
    )
    text = model_card(spoilt)
    mean = spoilt.summary["corruption_means"]["all"]
    found = results_of(text)["corruption_accuracy"]
    assert found.metric_value == mean["accuracy"]
    assert found.metric_name == "Mean accuracy of digits_cnn under 2 common corruptions"
    assert found.metric_args["severities"] == [1, 5]
    assert found.metric_args["frost"] == "drawn"
    assert found.metric_args["nll"] == mean["nll"]
    page = MARKDOWN.render(text.partition("begin -->\n")[2])
    assert "Robustness of digits_cnn to common corruptions" in page
    cells = page.partition("mean of all corruptions")[2].partition("</tr>")[0]
    assert f">{100 * mean['accuracy']:.1f}<" in cells
    assert "frost is drawn" in page
    assert with_card(text, spoilt) == text


def test_no_number_is_told_without_what_weakens_it(run: Run) -> None:
    weak = replace(run, findings=[FINDING])
    text = model_card(weak)
    assert results_of(text)["robust_accuracy"].metric_args["findings"] == "1 failure"
    assert "Do not rely on these numbers" in text
    assert "- failure, zero-gradient: none at all. look." in text
    assert "Findings" not in model_card(run)


def test_the_section_holds_all_that_repeats_the_run(run: Run, tmp_path: Path) -> None:
    text = model_card(run)
    fence = text.partition("```toml\n")[2].partition("```")[0]
    assert fence == (run.path / "spec.toml").read_text()
    assert run.manifest["checkpoint_sha256"] in text


def test_a_path_of_one_machine_stays_there(run: Run) -> None:
    for data, name in (("cifar10:/home/me/cifar", "cifar10"), ("npz:/home/me/x.npz", "npz:x.npz")):
        elsewhere = replace(run, spec={**run.spec, "data": data}, summary={**run.summary})
        elsewhere.summary.pop("data", None)
        found = results_of(model_card(elsewhere))["accuracy"]
        assert found.dataset_name == name


def test_a_card_keeps_everything_but_its_own_part(run: Run) -> None:
    text = with_card(CARD, run)
    key = key_of(run)
    lines = text.splitlines(keepends=True)
    kept = without(without(lines, f"# robustcode {key}:"), f"<!-- robustcode {key}:")
    named = '- name: "digits_cnn"\n  results:\n'
    assert "".join(kept).replace(named, "") == CARD + "\n"
    head = head_of(text)
    assert {name: head[name] for name in ("license", "tags", "library_name")} == {
        "license": "mit",
        "tags": ["digits", "a: b"],
        "library_name": "pytorch",
    }
    values = {
        index["name"]: [result["metrics"][0]["value"] for result in index["results"]]
        for index in head["model-index"]
    }
    assert values == {"Mine": [0.5], "digits_cnn": [run.summary["clean"]["accuracy"]]}


def without(lines: list[str], mark: str) -> list[str]:
    places = [at for at, line in enumerate(lines) if line.strip().startswith(mark)]
    assert len(places) == 2
    return [*lines[: places[0]], *lines[places[1] + 1 :]]


CARDS = {
    "with results of its own": CARD,
    "empty": "",
    "without a head": "# Mine\n\nText without an end",
    "with a head below empty lines": "\n \n" + CARD,
    "with an empty head": "---\n---\nText.\n",
    "without a model-index": "---\nlicense: mit\n---\nText.\n",
    "with lines of Windows": CARD.replace("\n", "\r\n"),
    "with a byte order mark": "\ufeff" + CARD,
    "with results at the margin": "---\nmodel-index:\n- name: a\n  results: # none\n---\n",
    "with a list that is set in": (
        "---\nmodel-index: # 2\n  - results: []\n    name: a\n"
        "  # here\n  - name: b\n# x\nk: v\n---\n"
    ),
    "with an empty list of models": "---\nmodel-index:\nlicense: mit\n---\n",
    "with a model of that name": (
        "---\nmodel-index:\n  - name: digits_cnn # mine\n    results:\n      - task: {type: a}\n"
        "        dataset: {name: other}\n        metrics: []\n---\n"
    ),
    "with results as the first key": CARD.replace("- name: Mine\n  results:", "- results:").replace(
        "library", "x"
    ),
}


@pytest.mark.parametrize("name", CARDS)
def test_every_card_is_read_back_and_a_second_time_changes_nothing(
    name: str, run: Run, proved: Run
) -> None:
    once = with_card(CARDS[name], run)
    assert with_card(once, run) == once
    head = head_of(once)
    values = [
        metric["value"]
        for result in head["model-index"][-1]["results"]
        for metric in result["metrics"]
    ]
    assert head["model-index"][-1]["name"] == "digits_cnn"
    assert run.summary["robust"]["accuracy"] in values
    assert ("license: mit" in CARDS[name]) == (head.get("license") == "mit")
    both = with_card(once, proved)
    assert with_card(with_card(both, run), proved) == both
    *others, ours = head["model-index"]
    *kept, mine = head_of(both)["model-index"]
    assert (kept, len(mine["results"])) == (others, len(ours["results"]) + 1)
    if "Windows" in name:
        assert "\n" not in once.replace("\r\n", "")


def asked(run: Run, **changed: str) -> Run:
    """The run as if it had been asked for otherwise."""
    return replace(run, spec={**run.spec, **changed}, summary={**run.summary, **changed})


def key_of(run: Run) -> str:
    return Entry(sources([run])[0]).key


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({}, {"model": "digits_cnn:adversarial"}, False),
        ({}, {"defense": "gaussian-noise:sigma=0.1"}, False),
        ({}, {"data": "mnist"}, False),
        ({}, {"threat": "linf:0.2"}, False),
        ({}, {"adversary": "batch"}, False),
        ({"checkpoint": "w/plain.pt"}, {"checkpoint": "w/trained.pt"}, False),
        ({"model": "my/net.py:small"}, {"model": "my/net.py:large"}, False),
        ({"data": "npz:d/train.npz"}, {"data": "npz:d/test.npz"}, False),
        # A build that has its files elsewhere.
        ({"checkpoint": "/a/plain.pt"}, {"checkpoint": "C:\\b\\plain.pt"}, True),
        ({"model": "/a/net.py:small"}, {"model": "net.py:small"}, True),
        ({"data": "cifar10:/a"}, {"data": "cifar10:b"}, True),
    ],
)
def test_what_was_evaluated_stands_beside_what_else_was(
    one: dict[str, str], other: dict[str, str], same: bool, run: Run
) -> None:
    """Each with its results in the head and its section, and a rerun moves nothing else."""
    first, second = asked(run, **one), asked(run, **other)
    both = with_card(with_card(CARD, first), second)
    index = {model["name"]: model["results"] for model in head_of(both)["model-index"]}
    assert len(index["Mine"]) == 1
    assert sum(map(len, index.values())) == (2 if same else 3)
    for told in (first, second):
        name = Entry(sources([told])[0]).name
        assert all(name in result["metrics"][0]["name"] for result in index[name])
    later = replace(first, summary={**first.summary, "clean": {**run.summary["clean"], "low": 0.5}})
    again = with_card(both, later)
    changed = [line for line in again.splitlines() if line not in both.splitlines()]
    assert len(changed) >= 2
    mine, others = (f"robustcode {key_of(told)}:" for told in (first, second))
    assert both.count(others) == 4
    if not same:
        kept = [
            without(without(text.splitlines(keepends=True), f"# {mine}"), f"<!-- {mine}")
            for text in (both, again)
        ]
        assert kept[0] == kept[1]
        ours = [result for name, results in index.items() if name != "Mine" for result in results]
        names = {metric["name"] for result in ours for metric in result["metrics"][1:]}
        assert len(names) == 2 or "data" in other


def test_a_card_says_how_the_gate_ended(run: Run) -> None:
    """And does not go on claiming what an earlier run kept."""
    conditions = (
        Condition("minimum of clean accuracy", True, "this is kept"),
        Condition("minimum of worst-case accuracy", False, "*that* is lost"),
    )
    before = with_card(CARD, run, verdict=Verdict(run, conditions[:1]))
    assert "This run passes the gate, 1 of 1:\n\n- holds: this is kept\n" in before
    after = with_card(before, run, verdict=Verdict(run, conditions))
    assert "passes the gate" not in after
    assert "This run fails the gate, 1 of 2:" in after
    assert "- fails: \\*that\\* is lost\n" in after
    told = {kind: found.metric_args["gate"] for kind, found in results_of(after).items()}
    assert told == {"accuracy": "holds: this is kept", "robust_accuracy": "fails: *that* is lost"}
    assert "gate" not in results_of(before)["robust_accuracy"].metric_args
    weak = Condition(FINDINGS, False, "not to be relied on")
    told = {
        kind: found.metric_args["gate"]
        for kind, found in results_of(with_card("", run, verdict=Verdict(run, (weak,)))).items()
    }
    assert set(told.values()) == {"fails: not to be relied on"}
    assert with_card(after, run, verdict=Verdict(run, conditions[:1])) == before


def test_new_numbers_replace_the_old_ones(run: Run) -> None:
    """The same question, asked of other weights."""
    better = {**run.summary, "clean": {**run.summary["clean"], "accuracy": 0.96875}}
    later = replace(run, summary=better)
    assert with_card(with_card(CARD, run), later) == with_card(CARD, later)


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ("---\nlicense: mit\n", "no second line"),
        ("--- \nlicense: mit\n---\n", "blanks behind"),
        ("---\n  license: mit\n---\n", "not begin at the margin"),
        ("---\n{license: mit}\n---\n", "not begin at the margin"),
        ("---\nmodel-index:\n- results:\nmodel-index:\n- results:\n---\n", "two model-index"),
        ("---\nmodel-index: [{name: a, results: []}]\n---\n", "not a list of models"),
        ("---\nmodel-index:\n  name: a\n---\n", "not a list of models"),
        ("---\nmodel-index:\n- name: 'digits_cnn'\n  results: []\n---\n", "not a list of lines"),
        ("---\nmodel-index:\n- name: digits_cnn # x\n---\n", "not a list of lines"),
        ("---\na: b\n---\n<!-- robustcode KEY: begin -->\n", "remove what is left"),
    ],
)
def test_what_cannot_be_edited_safely_is_left_alone(
    card: str, said: str, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "README.md"
    file.write_text(card.replace("KEY", key_of(run)))
    with pytest.raises(ConfigError, match=said):
        put(run, file)


def test_a_card_that_is_no_text_is_refused(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_bytes(b"\xff\xfe---")
    with pytest.raises(ConfigError, match=r"is no text in UTF-8 \(byte 0\); name another file"):
        put(run, file)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(model=TEXT, data=TEXT, threat=TEXT, attack=TEXT, what=TEXT, severity=TEXT)
def test_no_text_breaks_out_of_its_place(
    run: Run, model: str, data: str, threat: str, attack: str, what: str, severity: str
) -> None:
    """The head reads back as what it was told, and nobody's markup is in the page."""
    finding = {"code": what, "severity": severity, "what": what, "remedy": what}
    noise, fgsm = run.summary["attacks"]
    attacks = [noise, {**fgsm, "name": attack, "settings": {attack: model}}]
    named = {"model": model, "data": data, "threat": threat}
    hostile = replace(
        run,
        findings=[finding],
        spec={**run.spec, **named},
        summary={**run.summary, **named, "attacks": attacks},
        manifest={**run.manifest, "versions": {model: data}},
    )
    # The records are of the attack by its name.
    vars(hostile)["records"] = run.records.replace({"attack": {"fgsm": attack}})
    text = with_card(CARD, hostile)
    assert with_card(text, hostile) == text
    head = head_of_fenced(text)
    assert head["model-index"][0]["name"] == "Mine"
    ours = head["model-index"][-1]["results"][0]
    assert set(head) == {"license", "tags", "model-index", "library_name"}
    assert set(ours) == {"task", "dataset", "metrics"}
    assert ours["metrics"][1]["value"] == run.summary["robust"]["accuracy"]
    section = text.partition("begin -->\n")[2].rpartition("<!-- robustcode")[0]
    page = MARKDOWN.render(section)
    for tag in ("<script", "<img", "<a ", "<!--", "<b>", "<hr"):
        assert tag not in page
    assert page.count("<h2>") == 1
    assert page.count("<table>") == 1
    assert page.count("<pre>") == 1


def head_of_fenced(text: str) -> dict[str, Any]:
    """The head as far as the Hub's own expression takes it, which must be as far as ours does."""
    found = REGEX_YAML_BLOCK.search(text)
    assert found is not None
    assert found[2] == text.partition("---\n")[2].partition("\n---\n")[0]
    return dict(yaml.safe_load(found[2]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["x", "y", "z"]), JSON, min_size=1))
def test_yaml_and_what_was_written_are_the_same(value: Mapping[str, Any]) -> None:
    assert yaml.safe_load("\n".join(yaml_lines(value))) == value


@settings(max_examples=100, deadline=None)
@given(TEXT)
def test_a_scalar_is_one_line_that_json_and_yaml_read_alike(text: str) -> None:
    line = scalar(text)
    assert len(line.splitlines()) == 1
    assert yaml.safe_load(line) == json.loads(line)
