"""What is examined, and what has been measured of it: each measure once, when a check asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from robustcode.accepted import accepted
from robustcode.adversary import Adversary, Solo
from robustcode.attacks.pgd import PGD
from robustcode.checks.base import Untested
from robustcode.checks.calls import Calls
from robustcode.checks.inside import Inside, inside_of
from robustcode.checks.pilot import FEWEST_NOISY, Pilot
from robustcode.checks.shares import SERIOUS
from robustcode.checks.slopes import Slopes, slopes_of
from robustcode.checks.state import Memory, memory_of
from robustcode.checks.watched import Course, WatchedTarget, course_of
from robustcode.data import Dataset
from robustcode.defenses.as_found import Fresh
from robustcode.defenses.base import Defense
from robustcode.defenses.wrapper import inside
from robustcode.findings import Facts, Finding, Severity
from robustcode.gradients import gradient_noise
from robustcode.judge import Verdict
from robustcode.memory import rows_at_once
from robustcode.plan import PlannedAttack
from robustcode.refusal import Sizes, flat_rejection, refuses, rejection_varies, sizes_of
from robustcode.seeds import Streams
from robustcode.target import Ledger
from robustcode.threat import ThreatModel

# Samples and held-out draws of a stochastic pilot, where nothing leaves the batch.
STOCHASTIC_SAMPLES = 16
HELD_OUT = 8
# Decisions of the judge per proposal in the pilot, for stochastic defences.
DRAWS = 20
# Of one whose decisions take several passes each, 20 over those, and these at least: rates of false
# alarms are then the same (see tests/checks/test_false_alarms.py).
FEWEST_DRAWS = 5
# Pilot samples on which the noise of gradients is measured, and what stands for infinity in JSON.
NOISE_SAMPLES = 16
LARGEST_NOISE = 1e9
# Pilot samples on which it is watched what a defence does inside.
INSIDE = 2
# The attack that is tried where the plan has no PGD.
STEPS = 20


@dataclass(kw_only=True)
class Examination:
    """A defence and pilot samples, as the checks see them.

    Attributes:
        defense: judges; its model is in eval mode.
        x: inputs, (batch, ...).
        samples: their indices in the split, int64 (batch,).
        seed: names the draws.
        y: their labels.
        threat: what attacks will be allowed.
        training: names of the modules that came in training mode.
        search: a faster copy of the defence, which attacks search; the defence itself if None.
        adversary: whom it faces.
        plan_of: the attacks that a defence with these facts will meet.
        draws: decisions of the judge on each proposal, where the defence is stochastic.
        whole_batch: inputs, labels and indices of the first batch that is attacked as a whole.
        data: the data set.
        chosen: indices of all samples that will be attacked.
        points: accuracies by what was varied (eps, steps, draws) and its value.
    """

    defense: Defense
    x: Tensor
    samples: Tensor
    seed: int = 0
    y: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    threat: ThreatModel | None = None
    training: Sequence[str] = ()
    search: Defense | None = None
    adversary: Adversary = field(default_factory=Solo)
    plan_of: Callable[[Facts], Sequence[PlannedAttack]] = lambda facts: ()
    draws: int = DRAWS
    whole_batch: tuple[Tensor, Tensor, Tensor] | None = None
    data: Dataset | None = None
    chosen: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    points: dict[str, dict[float, float]] = field(default_factory=dict)
    _held: dict[ThreatModel, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.samples.sort().values)
        # Before anything else is asked: what it remembers must not reach what is measured next.
        if self.memory.stateful and self.memory.uncopied is None:
            self.defense = Fresh(inner=self.defense)
            self.search = None

    def call(self, x: Tensor, streams: Streams) -> Tensor:
        """Scores of the judged defence, without a graph, paid for by the rows' samples."""
        self.pay(streams)
        with torch.no_grad():
            return self.defense.logits(x, streams)

    def pay(self, streams: Streams, gradients: int = 0) -> None:
        """Count a call of ``logits`` on the rows of ``streams``, and gradients of it."""
        backwards = self.defense.backwards(streams) * gradients if gradients else 0
        self.ledger.charge(streams.samples, self.defense.forwards(streams), backwards)

    def pay_for(self, defense: Defense, streams: Streams) -> None:
        """Count a gradient of another defence, or on other samples, as spent on the pilot's."""
        among = torch.arange(len(streams), device=self.samples.device) % len(self.samples)
        spent = defense.forwards(streams), defense.backwards(streams)
        self.ledger.charge(self.samples[among], *spent)

    # ---- calls and gradients

    @cached_property
    def streams(self) -> Streams:
        """Names the draws of facts."""
        return Streams.of(self.seed, "facts", self.samples)

    @cached_property
    def places(self) -> Tensor:
        """Every row, int64."""
        return torch.arange(len(self.x), device=self.x.device)

    @property
    def first_draw(self) -> Streams:
        """Names the draw of ``calls.first``."""
        return self.streams.child("draw", 0)

    @cached_property
    def calls(self) -> Calls:
        """The defence called a few times on the samples."""
        return Calls.of(self.defense, self.x, self.streams, self.ledger)

    @cached_property
    def stochastic(self) -> bool:
        """Whether calls differ, as tested."""
        return bool(self.calls.varied.any()) or rejection_varies(self.defense, *self._refusing)

    @cached_property
    def memory(self) -> Memory:
        """What other calls change in the defence's answers."""
        return memory_of(self.defense, self.x, self.streams, self.ledger)

    @cached_property
    def inside(self) -> Inside:
        """What the defence does while it answers, on a few samples."""
        rows = slice(0, INSIDE)
        return inside_of(self.defense, self.x[rows], self.streams[rows], self.ledger)

    @cached_property
    def coupled(self) -> bool:
        """Whether a sample's batch changes its scores, as declared or else as tested."""
        changed = self.calls.coupled
        # Fewer may be rounding that a quantiser made visible.
        return self.defense.batch_coupled or 2 * int(changed.sum()) >= len(changed)

    @cached_property
    def finite(self) -> Tensor:
        """Rows with finite scores, int64."""
        return self.calls.finite.nonzero().squeeze(1)

    @cached_property
    def declared_slopes(self) -> Slopes:
        """Gradients of what the defence says is to be differentiated."""
        declared = self.defense.differentiable
        return self._slopes("logits" if declared else "surrogate")

    @cached_property
    def differentiable(self) -> bool:
        """Whether ``logits`` is to be differentiated: it declares a gradient, and has one."""
        if not self.defense.differentiable or len(self.finite) == 0:
            return self.defense.differentiable
        return bool(self.declared_slopes.useful.any())

    @cached_property
    def followed(self) -> str:
        """What attacks will differentiate: logits or surrogate."""
        if self.differentiable:
            return "logits"
        given = type(inside(self.defense)).surrogate is not Defense.surrogate
        return "surrogate" if given or not self.defense.differentiable else "logits"

    @cached_property
    def slopes(self) -> Slopes:
        """Gradients of what attacks will differentiate."""
        declared = "logits" if self.defense.differentiable else "surrogate"
        return self.declared_slopes if self.followed == declared else self._slopes(self.followed)

    def _slopes(self, name: str) -> Slopes:
        rows = self.finite
        return slopes_of(
            getattr(self.defense, name),
            self.x[rows],
            self.streams[rows],
            2 if self.stochastic else 1,
            self._at_once,
            # Gradients of both losses.
            lambda streams, reached: self.pay(streams, 2 if reached else 0),
        )

    @cached_property
    def noise(self) -> float:
        """Of one draw's gradient; see gradients.gradient_noise."""
        if not self.stochastic:
            return 0.0
        rows = self.noise_rows
        streams = self.streams[rows].child("noise")
        scores_of = getattr(self.defense, self.followed)
        return gradient_noise(scores_of, self.x[rows], streams, self._at_once, self.pay)

    @property
    def _at_once(self) -> int:
        """Rows that are differentiated together."""
        return rows_at_once(len(self.x), self.defense.passes, self.x.device)

    @cached_property
    def noise_rows(self) -> Tensor:
        """Those on which the noise of gradients is measured, int64."""
        return self.finite[:NOISE_SAMPLES]

    @cached_property
    def facts(self) -> Facts:
        """What the defence was tested to be."""
        return Facts(
            stochastic=self.stochastic,
            differentiable=self.differentiable,
            batch_coupled=self.coupled,
            classes=self.calls.classes,
            noise=min(self.noise, LARGEST_NOISE),
            adversary=self.adversary_name,
            stateful=self.memory.stateful,
            detector=self.refusal[0],
            lead=self._sizes.lead,
            rejection=self._sizes.rejection,
        )

    @cached_property
    def refusal(self) -> tuple[bool, Finding | None]:
        """Whether it is a detector, and what is wrong with what it says of that."""
        return refuses(self.defense, *self._refusing)

    @cached_property
    def flat_rejection(self) -> Finding | None:
        """Where nothing leads back from what it refuses."""
        return flat_rejection(self.defense, *self._refusing)

    @cached_property
    def _sizes(self) -> Sizes:
        return sizes_of(self.defense, *self._refusing) if self.refusal[0] else Sizes(1.0, 1.0)

    @property
    def _refusing(self) -> tuple[Tensor, Tensor, Streams, Ledger]:
        return self.x, self.samples, self.streams, self.ledger

    @property
    def adversary_name(self) -> str:
        """As it is registered."""
        return type(self.adversary).__name__.lower()

    # ---- attacks

    @cached_property
    def plan(self) -> Sequence[PlannedAttack]:
        """The attacks that will be run."""
        return self.plan_of(self.facts)

    @cached_property
    def planned(self) -> bool:
        """Whether ``attack`` is one of those that will be run."""
        return any(isinstance(p.attack, PGD) for p in self.plan)

    @cached_property
    def attack(self) -> PGD:
        """The gradient attack that the pilot tries."""
        # A suite may have none: what a pilot of PGD then says is said of the pilot.
        found = (p.attack for p in self.plan if isinstance(p.attack, PGD))
        return next(found, PGD(steps=STEPS))

    def gravity(self, missed: float) -> Severity:
        """Of what the pilot's attack misses on ``missed`` samples: how far the accuracy is off.

        A failure where that is a tenth of them and nothing else in the plan searches.
        """
        alone = self.planned and sum(not p.attack.control for p in self.plan) == 1
        grave = alone and missed >= SERIOUS * len(self.right)
        return Severity.FAILURE if grave else Severity.WARNING

    @cached_property
    def once(self) -> PGD:
        """It as it is tried: until a sample is broken, or for less where nothing leaves."""
        if not self.facts.stochastic:
            return replace(self.attack, until_broken=True)
        # The plan's draws matter to whether it converges, which is tested with them.
        fewer = min(self.attack.held_out, HELD_OUT)
        return replace(self.attack, draws=1, restarts=1, held_out=fewer)

    @cached_property
    def searched(self) -> Defense:
        """The search copy; of a detector what is wrong and accepted in it."""
        return accepted(self.search or self.defense, self.facts, self.samples, self.y)

    @cached_property
    def target(self) -> WatchedTarget:
        """The face of the search copy that attacks meet."""
        return WatchedTarget(
            self.searched,
            self.ledger,
            # Nobody leaves a shared batch when broken: the others' scores would be of another one.
            stochastic=self.facts.stochastic or self.adversary.batched,
            differentiable=self.facts.differentiable,
            original=self.whole,
        )

    @cached_property
    def whole(self) -> Defense:
        """The judged defence; of a detector what is wrong and accepted in it."""
        return accepted(self.defense, self.facts, self.samples, self.y)

    @cached_property
    def pilot(self) -> Pilot:
        """Who is attacked and who judges."""
        return Pilot(
            self.defense,
            self.searched,
            self.target,
            self.ledger,
            self.facts,
            self.x,
            self.y,
            self.samples,
            self.seed,
            self.draws if self.facts.stochastic else 1,
            self.adversary.batched,
        )

    @cached_property
    def clean(self) -> Verdict:
        """The judge's decisions on the samples themselves."""
        return self.pilot.verdict(self.x, self.places, "probe clean")

    @cached_property
    def right(self) -> Tensor:
        """Rows that are right without attack, which alone are worth one; int64."""
        right = (self.clean.share_right(self.y) > 0.5).nonzero().squeeze(1)
        return right[:STOCHASTIC_SAMPLES] if self.facts.stochastic else right

    # ---- what a check may need

    @property
    def allowed(self) -> ThreatModel:
        """What attacks are allowed; see ``no_search``."""
        assert self.threat is not None
        return self.threat

    @property
    def no_search(self) -> str | None:
        """Why no attack can be tried on the pilot; None if one can."""
        if self.threat is None:
            return "nothing is attacked"
        if self.threat.eps == 0:
            return "eps is 0, so that no input but the sample itself is allowed"
        return None if len(self.right) else "no sample is right without attack"

    @property
    def no_data(self) -> str | None:
        """Why nothing can be asked about the data set; None if it is known."""
        return None if self.data is not None else "data are looked at in runs of attacks only"

    @property
    def no_randomness(self) -> str | None:
        """Why nothing can be asked about draws; None if they can differ."""
        return None if self.stochastic else "the defence is deterministic"

    @property
    def no_fixed_answer(self) -> str | None:
        """Why two searches cannot be told apart sample by sample; None if they can."""
        if self.facts.stochastic:
            return "the defence is random, so that a single decision says little"
        return "a batch is attacked as a whole" if self.adversary.batched else None

    @property
    def no_plain_model(self) -> str | None:
        """Why there is no plain model of what the adversary perturbs; None if there is."""
        if self.adversary_name == "mates":
            return "there is no plain model of other users' images"
        return None

    def need_samples(self) -> None:
        """Raise Untested where no change could stand out from the noise of so few samples."""
        count = len(self.right)
        noisy = self.no_fixed_answer is not None
        if noisy and count < FEWEST_NOISY and bool((self.held > 0).any()):
            raise Untested(
                f"{count} samples are right without attack; {FEWEST_NOISY} are needed where single "
                "decisions say little"
            )

    @cached_property
    def whole_box(self) -> ThreatModel:
        """The budget that reaches every image."""
        return self.allowed.with_eps(self.allowed.whole_box(self.x[0].numel()))

    @cached_property
    def wider(self) -> ThreatModel | None:
        """Twice the budget; None if that is no more than there is."""
        wider = self.allowed.with_eps(min(2 * self.allowed.eps, self.whole_box.eps))
        return wider if wider.eps > self.allowed.eps else None

    def held_under(self, threat: ThreatModel) -> Tensor:
        """``held`` with another budget, measured once for each."""
        if threat not in self._held:
            self._held[threat] = self.pilot.held(self.once, threat, self.right)
            self.note_eps(threat, float(self._held[threat].mean()))
        return self._held[threat]

    # ---- figures: points of (x, accuracy on what is right without attack)

    def note_eps(self, threat: ThreatModel, accuracy: float) -> None:
        """Keep a point of accuracy over eps, the least of several."""
        self._note("eps", threat.eps, accuracy)

    def note_steps(self, steps: int, standing: Tensor, held: Tensor, gain: Tensor) -> None:
        """Keep a point of accuracy over steps: ``gain`` was measured on some of what stood."""
        self._note("steps", steps, float(held.mean() - gain.mean() * standing.double().mean()))

    def note_draws(self, draws: int, accuracy: float) -> None:
        """Keep a point of accuracy over draws a step."""
        self._note("draws", draws, accuracy)

    def _note(self, curve: str, place: float, accuracy: float) -> None:
        points = self.points.setdefault(curve, {})
        points[float(place)] = min(accuracy, points.get(float(place), 1.0))

    @cached_property
    def held(self) -> Tensor:
        """Share of right decisions on what ``once`` proposes for each of ``right``, float64."""
        return self._first[0]

    @cached_property
    def survivors(self) -> Tensor:
        """Rows that ``once`` left right, for a stochastic defence in most draws; int64."""
        return self.right[self.held > 0.5]

    @cached_property
    def course(self) -> Course:
        """The way that ``once`` took on ``right``; several restarts one after the other."""
        return self._first[1]

    @cached_property
    def _first(self) -> tuple[Tensor, Course]:
        with self.target.watched() as kept:
            held = self.pilot.held(self.once, self.allowed, self.right)
        draws = self.once.draws if self.target.stochastic else 1
        self.note_eps(self.allowed, float(held.mean()))
        return held, course_of(kept, self.samples[self.right].cpu(), draws)
