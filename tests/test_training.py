"""Recipes against closed forms; training against interruption, repetition and wrong requests."""

import dataclasses
import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.checkpoint import load_classifier, read_metadata
from robustcode.data import load_data
from robustcode.errors import ConfigError, EngineError, RobustcodeError, StoreError
from robustcode.seeds import Streams
from robustcode.threat import ThreatModel
from robustcode.training import (
    IBP,
    RECIPES,
    Adversarial,
    Mixup,
    Optimizer,
    Recipe,
    Schedule,
    Standard,
    Trades,
    TrainingResult,
    TrainSpec,
    train,
)
from robustcode.training.augment import PAD, crop_and_flip
from robustcode.training.mixup import beta_draws, mixed_loss
from robustcode.training.trades import divergence
from robustcode.training.trainer import Trainer

THREAT = "linf:0.1"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small only wait for each other on more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Line(nn.Module):
    """Logits (m, 0) with m = w x + b: a logistic model whose worst case is known."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.tensor(bias, dtype=weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        margin = x.flatten(1) @ self.weight + self.bias
        return torch.stack([margin, torch.zeros_like(margin)], dim=1)


def line() -> Line:
    torch.manual_seed(0)
    return Line(torch.randn(12, dtype=torch.float64), 0.0)


def batch(rows: int = 6) -> tuple[Tensor, Tensor, Streams]:
    """Points far enough from the walls of the box that a ball of 0.1 is whole."""
    torch.manual_seed(1)
    x = 0.2 + 0.6 * torch.rand(rows, 3, 2, 2, dtype=torch.float64)
    return x, torch.arange(rows) % 2, Streams.of(0, "test", torch.arange(rows))


def uneasy() -> nn.Module:
    """A network with all that makes going on hard: batch norm, and dropout's own randomness."""
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 32),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(32, 10),
    )


def spec(**changed: Any) -> TrainSpec:
    settings: dict[str, Any] = {
        "recipe": "standard",
        "model": "digits_cnn",
        "data": "digits",
        "epochs": 2,
        "samples": 200,
        "batch_size": 64,
    }
    return TrainSpec(**{**settings, **changed})


def run(
    out: Path, watch: Callable[[int, float], None] | None = None, **changed: Any
) -> TrainingResult:
    return train(spec(**changed), out, progress=False, watch=watch)


def trainer_of(described: TrainSpec, recipe: Recipe, samples: Tensor) -> Trainer:
    return Trainer(
        spec=described,
        recipe=recipe,
        network=uneasy().eval(),
        data=load_data("digits", "train"),
        samples=samples,
        device=torch.device("cpu"),
    )


def recipe_text(name: str) -> str:
    recipe = RECIPES.get(name)
    # A bound is above all that an attack finds: in a ball as large two epochs would teach little.
    threat = "linf:0.02" if issubclass(recipe, IBP) else THREAT
    fields = {field.name for field in dataclasses.fields(recipe)}
    return f"{name}:threat={threat}" if "threat" in fields else name


def accuracy_under_pgd(out: Path | None, model: str = "digits_cnn") -> float:
    """Accuracy on the test split under twenty steps in linf 0.1 from a random start."""
    classifier, test = load_classifier(model, out), load_data("digits", "test")
    samples = torch.arange(len(test))
    x, y = test.images(samples), test.targets(samples)
    threat = ThreatModel.parse(THREAT)
    x_adv = threat.random(x, Streams.of(0, "test", samples))
    for _ in range(20):
        x_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(classifier(x_adv), y), x_adv)
        x_adv = threat.project(x_adv.detach() + 0.02 * gradient.sign(), x)
    return float((classifier(x_adv).argmax(1) == y).float().mean())


# Recipes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(RECIPES))
def test_two_epochs_lower_the_loss_and_teach_the_digits(name: str, tmp_path: Path) -> None:
    losses: list[float] = []
    result = run(
        tmp_path / "w.safetensors",
        watch=lambda epoch, loss: losses.append(loss),
        recipe=recipe_text(name),
        samples=None,
        batch_size=16,
        lr=2e-3,
    )
    assert len(losses) == 2
    assert losses[1] < losses[0]
    assert result.loss == losses[1]
    # Ten classes are guessed at .1; the least that any recipe reaches here is .89.
    assert result.test_accuracy is not None
    assert result.test_accuracy > 0.85
    assert result.train_accuracy > 0.85


def test_adversarial_training_is_what_withstands_attack(tmp_path: Path) -> None:
    robust: dict[str, float] = {}
    for name in ("standard", "adversarial"):
        out = tmp_path / f"{name}.safetensors"
        run(out, recipe=recipe_text(name), samples=None, batch_size=32, lr=4e-3, epochs=5)
        robust[name] = accuracy_under_pgd(out)
    # Three standard errors of a difference between two accuracies on 500 samples.
    assert robust["adversarial"] > robust["standard"] + 0.1


@pytest.mark.parametrize("eps", [0.01, 0.1])
def test_adversarial_loss_of_a_linear_model_is_its_worst_case(eps: float) -> None:
    model, (x, y, streams) = line(), batch()
    margin = (model(x)[:, 0] * (1 - 2 * y)).detach()
    worst = F.softplus(eps * model.weight.abs().sum() - margin).mean()
    loss = Adversarial(threat=f"linf:{eps}", steps=10).loss(model, x, y, streams)
    torch.testing.assert_close(loss, worst)


def test_trades_without_a_price_is_cross_entropy() -> None:
    model, (x, y, streams) = line(), batch()
    loss = Trades(threat=THREAT, beta=0).loss(model, x, y, streams)
    assert loss == F.cross_entropy(model(x), y)


def test_divergence_is_that_of_kullback_and_leibler() -> None:
    torch.manual_seed(0)
    scores, moved = torch.randn(2, 5, 4, dtype=torch.float64)
    expected = scipy.stats.entropy(scores.softmax(1).numpy(), moved.softmax(1).numpy(), axis=1)
    np.testing.assert_allclose(divergence(scores, moved), expected)


@pytest.mark.parametrize("beta", [1.0, 6.0])
def test_trades_on_the_decision_boundary_pays_log_cosh(beta: float) -> None:
    """Where the margin is 0, KL(f(x) || f(x')) at margin d is log cosh(d / 2), even in d."""
    model, (x, y, streams) = line(), batch(1)
    with torch.no_grad():
        model.bias.sub_(model(x)[0, 0])
    reach = 0.1 * model.weight.abs().sum()
    expected = math.log(2) + beta * torch.log(torch.cosh(reach / 2))
    loss = Trades(threat=THREAT, beta=beta).loss(model, x, y, streams)
    torch.testing.assert_close(loss, expected)


def test_mixup_with_the_whole_share_is_cross_entropy() -> None:
    model, (x, y, _) = line(), batch()
    partner = torch.arange(len(x)).roll(1)
    whole, none = torch.ones(2, len(x), dtype=torch.float64) * torch.tensor([[1.0], [0.0]])
    own = F.cross_entropy(model(x), y)
    other = F.cross_entropy(model(x[partner]), y[partner])
    torch.testing.assert_close(mixed_loss(model, x, y, whole, partner), own)
    torch.testing.assert_close(mixed_loss(model, x, y, none, partner), other)


def test_mixup_mixes_inputs_and_labels_in_the_same_share() -> None:
    model, (x, y, _) = line(), batch(2)
    share = torch.tensor([0.25, 0.75], dtype=torch.float64)
    middle = torch.stack([0.25 * x[0] + 0.75 * x[1], 0.75 * x[1] + 0.25 * x[0]])
    labels = torch.tensor([[0.25, 0.75], [0.25, 0.75]], dtype=torch.float64)
    expected = F.cross_entropy(model(middle), labels)
    loss = mixed_loss(model, x, y, share, torch.tensor([1, 0]))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_shares_follow_the_beta_distribution(alpha: float) -> None:
    draws = beta_draws(alpha, Streams.of(0, "test", torch.arange(5000)))
    # The streams are fixed, so this is one draw of the statistic and not a test that may flicker.
    assert scipy.stats.kstest(draws.numpy(), scipy.stats.beta(alpha, alpha).cdf).pvalue > 0.01


@pytest.mark.parametrize("recipe", [Adversarial(threat=THREAT), Trades(threat=THREAT)])
def test_the_inner_adversary_leaves_the_network_alone(recipe: Adversarial | Trades) -> None:
    """Modes, gradients and batch-norm statistics are those of the outer loss alone."""
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Dropout(), nn.Linear(12, 2))
    network = network.double().train()
    network[1].eval()  # a layer that its owner has frozen stays frozen
    x, y, streams = batch()
    recipe.loss(network, x, y, streams)
    assert [module.training for module in network] == [True, False, True, True]
    assert all(weight.grad is None for weight in network.parameters())
    network[1].train()
    recipe.loss(network, x, y, streams)
    outer = {Adversarial: 1, Trades: 2}[type(recipe)]
    assert network.state_dict()["1.num_batches_tracked"] == outer


@pytest.mark.parametrize("recipe", [Adversarial(threat=THREAT), Trades(threat=THREAT), Mixup()])
def test_a_recipe_draws_from_its_streams_alone(recipe: Adversarial | Trades | Mixup) -> None:
    x, y, streams = batch()
    network = line()
    # One short step: where the ascent ends then still depends on where it starts.
    if not isinstance(recipe, Mixup):
        recipe = dataclasses.replace(recipe, steps=1, step=0.1)
    before = torch.get_rng_state()
    loss = recipe.loss(network, x, y, streams)
    assert torch.equal(torch.get_rng_state(), before)
    assert recipe.loss(network, x, y, streams) == loss
    assert recipe.loss(network, x, y, streams.child("other")) != loss


def test_an_augmented_image_is_a_window_of_the_padded_one() -> None:
    torch.manual_seed(0)
    x = torch.rand(40, 3, 32, 32)
    streams = Streams.of(0, "test", torch.arange(40))
    seen = set()
    padded = F.pad(x, [PAD] * 4)
    for image, got in zip(padded, crop_and_flip(x, streams), strict=True):
        plain = image.unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4)
        windows = {False: plain, True: plain.flip(4)}
        places = [
            (top, left, flip)
            for top in range(2 * PAD + 1)
            for left in range(2 * PAD + 1)
            for flip in (False, True)
            if torch.equal(windows[flip][top, left], got)
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) > 30
    assert {flip for _, _, flip in seen} == {False, True}
    assert torch.equal(crop_and_flip(x[5:7], streams[5:7]), crop_and_flip(x, streams)[5:7])


# The run ------------------------------------------------------------------------------------


def test_the_same_run_gives_the_same_bytes_and_another_seed_gives_others(tmp_path: Path) -> None:
    mixup: dict[str, Any] = {"recipe": "mixup", "epochs": 1}
    files = [tmp_path / name / "w.safetensors" for name in "abc"]
    first = run(files[0], **mixup)
    torch.rand(1)  # the global generator is somewhere else by now
    before = torch.get_rng_state(), torch.get_num_threads()
    second = run(files[1], **mixup)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert first.sha256 == second.sha256
    assert run(files[2], **mixup, seed=1).sha256 != first.sha256


@pytest.mark.parametrize("optimizer", list(Optimizer))
def test_an_interrupted_run_ends_with_the_bytes_of_an_uninterrupted_one(
    optimizer: Optimizer, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    recipe = f"adversarial:threat={THREAT},steps=2"
    epochs: list[int] = []

    def interrupt(epoch: int, loss: float) -> None:
        epochs.append(epoch)
        if epoch in (2, 4):
            raise KeyboardInterrupt

    settings: dict[str, Any] = {"recipe": recipe, "epochs": 4, "optimizer": optimizer}
    run(whole, model=uneasy(), **settings)
    network = uneasy()
    for _ in range(2):
        # Another process would have another global generator, and dropout draws from one.
        torch.rand(1)
        with pytest.raises(KeyboardInterrupt):
            run(broken, interrupt, model=network, **settings)
        assert not broken.exists()
        network = uneasy()
    torch.rand(2)
    result = run(broken, interrupt, model=network, **settings)
    assert epochs == [1, 2, 3, 4]
    assert result.trained
    assert broken.read_bytes() == whole.read_bytes()
    assert sorted(tmp_path.iterdir()) == [broken, whole]  # nothing is left behind


def test_a_killed_run_ends_with_the_bytes_of_an_uninterrupted_one(tmp_path: Path) -> None:
    out, whole = tmp_path / "w.safetensors", tmp_path / "whole.safetensors"
    script = f"""
import os, signal
from robustcode.training import TrainSpec, train
train(
    TrainSpec(recipe="standard", model="digits_cnn", data="digits", epochs=3, samples=200,
              batch_size=64),
    {str(out)!r},
    watch=lambda epoch, loss: os.kill(os.getpid(), {int(signal.SIGKILL)}),
)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert out.with_name("w.safetensors.epochs").exists()
    epochs: list[int] = []
    resumed = run(out, lambda epoch, loss: epochs.append(epoch), epochs=3)
    assert epochs == [2, 3]
    assert resumed.sha256 == run(whole, epochs=3).sha256


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    out = tmp_path / "w.safetensors"
    first = run(out)
    touched = out.stat().st_mtime_ns
    again = run(out, watch=lambda epoch, loss: pytest.fail("trained again"))
    assert not again.trained
    assert out.stat().st_mtime_ns == touched
    assert dataclasses.replace(again, trained=True, seconds=first.seconds) == first


def test_the_file_says_how_it_was_made_but_not_where(tmp_path: Path) -> None:
    test = load_data("digits", "test")
    file, out = tmp_path / "some.npz", tmp_path / "w.safetensors"
    pixels = (test.images(torch.arange(100)) * 255).byte().numpy()[:, 0]
    np.savez(file, images=pixels, labels=test.labels[:100])
    result = run(out, data=f"npz:{file}", samples=None, mean=(0.3,), std=(0.5,))
    assert result.test_accuracy is None  # the file has one split, which was trained on
    said = {key: json.loads(value) for key, value in read_metadata(out).items() if value[0] == "{"}
    assert said["spec"]["recipe"] == {"name": "standard"}
    assert said["spec"]["model"] == "digits_cnn"
    assert said["spec"]["data"]["name"] == "npz"
    assert said["spec"]["seed"] == 0
    assert said["result"]["loss"] == result.loss
    assert set(said["versions"]) == {"robustcode", "torch"}
    assert str(tmp_path).encode() not in out.read_bytes()
    # It is evaluated as it was trained.
    assert load_classifier("digits_cnn", out).normalization == ((0.3,), (0.5,))


def test_progress_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(spec(epochs=1), tmp_path / "w.safetensors")
    shown = capsys.readouterr()
    assert shown.out == ""
    for word in ("epoch 1/1", "batch 4/4", "loss", "test accuracy"):
        assert word in shown.err


@dataclass(frozen=True, kw_only=True)
class Recording(Recipe):
    """Cross-entropy that remembers what it was given."""

    seen: list[tuple[Tensor, Streams]] = field(default_factory=list)

    def loss(self, network: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        assert network.training
        self.seen.append((x, streams))
        return F.cross_entropy(network(x), y)


def test_every_epoch_has_its_own_order_and_draws_and_every_sample_once() -> None:
    recipe, samples = Recording(), torch.arange(65) * 3
    trainer = trainer_of(spec(), recipe, samples)
    for _ in range(2):
        trainer.run_epoch(lambda number, loss: None)
    assert [len(x) for x, _ in recipe.seen] == [33, 32, 33, 32]  # not 64 and a straggler
    epochs = [recipe.seen[:2], recipe.seen[2:]]
    orders = [torch.cat([streams.samples for _, streams in epoch]) for epoch in epochs]
    assert not torch.equal(*orders)
    assert all(torch.equal(order.sort().values, samples) for order in orders)
    for x, streams in recipe.seen:
        assert torch.equal(x, trainer.data.images(streams.samples))
    keys = torch.cat([streams.keys for _, streams in recipe.seen])
    assert len(keys.unique()) == len(keys)


def test_the_rate_falls_along_a_cosine() -> None:
    cosine = spec(lr=0.2)
    assert [cosine.rate(done) for done in (0, 0.5, 1)] == pytest.approx([0.2, 0.1, 0])
    assert spec(lr=0.2, schedule=Schedule.CONSTANT).rate(0.9) == 0.2


def test_the_rate_is_that_of_the_batch() -> None:
    trainer = trainer_of(spec(), Standard(), torch.arange(256))
    rates: list[float] = []
    for _ in range(2):
        trainer.run_epoch(
            lambda number, loss: rates.append(trainer.optimizer.param_groups[0]["lr"])
        )
    assert rates == [spec().rate(batch / 8) for batch in range(8)]


@pytest.mark.parametrize(
    ("model", "clean", "robust"),
    [("digits_cnn", 0.978, 0.0), ("digits_cnn:adversarial", 0.98, 0.9)],
)
def test_shipped_weights_are_as_good_as_their_readme_says(
    model: str, clean: float, robust: float
) -> None:
    classifier, test = load_classifier(model), load_data("digits", "test")
    samples = torch.arange(len(test))
    guess = classifier(test.images(samples)).argmax(1)
    assert int((guess == test.targets(samples)).sum()) == round(clean * len(test))
    assert accuracy_under_pgd(None, model) >= robust


# Refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"epochs": 0}, "epochs = 0"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"samples": 0}, "samples = 0"),
        ({"samples": 2000}, "2000 samples .* hold 1297"),
        ({"lr": 0.0}, "lr = 0"),
        ({"lr": math.nan}, "lr = nan"),
        ({"lr": 1e7}, r"lr = 1e\+07"),
        ({"weight_decay": -1.0}, "weight_decay = -1"),
        ({"momentum": 1.0}, "momentum = 1"),
        ({"augment": True}, r"augment: .*\(1, 8, 8\)"),
        ({"recipe": "standrad"}, "Did you mean 'standard'"),
        ({"recipe": "mixup:alpha=0"}, "alpha = 0"),
        ({"recipe": "adversarial"}, "needs threat"),
        ({"recipe": "adversarial:threat=linf:8"}, "8/255"),
        ({"recipe": f"adversarial:threat={THREAT},steps=0"}, "steps = 0"),
        ({"recipe": f"trades:threat={THREAT},step=0"}, "step = 0"),
        ({"recipe": f"trades:threat={THREAT},beta=-1"}, "beta = -1"),
        ({"model": "cifar_resnet20"}, r"images of \(3, 32, 32\)"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(9, 10))}, "fails on images"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(64, 3))}, r"\(1, 3\)"),
        ({"model": "digits_cnn", "mean": (0.1, 0.2), "std": (1.0, 1.0)}, "2 channels"),
    ],
)
def test_a_wrong_request_is_refused_in_one_sentence(
    changed: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        run(tmp_path / "w.safetensors", **changed)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "cuda:99"}, "cuda:99"),
        ({"device": "abacus"}, "abacus"),
        ({"device": "meta"}, "cpu, cuda"),
        ({"threads": 0}, "threads = 0"),
    ],
)
def test_a_machine_that_is_not_there_is_refused(
    options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        train(spec(), tmp_path / "w.safetensors", progress=False, **options)


def test_divergence_stops_the_run_and_names_the_remedy(tmp_path: Path) -> None:
    out = tmp_path / "w.safetensors"
    with pytest.raises(EngineError, match=r"epoch \d.*loss is.*lower lr, which is 1e\+06"):
        run(out, lr=1e6, optimizer=Optimizer.SGD, epochs=5)
    assert run(out).trained  # with a lower rate, into the same file


@dataclass(frozen=True, kw_only=True)
class Steep(Recipe):
    """A finite loss whose gradient overflows the weights at the first step."""

    def loss(self, network: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        return 1e36 * F.cross_entropy(network(x), y)


def test_weights_that_overflow_in_the_last_batch_are_noticed() -> None:
    trainer = trainer_of(spec(optimizer=Optimizer.SGD, lr=1e6), Steep(), torch.arange(64))
    with pytest.raises(EngineError, match="epoch 1: a weight is not finite; lower lr"):
        trainer.run_epoch(lambda number, loss: None)


def test_a_diverged_run_leaves_no_state_behind(tmp_path: Path) -> None:
    network = uneasy()

    def spoil(epoch: int, loss: float) -> None:
        next(network.parameters()).data.fill_(math.nan)

    with pytest.raises(EngineError, match="epoch 2: the loss is nan"):
        run(tmp_path / "w.safetensors", spoil, model=network)
    assert not list(tmp_path.iterdir())


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "w.safetensors"

    def interrupt(epoch: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(out, interrupt)
    with pytest.raises(StoreError, match=r"spec\.lr is 0\.001 there and 0\.002 here"):
        run(out, lr=2e-3)
    with pytest.raises(StoreError, match=r"spec\.recipe\.name is 'standard' there"):
        run(out, recipe="mixup")
    out.with_name("w.safetensors.epochs").write_bytes(b"something else")
    with pytest.raises(StoreError, match=r"cannot be read .* delete it"):
        run(out)


def test_a_file_of_another_run_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "w.safetensors"
    run(out)
    kept = out.read_bytes()
    with pytest.raises(StoreError, match=r"spec\.epochs is 2 there and 3 here"):
        run(out, epochs=3)
    assert out.read_bytes() == kept
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"not ours")
    with pytest.raises(StoreError, match="was not written by robustcode train"):
        run(foreign)
    assert foreign.read_bytes() == b"not ours"


def test_a_file_in_work_is_refused_to_a_second_run(tmp_path: Path) -> None:
    out = tmp_path / "w.safetensors"
    refused: list[RobustcodeError] = []

    def second(epoch: int, loss: float) -> None:
        with pytest.raises(StoreError, match="another process") as wrong:
            run(out)
        refused.append(wrong.value)

    run(out, second)
    assert len(refused) == 2


def test_a_place_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        run(tmp_path / "file" / "w.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(StoreError, match="is a folder"):
        run(tmp_path / "folder.safetensors")
    with pytest.raises(ConfigError, match=r"must end in \.safetensors"):
        run(tmp_path / "w.pt")
