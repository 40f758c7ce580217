"""Mixup inference and random ensembles, on classifiers where algebra says what they do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

import robustcode
from robustcode.checkpoint import load_classifier, save_checkpoint
from robustcode.components import Component, settings_of
from robustcode.data import load_data
from robustcode.defenses import DEFENSES, Defense, MixupInference, RandomEnsemble
from robustcode.defenses.mixup_inference import Partner
from robustcode.errors import CheckpointError, ConfigError, DataError
from robustcode.fast import for_search
from robustcode.judge import judge
from robustcode.models import as_classifier
from robustcode.seeds import Streams

CLASSES = 4
SHAPE = (1, 2, 4)
DRAWS = 6000
# A frequency or a mean this unlikely is a fault; the seeds are fixed.
ODDS = 1e-6
ERRORS = 5.0


class Linear(nn.Module):
    """Scores of class c are the sum of pixels 2c and 2c + 1, with a sign and shift of its own."""

    def __init__(self, sign: float = 1.0, shift: int = 0) -> None:
        super().__init__()
        weight = torch.eye(CLASSES).repeat_interleave(2, dim=1).roll(shift, 0)
        self.weight = nn.Parameter(sign * weight.double())
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return x.double().flatten(1) @ self.weight.T


def images(count: int, purpose: str = "images") -> Tensor:
    return Streams.of(0, purpose, torch.arange(count)).uniform(*SHAPE).double()


def streams_of(count: int, seed: int = 0) -> Streams:
    return Streams.of(seed, "draw", torch.arange(count))


def margins(scores: Tensor) -> Tensor:
    """Scores but for what a softmax does not see, (batch, classes)."""
    return scores - scores.mean(1, keepdim=True)


def mixing(kind: Partner = Partner.OTHER, **settings: float) -> MixupInference:
    given = {"executions": 1, **settings}
    return MixupInference(
        model=Linear().eval(),
        mates=images(30, "pool"),
        kind=kind,
        lam=given.get("lam", 0.5),
        executions=int(given["executions"]),
    )


# ---- mixup inference


def chances(defense: MixupInference, x: Tensor) -> Tensor:
    """Of each image of the pool to be the partner of one image, counted out label by label."""
    predicted = int(defense.model(x).argmax())
    labels = [int(defense.model(mate[None]).argmax()) for mate in defense.mates]
    if defense.kind is Partner.PREDICTED:
        eligible = [predicted]
    else:
        eligible = [label for label in sorted(set(labels)) if label != predicted]
    return torch.tensor(
        [1 / len(eligible) / labels.count(label) if label in eligible else 0.0 for label in labels],
        dtype=torch.float64,
    )


@pytest.mark.parametrize("lam", [0.3, 0.8])
@pytest.mark.parametrize("kind", list(Partner))
@torch.no_grad()
def test_mean_scores_of_a_linear_model_are_those_of_the_mean_mixture(
    kind: Partner, lam: float
) -> None:
    """E f(lam x + (1 - lam) x_s) = lam f(x) + (1 - lam) E f(x_s), over x_s of the pool."""
    defense, x = mixing(kind, lam=lam), images(1)
    scores = margins(defense.logits(x.expand(DRAWS, *SHAPE), streams_of(DRAWS)))
    chance, pool = chances(defense, x), margins(defense.model(defense.mates))
    mean = chance @ pool
    deviation = (chance @ (pool - mean).square()).sqrt()
    expected = lam * margins(defense.model(x))[0] + (1 - lam) * mean
    error = (1 - lam) * deviation / DRAWS**0.5
    assert (scores.mean(0) - expected).abs().le(ERRORS * error + 1e-12).all()


@pytest.mark.parametrize("kind", list(Partner))
@torch.no_grad()
def test_partners_have_the_label_that_the_kind_says(kind: Partner) -> None:
    defense, x = mixing(kind, executions=5), images(400)
    labels = defense.model(defense.mates).argmax(1)
    partners = defense.partners(x, streams_of(len(x)))
    assert partners.shape == (400, 5)
    same = labels[partners] == defense.model(x).argmax(1)[:, None]
    assert bool((same if kind is Partner.PREDICTED else ~same).all())


@pytest.mark.parametrize("kind", list(Partner))
@torch.no_grad()
def test_labels_of_partners_are_equally_likely_and_so_are_their_images(kind: Partner) -> None:
    defense, x = mixing(kind, executions=3), images(1)
    drawn = defense.partners(x.expand(DRAWS, *SHAPE), streams_of(DRAWS)).flatten()
    counts = drawn.bincount(minlength=len(defense.mates)).tolist()
    for count, chance in zip(counts, chances(defense, x).tolist(), strict=True):
        assert binomtest(count, len(drawn), chance).pvalue > ODDS


@torch.no_grad()
def test_a_draw_is_the_mean_probability_over_its_executions() -> None:
    defense, x, streams = mixing(executions=300), images(3), streams_of(3)
    partners = defense.partners(x, streams)
    for row, scores in enumerate(defense.logits(x, streams)):
        mixtures = 0.5 * x[row] + 0.5 * defense.mates[partners[row]]
        expected = defense.model(mixtures).softmax(1).mean(0)
        torch.testing.assert_close(scores.exp(), expected, rtol=1e-12, atol=0)


def test_the_gradient_of_a_mixture_is_lam_times_the_models() -> None:
    """Perturbation shrinkage, Pang et al. 2020: what is added to x is scaled by lam."""
    defense, x = mixing(lam=0.3), images(5).requires_grad_()
    scores = defense.logits(x, streams_of(5))
    (gradient,) = torch.autograd.grad((scores[:, 1] - scores[:, 0]).sum(), x)
    weight = defense.model.weight
    assert isinstance(weight, Tensor)
    expected = (0.3 * (weight[1] - weight[0])).detach().expand(5, -1)
    torch.testing.assert_close(gradient.flatten(1), expected)


@torch.no_grad()
def test_an_input_alone_is_the_model_itself() -> None:
    defense, x = mixing(lam=1.0, executions=4), images(6)
    expected = defense.model(x).log_softmax(1)
    torch.testing.assert_close(defense.logits(x, streams_of(6)), expected)


@torch.no_grad()
def test_a_predicted_label_that_the_pool_lacks_is_mixed_with_any_image() -> None:
    pool = images(30, "pool")
    pool = pool[Linear()(pool).argmax(1) != 2]
    x = torch.zeros(1, *SHAPE).double()
    x.flatten()[4:6] = 1  # the pixels of class 2
    defense = MixupInference(
        model=Linear().eval(), mates=pool, kind=Partner.PREDICTED, executions=1
    )
    drawn = defense.partners(x.expand(DRAWS, *SHAPE), streams_of(DRAWS)).flatten()
    for count in drawn.bincount(minlength=len(pool)).tolist():
        assert binomtest(count, DRAWS, 1 / len(pool)).pvalue > ODDS


def test_the_pool_is_labelled_in_eval_mode_and_the_model_left_as_it_came() -> None:
    model = nn.Sequential(nn.Dropout(0.99), Linear())
    model[1].eval()
    modes = [module.training for module in model.modules()]
    defense = MixupInference(model=model, mates=images(30, "pool"))
    assert torch.equal(defense.labels, Linear()(images(30, "pool")).argmax(1))
    assert [module.training for module in model.modules()] == modes


def test_a_gradient_costs_the_mixtures_and_not_the_label() -> None:
    defense = mixing(executions=7)
    assert defense.passes == 8
    assert defense.backwards(streams_of(2)).tolist() == [7, 7]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("mixup-inference:lam=0", r"lam = 0\.0: the input's share"),
        ("mixup-inference:lam=1.1", r"lam = 1\.1"),
        ("mixup-inference:lam=nan", "lam = nan"),
        ("mixup-inference:executions=0", "executions = 0"),
        ("mixup-inference:votes=0", "votes = 0"),
        ("mixup-inference:kind=both", "kind = 'both' is unknown.* Known: ol, pl"),
    ],
)
def test_impossible_mixtures_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Component.parse(text).build(DEFENSES, "test", model=Linear(), mates=images(30))


def test_a_pool_of_one_label_has_no_other() -> None:
    pool = images(30, "pool")
    pool = pool[Linear()(pool).argmax(1) == 1]
    with pytest.raises(ConfigError, match=r"predicts class 1 for all . images .* use kind=pl"):
        MixupInference(model=Linear(), mates=pool)
    MixupInference(model=Linear(), mates=pool, kind=Partner.PREDICTED)


@pytest.mark.parametrize(
    ("pool", "reason"),
    [
        (torch.zeros(3, 8), "batch mates are images of shape"),
        (torch.zeros(3, 1, 2, 4, dtype=torch.uint8), "got torch.uint8"),
        (torch.full((3, 1, 2, 4), 255.0), r"not images in \[0, 1\]"),
        (torch.full((3, 1, 2, 4), torch.nan), r"not images in \[0, 1\]"),
        (torch.zeros(0, 1, 2, 4), "no image to mix"),
        (torch.zeros(3, 1, 5, 5), r"cannot label a pool of images of shape \(1, 5, 5\)"),
    ],
)
def test_what_is_no_pool_is_refused_in_a_sentence(pool: Tensor, reason: str) -> None:
    with pytest.raises((ConfigError, DataError), match=reason):
        MixupInference(model=Linear(), mates=pool)


def test_inputs_of_another_shape_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"inputs of shape \(1, 4, 2\) cannot be mixed"):
        mixing().logits(torch.zeros(2, 1, 4, 2), streams_of(2))


# ---- random ensemble


def ensemble(*chances: float, votes: int = 1) -> RandomEnsemble:
    """Of a classifier, its negative and a shifted one, or of the first two."""
    members = [Linear(sign=-1.0).eval(), Linear(shift=1).eval()]
    return RandomEnsemble(
        model=Linear().eval(),
        members=members if len(chances) == 3 else members[:1],
        chances=chances,
        votes=votes,
    )


@pytest.mark.parametrize("chances", [(0.3, 0.7), (0.2, 0.5, 0.3), (0.0, 1.0), (1.0, 0.0, 0.0)])
def test_each_member_is_drawn_as_often_as_its_chance(chances: tuple[float, ...]) -> None:
    drawn = ensemble(*chances).draw(streams_of(DRAWS))
    for count, chance in zip(drawn.bincount(minlength=len(chances)), chances, strict=True):
        assert binomtest(int(count), DRAWS, chance).pvalue > ODDS


def test_members_are_equally_likely_unless_it_is_said() -> None:
    counts = ensemble().draw(streams_of(DRAWS)).bincount().tolist()
    assert len(counts) == 2
    assert binomtest(counts[0], DRAWS, 0.5).pvalue > ODDS


def test_scores_and_gradients_are_those_of_the_member_drawn() -> None:
    defense, x, streams = ensemble(0.2, 0.5, 0.3), images(40).requires_grad_(), streams_of(40)
    members = [defense.model, *defense.members]
    scores = defense.logits(x, streams)
    (gradient,) = torch.autograd.grad(scores[:, 1].sum(), x)
    drawn = defense.draw(streams).tolist()
    assert set(drawn) == {0, 1, 2}
    for row, member in enumerate(drawn):
        weight = members[member].weight
        assert isinstance(weight, Tensor)
        torch.testing.assert_close(scores[row], weight @ x[row].flatten())
        torch.testing.assert_close(gradient[row].flatten(), weight[1])


@torch.no_grad()
def test_expected_accuracy_is_the_mean_of_the_members() -> None:
    defense, x = ensemble(0.2, 0.5, 0.3), images(60)
    members = [defense.model, *defense.members]
    # Labels that each member knows in part: those of the first, then of the others.
    y = torch.cat(
        [member(part).argmax(1) for member, part in zip(members, x.split(20), strict=True)]
    )
    right = torch.stack([member(x).argmax(1) == y for member in members]).double()
    chance = torch.tensor(defense.chances).double() @ right
    assert 0 < chance.mean() < 1
    found = judge(defense, x, streams_of(60), 200, CLASSES).share_right(y)
    error = (chance * (1 - chance) / 200).sum().sqrt().item() / 60
    assert found.mean().item() == pytest.approx(chance.mean().item(), abs=ERRORS * error)
    # An input that all know, or none, is no matter of chance.
    assert torch.equal(found[chance == 0], chance[chance == 0])
    assert found[chance > 1 - 1e-12].eq(1).all()


@torch.no_grad()
def test_rows_with_one_member_share_its_forward_pass() -> None:
    defense, x = ensemble(0.2, 0.8, 0.0), images(50)
    defense.logits(x, streams_of(50))
    seen = [member.seen for member in (defense.model, *defense.members)]
    counts = defense.draw(streams_of(50)).bincount().tolist()
    assert seen == [[counts[0]], [counts[1]], []]


@torch.no_grad()
def test_a_vote_is_the_majority_of_draws() -> None:
    """Two or more of three draws go to the member of chance .9, by the binomial law."""
    defense, x = ensemble(0.9, 0.1, votes=3), images(1).expand(DRAWS, *SHAPE)
    wanted = int(defense.model(x[:1]).argmax())
    right = int((defense.decide(x, streams_of(DRAWS)) == wanted).sum())
    assert binomtest(right, DRAWS, 0.9**3 + 3 * 0.9**2 * 0.1).pvalue > ODDS


def digits(spec: str) -> nn.Module:
    return load_classifier(spec, classes=10)


@pytest.fixture(scope="module")
def robust_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights of digits_cnn from adversarial training, as a file."""
    path = tmp_path_factory.mktemp("weights") / "robust.safetensors"
    save_checkpoint(digits("digits_cnn:adversarial"), path, {})
    return str(path)


def from_files(model: nn.Module, *files: str) -> Defense:
    text = f"random-ensemble:checkpoints={'+'.join(files)}"
    defense: Defense = Component.parse(text).build(DEFENSES, "test", model=model)
    return defense


@torch.no_grad()
def test_a_checkpoint_is_a_member_with_its_own_weights(robust_file: str) -> None:
    model, x, streams = digits("digits_cnn"), load_data("digits").images(range(30)), streams_of(30)
    before = [p.clone() for p in model.parameters()]
    defense = from_files(model, robust_file)
    assert isinstance(defense, RandomEnsemble)
    scores, drawn = defense.logits(x, streams), defense.draw(streams)
    plain, robust = model(x), digits("digits_cnn:adversarial")(x)
    expected = torch.where(drawn[:, None] == 0, plain, robust)
    # Rows are convolved in other batches than here.
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-4)
    assert not torch.allclose(plain, robust, atol=1e-1)
    assert all(map(torch.equal, before, model.parameters()))


@torch.no_grad()
def test_a_checkpoint_keeps_the_normalisation_that_it_names(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(8, CLASSES))
    path = tmp_path / "other.safetensors"
    for mean, std in [((0.25,), (0.5,)), ((), ())]:
        save_checkpoint(as_classifier(network, mean, std), path, {})
        model = as_classifier(network, (0.1,), (0.9,)).eval()
        defense = from_files(model, str(path))
        assert isinstance(defense, RandomEnsemble)
        (member,) = defense.members
        x = images(3).float()
        torch.testing.assert_close(member(x), as_classifier(network, mean, std)(x))
    save_checkpoint(network, path, {})
    defense = from_files(model, str(path))
    assert isinstance(defense, RandomEnsemble)
    torch.testing.assert_close(defense.members[0](x), model(x))
    save_checkpoint(network, path, {"mean": "a half", "std": "1"})
    with pytest.raises(CheckpointError, match=r"says mean = 'a half'.* not numbers"):
        from_files(model, str(path))


@torch.no_grad()
def test_the_search_meets_the_same_ensemble_around_a_faster_model(robust_file: str) -> None:
    data, streams = load_data("digits"), streams_of(20)
    defense = from_files(digits("digits_cnn"), robust_file)
    searched = for_search(defense, data.images(range(4)))
    assert searched.model is not defense.model
    x = data.images(range(20))
    torch.testing.assert_close(
        searched.logits(x, streams), defense.logits(x, streams), rtol=1e-4, atol=1e-4
    )


def test_records_name_the_files_and_no_modules(robust_file: str) -> None:
    defense = from_files(digits("digits_cnn"), robust_file, robust_file)
    assert settings_of(defense) == {"checkpoints": f"{robust_file}+{robust_file}", "votes": 1}


def test_a_wrong_file_is_refused_in_one_sentence(robust_file: str, tmp_path: Path) -> None:
    model = digits("digits_cnn")
    other = tmp_path / "other.pt"
    torch.save(nn.Linear(3, 2).state_dict(), other)
    for file, reason in [
        (str(tmp_path / "none.pt"), "there is no checkpoint .*none.pt"),
        (__file__, "damaged, cut short or no checkpoint"),
        (str(other), "other.pt does not fit 'PlainCNN': .* missing"),
    ]:
        with pytest.raises(CheckpointError, match=reason) as caught:
            from_files(model, robust_file, file)
        assert "\n" not in str(caught.value)


def test_an_ensemble_is_of_two_or_more_classifiers_of_the_same_classes() -> None:
    model, member = Linear().eval(), Linear(sign=-1.0).eval()
    with pytest.raises(ConfigError, match="two members or more"):
        RandomEnsemble(model=model)
    with pytest.raises(ConfigError, match=r"call its eval\(\) first"):
        RandomEnsemble(model=model, members=[Linear()])
    with pytest.raises(ConfigError, match="checkpoints or modules; give one of them"):
        RandomEnsemble(model=model, members=[member], checkpoints=("a.pt",))
    with pytest.raises(ConfigError, match="2 chances for 3 members"):
        RandomEnsemble(model=model, members=[member, member], chances=(0.5, 0.5))
    for chances in [(0.5, 0.6), (-0.5, 1.5), (float("nan"), 1.0)]:
        with pytest.raises(ConfigError, match=r"chances = .* sum to 1"):
            RandomEnsemble(model=model, members=[member], chances=chances)
    with pytest.raises(ConfigError, match="votes = 0"):
        RandomEnsemble(model=model, members=[member], votes=0)
    few = nn.Sequential(nn.Flatten(), nn.Linear(8, 3).double()).eval()
    with pytest.raises(ConfigError, match="members tell 3 and 4 classes apart"):
        RandomEnsemble(model=model, members=[few]).logits(images(20), streams_of(20))


# ---- both, in a run


@pytest.mark.parametrize(
    "defense", ["mixup-inference:executions=3", "mixup-inference:kind=pl,executions=3", "ensemble"]
)
def test_a_run_breaks_nothing_without_a_budget(
    defense: str, robust_file: str, tmp_path: Path
) -> None:
    """The null test: clean and robust accuracy are means of the same shares of draws."""
    samples = 60
    run = robustcode.attack(
        "digits_cnn",
        "digits",
        "linf:1e-7",
        tmp_path / "run",
        defense=defense.replace("ensemble", f"random-ensemble:checkpoints={robust_file}"),
        attacks=["noise:tries=3", "fgsm", "transfer:steps=3"],
        samples=samples,
        progress=False,
    )
    clean, robust = run.summary["clean"]["accuracy"], run.summary["robust"]["accuracy"]
    # The variance of a share of draws is at most a quarter, in either of the two means.
    error = (0.5 / samples / run.summary["stochastic"]["draws"]) ** 0.5
    assert abs(clean - robust) < ERRORS * error
    assert clean > 0.5
