"""The coded branch of a loss: against closed forms, finite differences, and a user's own loop."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.checkpoint import load_classifier
from robustcode.coding import Code, chebyshev_first
from robustcode.data import load_data
from robustcode.errors import ConfigError, ContractError
from robustcode.models import as_classifier
from robustcode.seeds import Streams
from robustcode.training import (
    CodedBranch,
    CodedSmoothing,
    CodedTerm,
    Dres,
    Standard,
    TrainingResult,
    TrainSpec,
    train,
)

K = 12
AGAINST = ("labels", "outputs")
BATCH_NORM = ("separate", "joint", "frozen")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small only wait for each other on more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def batch(rows: int = K, width: int = 5) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(rows, width, dtype=torch.float64), torch.arange(rows) % 3


def linear(width: int = 5, classes: int = 3, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(width, classes, bias=bias, dtype=torch.float64)


def smooth() -> nn.Sequential:
    """A network with batch norm before, in and after the module ``block``, and no kinks."""
    torch.manual_seed(0)
    network = nn.Sequential()
    network.add_module("stem", nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6)))
    network.add_module("block", nn.Sequential(nn.Tanh(), nn.Linear(6, 4), nn.BatchNorm1d(4)))
    network.add_module("head", nn.Sequential(nn.Tanh(), nn.BatchNorm1d(4), nn.Linear(4, 3)))
    return network.double()


def matrices(term: CodedTerm, k: int = K) -> tuple[Tensor, Tensor]:
    code = Code(k, round(term.ratio * k), term.c)
    return torch.tensor(code.encoder), torch.tensor(code.decoder)


def statistics_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.named_buffers()}


class Rows(nn.Module):
    """The identity, remembering what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return x


# Closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [0.0, 0.05])
@pytest.mark.parametrize("ratio", [0.75, 1.5])
def test_an_affine_network_pays_what_the_code_loses(ratio: float, c: float) -> None:
    """D (E X W + 1 b) - (X W + 1 b) = (D E - I) X W, since rows of D sum to one."""
    term = CodedTerm(ratio=ratio, c=c)
    network, (x, _) = linear(), batch()
    encoder, decoder = matrices(term)
    lost = (decoder @ encoder - torch.eye(K)) @ x @ network.weight.T
    expected = lost.square().mean()
    torch.testing.assert_close(CodedBranch(network, term).penalty(x), expected)


def test_an_almost_lossless_code_gives_back_the_outputs_of_a_linear_network() -> None:
    """What is lost, as a share of the outputs' variance, falls fast in the number of rows."""
    network, (x, y) = linear(), batch()
    lost = {
        ratio: (CodedBranch(network, CodedTerm(ratio=ratio)).penalty(x) / network(x).var()).item()
        for ratio in (0.75, 1.5, 4.0, 40.0)
    }
    assert lost[0.75] > 0.1 > lost[1.5] > 1e-3 > lost[4.0] > 1e-6 > lost[40.0]
    loss = CodedBranch(network, CodedTerm(ratio=40.0, mu=1.0)).loss(x, y)
    torch.testing.assert_close(loss, F.cross_entropy(network(x), y), rtol=1e-5, atol=0)


@pytest.mark.parametrize("bend", [0.5, 1.0, 2.0])
def test_samples_in_a_row_cost_the_square_of_the_curvature(bend: float) -> None:
    """Splines reproduce straight lines: along one, an affine network loses nothing."""

    class Bent(nn.Module):
        def __init__(self, bend: float) -> None:
            super().__init__()
            self.bend = bend

        def forward(self, x: Tensor) -> Tensor:
            return 3 * x + 1 + self.bend * x**2

    place = torch.tensor(chebyshev_first(K).copy())[:, None]
    x = 0.3 + 0.7 * place
    term = CodedTerm(ratio=0.75)
    assert CodedBranch(Bent(0.0), term).penalty(x) < 1e-24
    encoder, decoder = matrices(term)
    error = decoder @ (encoder @ x) ** 2 - x**2
    torch.testing.assert_close(
        CodedBranch(Bent(bend), term).penalty(x), bend**2 * error.square().mean()
    )


@pytest.mark.parametrize("mu", [0.0, 0.3, 1.0])
def test_the_two_losses_are_blended_by_their_shares(mu: float) -> None:
    network, (x, y) = smooth().eval(), batch()
    term = CodedTerm(mu=mu)
    encoder, decoder = matrices(term)
    plain = F.cross_entropy(network(x), y)
    decoded = decoder @ network(encoder @ x)
    labels = (1 - mu) * plain + mu * F.cross_entropy(decoded, y)
    torch.testing.assert_close(CodedBranch(network, term).loss(x, y), labels)
    outputs = (1 - mu) * plain + mu * F.mse_loss(decoded, network(x))
    term = CodedTerm(mu=mu, against="outputs")
    torch.testing.assert_close(CodedBranch(network, term).loss(x, y), outputs)


@pytest.mark.parametrize("recipe", [CodedSmoothing(mu=0.0), Dres(mu=0.0)])
def test_without_a_share_it_is_standard_training_to_the_bit(recipe: CodedSmoothing) -> None:
    (x, y), streams = batch(), Streams.of(0, "test", torch.arange(K))
    ours, standard = smooth(), smooth()
    loss, expected = (
        r.loss(network, x, y, streams) for r, network in ((recipe, ours), (Standard(), standard))
    )
    assert loss == expected
    for value, other in zip(ours.buffers(), standard.buffers(), strict=True):
        assert torch.equal(value, other)


def test_dres_is_the_branch_against_outputs() -> None:
    (x, y), streams = batch(), Streams.of(0, "test", torch.arange(K))
    network = smooth().eval()
    expected = CodedBranch(network, CodedTerm(against="outputs")).loss(x, y)
    assert Dres().loss(network, x, y, streams) == expected
    assert CodedSmoothing(against="outputs").loss(network, x, y, streams) == expected
    assert CodedSmoothing().loss(network, x, y, streams) != expected


def test_images_are_coded_as_their_pixels_are() -> None:
    term = CodedTerm(ratio=0.75)
    network, (x, _) = linear(12), batch(width=12)
    images = nn.Sequential(nn.Flatten(), network)
    got = CodedBranch(images, term).penalty(x.view(K, 3, 2, 2))
    torch.testing.assert_close(got, CodedBranch(network, term).penalty(x))


def test_a_critic_may_give_one_number_a_sample() -> None:
    term = CodedTerm(ratio=0.75)
    network, (x, _) = linear(classes=1), batch()
    flat = nn.Sequential(network, nn.Flatten(0))
    assert flat(x).shape == (K,)
    torch.testing.assert_close(
        CodedBranch(flat, term).penalty(x), CodedBranch(network, term).penalty(x)
    )


@pytest.mark.parametrize(("k", "ratio", "n"), [(4, 2.25, 8), (4, 2.0, 8), (12, 1.5, 18)])
def test_a_code_that_codes_nothing_gives_way_to_its_neighbour(k: int, ratio: float, n: int) -> None:
    network = Rows()
    x, _ = batch(k)
    CodedBranch(network, CodedTerm(ratio=ratio)).penalty(x)
    plain, coded = network.seen
    assert torch.equal(plain, x)
    torch.testing.assert_close(coded, torch.tensor(Code(k, n).encoder) @ x)


# The module that is coded ----------------------------------------------------------------------


class Residual(nn.Module):
    """head(x + body(x)): what is coded has a way around it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Linear(5, 4)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        self.head = nn.Linear(4, 3)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.around(self.stem(x), self.body))

    def around(self, x: Tensor, body: Callable[[Tensor], Tensor]) -> Tensor:
        return x + body(x)


@pytest.mark.parametrize("batch_norm", BATCH_NORM)
def test_the_rest_of_the_network_goes_on_with_decoded_outputs(batch_norm: str) -> None:
    network, (x, y) = Residual(), batch()
    term = CodedTerm(ratio=0.75, mu=1.0, module="body", batch_norm=batch_norm)
    encoder, decoder = matrices(term)

    def body(inputs: Tensor) -> Tensor:
        return decoder @ network.body(encoder @ inputs)

    decoded = network.head(network.around(network.stem(x), body))
    expected = F.cross_entropy(decoded, y)
    torch.testing.assert_close(CodedBranch(network, term).loss(x, y), expected)


@pytest.mark.parametrize("batch_norm", BATCH_NORM)
def test_against_outputs_the_module_answers_for_itself(batch_norm: str) -> None:
    network, (x, _) = Residual(), batch()
    term = CodedTerm(ratio=0.75, module="body", batch_norm=batch_norm)
    encoder, decoder = matrices(term)
    entering = network.stem(x)
    decoded = decoder @ network.body(encoder @ entering)
    expected = F.mse_loss(decoded, network.body(entering))
    torch.testing.assert_close(CodedBranch(network, term).penalty(x), expected)


def test_within_a_classifier_modules_keep_their_own_names() -> None:
    network, (x, _) = smooth().eval(), batch()
    classifier = as_classifier(network)
    expected = CodedBranch(network, CodedTerm(module="block")).penalty(x)
    for name in ("block", "network.block"):
        assert CodedBranch(classifier, CodedTerm(module=name)).penalty(x) == expected


@pytest.mark.parametrize("against", AGAINST)
@pytest.mark.parametrize("batch_norm", BATCH_NORM)
def test_layers_that_work_in_place_change_nothing(batch_norm: str, against: str) -> None:
    """The module's input, and its output afterwards, may be overwritten by a layer."""
    x, y = batch()
    losses = []
    for inplace in (False, True):
        network = nn.Sequential(linear(classes=4), nn.ReLU(inplace), linear(4, 4), nn.ReLU(inplace))
        coded = nn.Sequential(network[0], nn.Sequential(network[1], network[2]), network[3])
        term = CodedTerm(module="1", batch_norm=batch_norm, against=against)
        loss = CodedBranch(coded, term).loss(x, y)
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        losses.append([loss, *gradients])
    torch.testing.assert_close(*losses)


def test_the_network_is_left_as_it_was() -> None:
    network, (x, y) = smooth(), batch()
    network.get_submodule("head").eval()
    modes = [module.training for module in network.modules()]
    keys = [sorted(vars(module)) for module in network.modules()]
    for module in ("", "block"):
        for batch_norm in BATCH_NORM:
            term = CodedTerm(module=module, batch_norm=batch_norm)
            CodedBranch(network, term).loss(x, y)
    assert [module.training for module in network.modules()] == modes
    assert [sorted(vars(module)) for module in network.modules()] == keys
    assert all(weight.grad is None for weight in network.parameters())


# Gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("against", AGAINST)
@pytest.mark.parametrize("batch_norm", BATCH_NORM)
@pytest.mark.parametrize("module", ["", "block", "block.1"])
def test_the_gradient_is_that_of_finite_differences(
    module: str, batch_norm: str, against: str
) -> None:
    network, (x, y) = smooth(), batch()
    term = CodedTerm(
        ratio=0.75, mu=0.7, c=0.02, module=module, batch_norm=batch_norm, against=against
    )
    branch = CodedBranch(network, term)
    inputs = [x.requires_grad_(), *network.parameters()]
    gradients = torch.autograd.grad(branch.loss(x, y), inputs)
    torch.manual_seed(2)
    for values, gradient in zip(inputs, gradients, strict=True):
        direction = torch.randn_like(values)
        ends = []
        with torch.no_grad():
            for step in (1e-5, -2e-5, 1e-5):  # there, back through the start, and home
                values.add_(step * direction)
                ends.append(branch.loss(x, y))
        slope = (ends[0] - ends[1]) / 2e-5
        # Central differences err by the square of the step, times how the slope itself bends.
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-6, atol=1e-8)


def test_a_stopped_gradient_moves_the_coded_outputs_alone() -> None:
    """For f = X W the penalty |(DE - I) X W|^2 has two ways to W; one of them is stopped."""
    network, (x, _) = linear(bias=False), batch()
    term = CodedTerm(ratio=0.75, stop_gradient=True)
    encoder, decoder = matrices(term)
    weight = network.weight.T.detach()
    coded = decoder @ encoder @ x
    apart = 2 * (coded - x) @ weight / (K * 3)
    for chosen, moved in ((term, coded), (CodedTerm(ratio=0.75), coded - x)):
        (gradient,) = torch.autograd.grad(CodedBranch(network, chosen).penalty(x), [network.weight])
        torch.testing.assert_close(gradient.T, moved.T @ apart)


# Batch norm -----------------------------------------------------------------------------------


@pytest.mark.parametrize("against", AGAINST)
@pytest.mark.parametrize("module", ["", "block"])
def test_frozen_statistics_are_those_of_a_plain_pass_to_the_bit(module: str, against: str) -> None:
    x, y = batch()
    plain, network = smooth(), smooth()
    plain(x)
    term = CodedTerm(module=module, against=against, batch_norm="frozen")
    CodedBranch(network, term).loss(x, y)
    expected, got = statistics_of(plain), statistics_of(network)
    assert all(torch.equal(got[name], expected[name]) for name in expected)
    # And the coded pass is normalised by its own batch, as it is when statistics move.
    moving = CodedTerm(module=module, against=against, batch_norm="separate")
    losses = [CodedBranch(smooth(), term).loss(x, y) for term in (term, moving)]
    assert losses[0] == losses[1]


def test_in_evaluation_mode_frozen_is_nothing_of_its_own() -> None:
    """An instance norm that is told not to track takes the statistics of each sample instead."""
    torch.manual_seed(0)
    norm = nn.InstanceNorm1d(2, track_running_stats=True)
    network = nn.Sequential(nn.Unflatten(1, (2, 3)), norm, nn.Flatten(), nn.Tanh()).double()
    x, _ = batch(width=6)
    network(x)
    network.eval()
    penalties = [
        CodedBranch(network, CodedTerm(batch_norm=batch_norm)).penalty(x)
        for batch_norm in BATCH_NORM
    ]
    torch.testing.assert_close(penalties, [penalties[0]] * 3)


def test_separate_statistics_follow_both_passes() -> None:
    (x, y), term = batch(), CodedTerm()
    plain, network = smooth(), smooth()
    encoder, _ = matrices(term)
    plain(x)
    plain(encoder @ x)
    CodedBranch(network, term).loss(x, y)
    torch.testing.assert_close(statistics_of(network), statistics_of(plain))


def test_joint_statistics_are_those_of_plain_and_coded_samples_together() -> None:
    (x, y), term = batch(), CodedTerm(batch_norm="joint")
    plain, network = smooth(), smooth()
    encoder, decoder = matrices(term)
    outputs = plain(torch.cat([x, encoder @ x]))
    losses = F.cross_entropy(outputs[:K], y), F.cross_entropy(decoder @ outputs[K:], y)
    expected = (1 - term.mu) * losses[0] + term.mu * losses[1]
    torch.testing.assert_close(CodedBranch(network, term).loss(x, y), expected)
    torch.testing.assert_close(statistics_of(network), statistics_of(plain))


# Precision ------------------------------------------------------------------------------------


def test_mixed_precision_does_not_round_the_code() -> None:
    network = Rows()
    x = batch()[0].float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        CodedBranch(network).penalty(x)
    encoder, _ = matrices(CodedTerm())
    torch.testing.assert_close(network.seen[1], encoder.float() @ x)


def test_a_look_in_inference_mode_does_not_spoil_training() -> None:
    network, (x, y) = linear(7), batch(17, 7)  # a size of batch that no other test has
    with torch.inference_mode():
        CodedBranch(network).penalty(x)
    (gradient,) = torch.autograd.grad(CodedBranch(network).loss(x, y), [network.weight])
    assert gradient.isfinite().all()


# A user's own loop ----------------------------------------------------------------------------


def test_three_lines_train_a_plain_loop() -> None:
    data = load_data("digits", "train")
    samples = torch.arange(640)
    x, y = data.images(samples), data.targets(samples)
    network = nn.Sequential(nn.Flatten(), *smooth_digits())
    branch = CodedBranch(network, CodedTerm(mu=0.25))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for rows in samples.split(64) * 3:
        optimizer.zero_grad()
        loss = branch.loss(x[rows], y[rows])
        torch.autograd.backward(loss)
        optimizer.step()
    # Ten classes are guessed at .1.
    assert (branch(x).argmax(1) == y).float().mean() > 0.8


def smooth_digits() -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)]


def test_the_branch_has_the_parameters_of_its_network_and_no_others() -> None:
    network = smooth()
    branch = CodedBranch(network, CodedTerm(module="block"))
    ours = list(branch.parameters())
    assert all(a is b for a, b in zip(ours, network.parameters(), strict=True))
    assert set(branch.state_dict()) == {f"network.{key}" for key in network.state_dict()}
    assert not CodedBranch(network.eval()).training


def test_the_penalty_alone_smooths_a_classifier() -> None:
    network = load_classifier("digits_cnn")
    data, samples = load_data("digits", "train"), torch.arange(96)
    x = data.images(samples)
    branch = CodedBranch(network, CodedTerm(ratio=0.75, stop_gradient=True))
    before = branch.penalty(x).item()
    optimizer = torch.optim.Adam(network.requires_grad_(True).parameters(), lr=1e-3)
    for _ in range(10):
        optimizer.zero_grad()
        torch.autograd.backward(branch.penalty(x))
        optimizer.step()
    assert branch.penalty(x).item() < 0.7 * before


def autoencoder() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 64), nn.Unflatten(1, (1, 8, 8))
    )


@pytest.mark.parametrize("against", AGAINST)
def test_an_autoencoder_trains_without_labels(against: str) -> None:
    """With the penalty it ends with less of it than without, and both learn to reconstruct."""
    x = load_data("digits", "train").images(torch.arange(256))
    measure = CodedTerm(ratio=0.75)
    ends = {}
    for mu in (0.0, 0.8):
        network = autoencoder()
        branch = CodedBranch(network, CodedTerm(ratio=0.75, mu=mu, against=against))
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        start = F.mse_loss(network(x), x).item()
        for rows in torch.arange(256).split(64) * 10:
            optimizer.zero_grad()
            torch.autograd.backward(branch.loss(x[rows], x[rows], F.mse_loss))
            optimizer.step()
        ends[mu] = CodedBranch(network, measure).penalty(x[:64]).item()
        assert F.mse_loss(network(x), x).item() < start / 2
    assert ends[0.8] < ends[0.0]


# A run ----------------------------------------------------------------------------------------

RECIPES = [
    "coded-smoothing:ratio=3/4,mu=.5,c=.01,module=2,batch_norm=frozen",
    "dres:mu=.5,module=1,stop_gradient=true,batch_norm=joint",
    "coded-smoothing",
]


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


def run(
    out: Path, watch: Callable[[int, float], None] | None = None, **changed: Any
) -> TrainingResult:
    settings = {"data": "digits", "epochs": 3, "samples": 200, "batch_size": 64, **changed}
    return train(TrainSpec(**settings), out, progress=False, watch=watch)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_resumes_and_repeats(recipe: str, tmp_path: Path) -> None:
    whole, again, broken = (tmp_path / f"{name}.safetensors" for name in ("a", "b", "c"))

    def interrupt(epoch: int, loss: float) -> None:
        raise KeyboardInterrupt

    run(whole, model=uneasy(), recipe=recipe)
    run(again, model=uneasy(), recipe=recipe)
    with pytest.raises(KeyboardInterrupt):
        run(broken, interrupt, model=uneasy(), recipe=recipe)
    torch.rand(1)
    run(broken, model=uneasy(), recipe=recipe)
    assert whole.read_bytes() == again.read_bytes() == broken.read_bytes()


# Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mu": 1.5}, r"mu = 1\.5"),
        ({"mu": -0.1}, r"mu = -0\.1"),
        ({"mu": float("nan")}, "mu = nan"),
        ({"ratio": 0.0}, r"ratio = 0\.0"),
        ({"ratio": float("inf")}, "ratio = inf"),
        ({"c": -1.0}, r"c = -1\.0"),
        ({"against": "label"}, "Did you mean 'labels'"),
        ({"batch_norm": "joined"}, "batch_norm = 'joined' is unknown"),
        ({"module": "blok"}, "no module 'blok'. Did you mean 'block'"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_sentence(settings: dict[str, Any], words: str) -> None:
    for network in (smooth(), as_classifier(smooth())):
        with pytest.raises(ConfigError, match=words) as refused:
            CodedBranch(network, CodedTerm(**settings))
        assert "\n" not in str(refused.value)


class Strange(nn.Module):
    """A network whose parts cannot be coded, each for a reason of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.idle, self.twice, self.pair = nn.Identity(), nn.Identity(), nn.Bilinear(5, 5, 5)
        self.tall, self.split, self.embed = nn.Identity(), Split(), Whole()
        self.sum = Summed()
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.twice(x))
        x = self.pair(x, x)
        x = self.tall(torch.cat([x, x]))[: len(x)]
        x = self.split(x)[0] + self.embed((10 * x).long())
        return x + self.sum(x)


class Split(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Whole(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.double()


class Summed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(0)


@pytest.mark.parametrize("against", AGAINST)
@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("idle", "'idle' is called 0 times"),
        ("twice", "'twice' is called 2 times"),
        ("pair", "more than one tensor"),
        ("tall", "given 24 rows for a batch of 12"),
        ("split", "returns a tuple"),
        ("embed", "type torch.int64 cannot be coded"),
        ("sum", r"shape \(5,\) for 18 inputs"),
    ],
)
def test_what_cannot_be_coded_is_refused_with_the_reason(
    module: str, words: str, against: str
) -> None:
    x, y = batch()
    branch = CodedBranch(Strange(), CodedTerm(module=module, against=against))
    with pytest.raises((ConfigError, ContractError), match=words) as refused:
        branch.loss(x, y)
    assert "name a" in str(refused.value)
    assert torch.isfinite(branch(x)).all()  # the network is as it was


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"recipe": "coded-smoothing:module=linear"}, "no module 'linear'"),
        ({"recipe": "dres", "batch_size": 2}, "k = 2"),
        ({"recipe": "dres:mu=2"}, r"recipe \(recipe 'dres'\): mu = 2"),
    ],
)
def test_a_run_that_cannot_be_coded_leaves_nothing_behind(
    changed: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        run(tmp_path / "w.safetensors", model="digits_cnn", **changed)
    assert not list(tmp_path.iterdir())


def test_a_batch_of_two_is_refused() -> None:
    x, y = batch(2)
    with pytest.raises(ConfigError, match="k = 2"):
        CodedBranch(linear()).loss(x, y)


# The benchmark's scores -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    path = Path(__file__).parents[1] / "benchmarks" / "unsupervised.py"
    spec = importlib.util.spec_from_file_location("unsupervised", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for their own types
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_psnr_of_a_known_error(benchmark: ModuleType) -> None:
    x = torch.rand(3, 1, 8, 8)
    error = torch.tensor([0.1, 0.01, 1.0]).view(3, 1, 1, 1)
    torch.testing.assert_close(benchmark.psnr(x, x + error), torch.tensor([20.0, 40.0, 0.0]))


def test_ssim_is_the_papers_by_another_filter(benchmark: ModuleType) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 1, 20, 17, dtype=torch.float64)
    other = (x + 0.2 * torch.randn_like(x)).clamp(0, 1)
    bell = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)

    def mean(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        for axis in (0, 1):
            image = correlate1d(image, bell / bell.sum(), axis)
        return image[5:-5, 5:-5]

    def expected(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
        covariance = mean((a) * (b)) - mean(a) * mean(b)
        variances = [mean(i**2) - mean(i) ** 2 for i in (a, b)]
        light = (2 * mean(a) * mean(b) + 1e-4) / (mean(a) ** 2 + mean(b) ** 2 + 1e-4)
        rest = (2 * covariance + 9e-4) / (sum(variances) + 9e-4)
        return float((light * rest).mean())

    got = benchmark.ssim(x, other)
    pairs = zip(x[:, 0].numpy(), other[:, 0].numpy(), strict=True)
    np.testing.assert_allclose(got, [expected(a, b) for a, b in pairs])
    torch.testing.assert_close(benchmark.ssim(x, x), torch.ones(2, dtype=torch.float64))
