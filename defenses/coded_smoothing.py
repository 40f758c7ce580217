"""Randomized coded inference with a spline code."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from robustcode.adversary import Adversary, Batch, Collusion, Gradient, Mates, Solo
from robustcode.coding import Code
from robustcode.defenses.base import DEFENSES, Defense
from robustcode.defenses.coded_batch import coded, coded_apart
from robustcode.defenses.neighbourhood import NEGLIGIBLE, SEARCHED, Neighbourhood, neighbourhood
from robustcode.defenses.pool import require_images
from robustcode.errors import ConfigError
from robustcode.models.submodule import Layer, changed, entering, path_of
from robustcode.ranks import occurrence
from robustcode.seeds import Streams

# Coded images that go through the model at once. Without a graph it bounds the memory of a call;
# measured on a CPU with small CNNs, 200 to 400 is fastest: more leave the cache (1024 images of
# 32x32 take twice as long each), fewer cost more calls than they save.
CHUNK = 256


@dataclass(frozen=True)
class Targets:
    """What malicious mates are sent against."""

    samples: Tensor  # their numbers, int64, ascending
    images: Tensor  # (samples, channels, height, width)


class Draw(NamedTuple):
    """One realisation for each row: where in its coded batch it is, and who is beside it."""

    place: Tensor  # (batch,), among the points; from an end to the middle
    others: Tensor  # (batch, mates), which of the k - 1 others each neighbour is
    mates: Tensor  # (batch, mates), indices into the pool, for those who come from there

    def rows(self, rows: slice) -> Draw:
        """The draws of some rows."""
        return Draw(self.place[rows], self.others[rows], self.mates[rows])


@DEFENSES.register("coded-smoothing")
@dataclass(frozen=True, kw_only=True)
class CodedSmoothing(Defense):
    """Encode a batch by a spline, run the model on the coded images, decode its outputs.

    A row of ``x`` is in a coded batch of its own, with k - 1 clean mates from a pool, at a place
    and beside mates that are drawn afresh at each call: one adversarial user among clean ones. So
    a row's gradient is that of its own scores alone, exactly, and never a neighbour's. Rows whose
    streams say that they are ``together`` share a batch instead, filled up from the pool; who is
    adversarial is for the adversary to say, see ``facing``.

    Coded images leave [0, 1] and are not clipped, since that would end the linearity that
    decoding relies on. A permutation and its reverse give the same scores, so a row's place is
    drawn from one half of the batch. Of a row's own batch only what its scores depend on is run,
    to what is ``negligible``; see ``neighbourhood``. With a graph, all coded images of every row
    are held until the backward pass, whatever the chunk.

    Source: coded smoothing, Moradi et al. 2025, arXiv:2510.00253v1, its randomized coded
    inference. Their attack and threat differ: there the whole batch is attacked.

    Attributes:
        mates: clean images that batches are filled up from, (pool, channels, height, width) in
            [0, 1]. It must not hold the images under attack.
        k: images in a coded batch.
        ratio: coded images per image; n = ratio k, rounded to a whole number.
        c: smoothing of both splines, lambda = c / k^4; 0 is interpolation.
        votes: draws that one deployed decision is made of.
        mean: decide by the mean scores of these draws; if not by the class of most, where a tie is
            an abstention.
        fixed: the place and the mates of a sample are the same at each call, and so known to an
            adversary who has seen one.
        module: the part of the model that is coded, by its dotted name; empty for all of it. The
            name may be that in the network inside the normalisation.
        adversary: whom it faces; the engine says so.
        negligible: what weighs less than this share of the heaviest is not run.
        targets: the samples under attack where the adversary controls only their mates.
    """

    batch_coupled: ClassVar[bool] = True

    model: nn.Module
    mates: Tensor = field(repr=False, compare=False)
    k: int = 16
    ratio: float = 1.5
    c: float = 0.0
    votes: int = 1
    mean: bool = False
    fixed: bool = False
    module: str = ""
    adversary: Adversary = field(default_factory=Solo, repr=False)
    negligible: float = field(default=NEGLIGIBLE, repr=False)
    targets: Targets | None = field(default=None, repr=False, compare=False)

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """See Defense."""
        return not self.fixed

    def __post_init__(self) -> None:
        if not 0 < self.ratio < float("inf"):
            raise ConfigError(f"ratio = {self.ratio}: coded images per image are above 0")
        if not 0 <= self.negligible <= SEARCHED:
            raise ConfigError(
                f"negligible = {self.negligible}: beyond 0 to {SEARCHED:g} too little is left of "
                "the defence to be judged; leave it out"
            )
        super().__post_init__()
        require_images(self.mates)
        if len(self.mates) < self.code.k - 1:
            raise ConfigError(
                f"a coded batch of k = {self.k} needs {self.k - 1} mates; "
                f"the pool has {len(self.mates)}"
            )
        path_of(self.model, self.module)  # a wrong name is met here

    @cached_property
    def code(self) -> Code:
        """The codec, which refuses what cannot be coded."""
        return Code(self.k, round(self.ratio * self.k), self.c)

    @property
    def around(self) -> Neighbourhood:
        """What one row depends on."""
        return neighbourhood(self.code, self.negligible)

    def quickened(self) -> CodedSmoothing:
        """See Defense.quickened: fewer coded images are run."""
        return dataclasses.replace(self, negligible=max(SEARCHED, self.negligible))

    @property
    def passes(self) -> int:
        """See Defense.passes."""
        return self.around.rows

    @property
    def reaches_inside(self) -> bool:
        """See Defense.reaches_inside."""
        return bool(self.module)

    def forwards(self, streams: Streams) -> Tensor | int:
        """See Defense.forwards."""
        if streams.together is None:
            return self.around.rows
        return _shared_out(self.code.n, self._batches(streams))

    def backwards(self, streams: Streams) -> Tensor | int:
        """See Defense.backwards."""
        if streams.together is None:
            return self.around.rows if self.adversary.stacked else self.around.followed
        return _shared_out(self.code.n * self._reach, self._batches(streams))

    def facing(self, adversary: Adversary, samples: Tensor, x: Tensor) -> CodedSmoothing:
        """See Defense.facing."""
        users = getattr(adversary, "users", 0)
        if users > self.k - 1:
            raise ConfigError(f"users = {users}: a batch of k = {self.k} has {self.k - 1} others")
        targets = Targets(samples, x) if isinstance(adversary, Mates) else None
        return dataclasses.replace(self, adversary=adversary, targets=targets)

    def inputs(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.inputs."""
        if not self.adversary.stacked:
            return x
        own = self.mates.to(x)[_chosen(streams.child("own mates"), self._users, len(self.mates))]
        if isinstance(self.adversary, Collusion):
            own = torch.cat([x[:, None], own], dim=1)
        return own.flatten(1, 2)

    @property
    def undefended(self) -> nn.Module:
        """See Defense.undefended."""
        if isinstance(self.adversary, Collusion):
            return _First(self.model, self.mates.shape[1])
        if isinstance(self.adversary, Mates):
            raise ConfigError(
                "the adversary mates changes no image that the plain model is asked about, so an "
                "attack on that model has nothing to do; leave out transfer"
            )
        return self.model

    @property
    def batch(self) -> int:
        """See Defense.batch."""
        return self.k

    def draw(self, streams: Streams) -> Draw:
        """The place and the neighbours of each row."""
        near = self.around.mates
        # A search that runs fewer of them must meet the same ones in the same draw.
        drawn = max(near, neighbourhood(self.code).mates)
        return Draw(
            # A place and its mirror image give equal scores: half of them are all there are.
            (streams.even() * self.k / 2).long(),
            _chosen(streams.child("others"), drawn, self.k - 1)[:, :near],
            _chosen(streams.child("mates"), drawn, len(self.mates))[:, :near],
        )

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.logits."""
        expected = self._input_shape
        if x.shape[1:] != expected:
            raise ConfigError(
                f"inputs of shape {tuple(x.shape[1:])} cannot share a coded batch with mates of "
                f"shape {tuple(expected)}"
            )
        if self.fixed:
            batches = None if streams.together is None else streams.together.samples
            streams = Streams.of(0, "fixed", streams.samples, batches)
        if streams.together is not None:
            return self._in_batches(x, streams)
        draw = self.draw(streams)
        size = max(1, CHUNK // self.around.rows)
        chunks = [slice(start, start + size) for start in range(0, max(1, len(x)), size)]
        return torch.cat([self._by_itself(x[c], draw.rows(c), streams[c]) for c in chunks])

    @property
    def _path(self) -> str:
        return path_of(self.model, self.module)

    @property
    def _users(self) -> int:
        """How many mates the adversary controls."""
        return getattr(self.adversary, "users", 0) or self.k - 1

    @property
    def _input_shape(self) -> torch.Size:
        channels, *size = self.mates.shape[1:]
        images = self._users if self.adversary.stacked else 1
        images += isinstance(self.adversary, Collusion)
        return torch.Size([images * channels, *size])

    @property
    def _joint(self) -> bool:
        """Whether the gradient of a whole batch is that of all its losses."""
        return isinstance(self.adversary, Batch) and self.adversary.gradient is Gradient.JOINT

    @property
    def _reach(self) -> int:
        """Backward passes through a whole batch."""
        reach = self.adversary.reach if isinstance(self.adversary, Batch) else Batch().reach
        return 1 if self._joint else min(reach, self.k)

    def _by_itself(self, x: Tensor, draw: Draw, streams: Streams) -> Tensor:
        """The scores of each row of ``x`` in its own coded batch."""
        own, mates = self._images(x, draw, streams)
        if self.module:
            # A pool's activations are the same at each call; those of perturbed mates are not.
            if self.adversary.stacked:
                flat = mates.flatten(0, 1)
                mates = entering(self.model, self._path, flat).unflatten(0, mates.shape[:2])
            else:
                mates = self._entering_pool.to(x)[draw.mates]
        around = self.around
        encoder, decoder = around.encoder.to(x)[draw.place], around.decoder.to(x)[draw.place]

        def change(given: Tensor, layer: Layer) -> Tensor:
            images = torch.baddbmm(
                encoder[:, :, 0, None] * given.flatten(1)[:, None, :],
                encoder[:, :, 1:],
                mates.flatten(2),
            ).unflatten(2, given.shape[1:])
            if not torch.is_grad_enabled() or self.adversary.stacked:
                scores = _rowwise(layer, images)
            else:
                scores = _rowwise(layer, images[:, : around.followed])
                with torch.no_grad():
                    rest = _rowwise(layer, images[:, around.followed :])
                scores = torch.cat([scores, rest], dim=1)
            # Only the row's own output is asked for, so only that is decoded.
            return torch.einsum("br,br...->b...", decoder.to(scores), scores)

        return changed(self.model, self._path, own, change)

    def _images(self, x: Tensor, draw: Draw, streams: Streams) -> tuple[Tensor, Tensor]:
        """Each row's own image, and its neighbours (batch, mates, channels, height, width)."""
        mates = self.mates.to(x)[draw.mates]
        if not self.adversary.stacked:
            return x, mates
        images = x.unflatten(1, (-1, self.mates.shape[1]))
        if isinstance(self.adversary, Collusion):
            own, users = images[:, 0], images[:, 1:]
        else:
            assert self.targets is not None
            rows = torch.searchsorted(self.targets.samples, streams.samples)
            own, users = self.targets.images.to(x)[rows], images
        theirs = draw.others < users.shape[1]
        each = torch.arange(len(x), device=x.device)[:, None]
        perturbed = users[each, draw.others.clamp(max=users.shape[1] - 1)]
        return own, perturbed.where(theirs[:, :, None, None, None], mates)

    @cached_property
    def _entering_pool(self) -> Tensor:
        with torch.no_grad():
            parts = [entering(self.model, self._path, part) for part in self.mates.split(CHUNK)]
        return torch.cat(parts)

    def _in_batches(self, x: Tensor, streams: Streams) -> Tensor:
        """The scores of rows that share their coded batch with those they are together with."""
        batches = self._batches(streams)
        scores, places = [], []
        for number in range(int(batches.max()) + 1 if len(x) else 0):
            rows = (batches == number).nonzero().squeeze(1)
            rows = rows[streams.samples[rows].argsort(stable=True)]
            scores.append(self._whole(x[rows], streams[rows]))
            places.append(rows)
        if not scores:
            return self.model(x)
        return torch.cat(scores)[torch.cat(places).argsort()]

    def _whole(self, x: Tensor, streams: Streams) -> Tensor:
        """The scores of rows in one coded batch, which clean mates fill up."""
        assert streams.together is not None
        filling = self.k - len(x)
        first = streams.together[:1].child("mates")
        mates = self.mates.to(x)[_chosen(first, filling, len(self.mates))[0]]
        # Each from an end to the middle, on either side: so parts of a draw are spread evenly.
        side = streams.child("side").bits(1)[:, 0] < 0
        own = streams.even() / 2
        # Under a name of its own: who fills up is drawn from ``first`` itself.
        theirs = first.child("along").uniform(filling, dtype=own.dtype)[0]
        along = torch.cat([own.where(side, 1 - own), theirs])
        order = along.argsort(stable=True)

        def change(given: Tensor, layer: Layer) -> Tensor:
            inputs = given[order]
            if self._joint:
                outputs = coded(layer, inputs, self.code)
            else:
                outputs = coded_apart(layer, inputs, self.code, self._reach)
            return outputs[order.argsort()]

        return changed(self.model, self._path, torch.cat([x, mates]), change)[: len(x)]

    def _batches(self, streams: Streams) -> Tensor:
        """The number of each row's coded batch, int64 of shape (batch,)."""
        assert streams.together is not None
        keys = streams.together.keys
        # A sample that is asked about twice is in two batches; so are more samples than k.
        keys = _numbered(keys, occurrence(_numbered(keys, streams.samples)))
        return _numbered(keys, occurrence(keys) // self.k)


class _First(nn.Module):
    """A model of the first image of several."""

    def __init__(self, model: nn.Module, channels: int) -> None:
        super().__init__()
        self.model = model
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes)."""
        scores: Tensor = self.model(x[:, : self.channels])
        return scores


def _rowwise(layer: Layer, images: Tensor) -> Tensor:
    """What ``layer`` gives for images (batch, rows, ...), in that shape."""
    # A copy: a layer may work in place.
    return layer(images.flatten(0, 1).clone()).unflatten(0, images.shape[:2])


def _numbered(keys: Tensor, more: Tensor) -> Tensor:
    """A number from 0 for each pair of entries that differs, int64 of shape (batch,)."""
    pairs: Tensor = torch.unique(torch.stack([keys, more]), dim=1, return_inverse=True)[1]
    return pairs


def _shared_out(passes: int, batches: Tensor) -> Tensor:
    """What a coded batch costs, shared out among its rows, int64 of shape (batch,)."""
    sizes = torch.bincount(batches)[batches]
    return passes // sizes + (occurrence(batches) < passes % sizes)


def _chosen(streams: Streams, count: int, pool: int) -> Tensor:
    """``count`` distinct indices below ``pool`` for each row, in uniform order.

    Source: Floyd's algorithm, Bentley and Floyd 1987, Communications of the ACM 30(9), and a
    shuffle; it costs the subset's size and not the pool's.
    """
    uniform = streams.uniform(count, dtype=torch.float64)
    chosen = torch.empty(uniform.shape, dtype=torch.int64, device=uniform.device)
    for i, last in enumerate(range(pool - count, pool)):
        pick = (uniform[:, i] * (last + 1)).long()
        taken = (chosen[:, :i] == pick[:, None]).any(1)
        chosen[:, i] = torch.where(taken, last, pick)
    return chosen.gather(1, streams.child("order").permutation(count))
