"""`robustcode audit`: a rule's true error from the command line."""

import json

import pytest
from scipy.stats import norm

from robustcode.cli import app, call


def run(*words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("sys.argv", ["robustcode", "audit", *words])
    assert call(app) == 0
    return capsys.readouterr().out


def test_it_says_what_the_rule_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("fixed", "--sigma", "0.5", "--radius", "0.5", "--draws", "1000")
    said = run(*words, capsys=capsys, monkeypatch=monkeypatch)
    assert f"{norm.cdf(1):.6f}" in said
    assert "fixed holds" in said
    read = json.loads(run(*words, "--json", capsys=capsys, monkeypatch=monkeypatch))
    assert 0.5 < read["error"] / read["alpha"] <= 1
    assert read["outcome"] == "holds"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fixed"], "--probability P"),
        (["fixed", "--sigma", "0.5"], "--probability P"),
        (["fixed", "--sigma", "0", "--radius", "1"], "must be above 0"),
        (["fixed", "--probability", "0.7", "--sigma", "1", "--radius", "1"], "--probability P"),
        (["fixed", "--probability", "0.7", "--alpha", "2"], "alpha = 2"),
        (["fixed", "--probability", "1.5"], "1.5"),
        (["fixd", "--probability", "0.7"], "Did you mean 'fixed'"),
        (["table:file=nowhere.json", "--probability", "0.7"], "nowhere.json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_wrong_request_is_one_sentence(
    words: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["robustcode", "audit", *words])
    assert call(app) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
