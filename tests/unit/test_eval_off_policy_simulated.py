"""Off-policy evaluation against a simulator whose true value is known: coverage, bias, and what goes wrong when."""

from dataclasses import dataclass

import numpy as np
import pytest

from molar_eval.kpi.impressions import Impressions
from molar_eval.kpi.off_policy import evaluate_policy
from molar_retrieval.ids import IdMap

SIMULATIONS = 200
RESAMPLES = 300


def _softmax(scores):
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class World:
    """Contexts of some kinds, each equally frequent; users differ in how much they click and how often they come."""

    click: np.ndarray  # probability of a click by kind of context and item
    logging: np.ndarray
    target: np.ndarray
    price: np.ndarray

    @classmethod
    def make(cls, seed, kinds=15, items=8, unevenness=0.8, sharpness=2.0, rate=0.3, likeness=0.0):
        random = np.random.default_rng(seed)
        appeal = random.normal(size=(kinds, items))
        return cls(
            click=rate / (1 + np.exp(-appeal)),
            logging=_softmax(unevenness * random.normal(size=(kinds, items)) + likeness * appeal),
            target=_softmax(sharpness * appeal),
            price=np.ones(items),
        )

    def value(self, policy):
        """The true reward per row: users click .5 or 1.5 times as often as the table says, 1 on average."""
        return float((policy * self.click * self.price).sum(axis=1).mean())

    def log(self, random, users):
        n = 1 + random.poisson(3, users)
        user = np.repeat(np.arange(users), n)
        keenness = random.choice([0.5, 1.5], users)
        kind = random.integers(len(self.click), size=len(user))
        cumulative = self.logging.cumsum(axis=1)[kind]
        item = np.minimum((random.random(len(user))[:, None] > cumulative).sum(axis=1), self.click.shape[1] - 1)
        clicked = random.random(len(user)) < self.click[kind, item] * keenness[user]
        rows = np.arange(len(user), dtype=np.int32)
        return _impressions(rows, user, item, self.logging[kind, item], clicked * self.price[item]), kind


def _impressions(context, user, item, propensity, reward):
    maps = [IdMap([str(i) for i in range(int(codes.max()) + 1)]) for codes in (context, user, item)]
    codes = [np.asarray(values, np.int32) for values in (context, user, item)]
    return Impressions(*maps, *codes, np.asarray(propensity, float), np.asarray(reward, float))


def _simulate(world, seed, users=250, simulations=SIMULATIONS, **options):
    random = np.random.default_rng(seed)
    for simulation in range(simulations):
        log, kind = world.log(random, users)
        target = world.target[kind, log.item]
        yield evaluate_policy(log, target, resamples=RESAMPLES, seed=simulation, **options)


def _check(world, evaluations, names):
    """The interval covers the truth in 90 % of the simulations, and the means are off by no more than noise."""
    evaluations = list(evaluations)
    new, old = world.value(world.target), world.value(world.logging)
    for name in names:
        truth = {"gain": new - old, "logged": old}.get(name, new)
        values = [evaluation.value(name) for evaluation in evaluations]
        covered = np.mean([value.low <= truth <= value.high for value in values])
        means = np.array([value.mean for value in values])
        noise = means.std(ddof=1) / np.sqrt(len(means))
        assert covered >= 0.90, (name, covered)
        assert covered < 1, name  # an interval that always covers is too wide to be one
        assert abs(means.mean() - truth) < 4 * noise, name
    return evaluations


@pytest.mark.slow
def test_uniform_logging():
    world = World.make(1, unevenness=0.0)
    evaluations = _check(world, _simulate(world, 11), ["logged", "replay", "ips", "snips", "gain"])
    assert np.mean([bool(evaluation.warnings) for evaluation in evaluations]) < 0.1


@pytest.mark.slow
def test_uneven_logging():
    world = World.make(2)
    evaluations = _check(world, _simulate(world, 12), ["logged", "ips", "snips", "gain"])
    assert all(evaluation.value("replay") is None for evaluation in evaluations)
    alarms = [any("mean weight" in text for text in evaluation.warnings) for evaluation in evaluations]
    assert np.mean(alarms) < 0.1


@pytest.mark.slow
def test_deterministic_target():
    made = World.make(3, unevenness=0.0, items=4)
    world = World(made.click, made.logging, np.eye(4)[made.click.argmax(axis=1)], made.price)
    evaluations = _check(world, _simulate(world, 13), ["replay", "ips", "snips", "gain"])
    for evaluation in evaluations[:10]:
        # With uniform logging and a target of zeros and ones the two are the same estimator.
        assert evaluation.value("replay").mean == pytest.approx(evaluation.value("snips").mean, rel=1e-12)


@pytest.mark.slow
def test_money():
    made = World.make(4)
    world = World(made.click, made.logging, made.target, np.array([1.0, 3, 5, 8, 10, 20, 30, 40]))
    _check(world, _simulate(world, 14, users=600), ["logged", "ips", "snips", "gain"])


@pytest.mark.slow
def test_too_few_effective_rows_cover_badly_and_say_so():
    world = World.make(5, items=30, unevenness=2.5, sharpness=3.0)
    evaluations = list(_simulate(world, 15, users=150, simulations=100))
    truth = world.value(world.target)
    covered = [value.low <= truth <= value.high for value in (e.value("ips") for e in evaluations)]
    assert np.mean(covered) < 0.85
    said = [any("effective sample size" in text for text in evaluation.warnings) for evaluation in evaluations]
    assert all(said)


def _once(change=None, target=None, likeness=0.0, **options):
    world = World.make(6, likeness=likeness)
    log, kind = world.log(np.random.default_rng(16), 1500)
    probabilities = world.target[kind, log.item] if target is None else target(world)[kind, log.item]
    propensity = log.propensity if change is None else change(log.propensity)
    log = _impressions(log.context, log.user, log.item, propensity, log.reward)
    return world, evaluate_policy(log, probabilities, **options)


def _weight_alarm(evaluation):
    return [text for text in evaluation.warnings if text.startswith("mean weight")]


def test_right_propensities_raise_no_alarm():
    world, evaluation = _once()
    assert evaluation.warnings == (evaluation.warnings[0],)
    assert evaluation.warnings[0].startswith("no replay estimate: replay needs uniform logging")
    assert evaluation.weights.mean.low <= 1 <= evaluation.weights.mean.high
    assert evaluation.value("snips").low <= world.value(world.target) <= evaluation.value("snips").high


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda p: p / 2, "too low"),
        (lambda p: np.sqrt(p), "too high"),
        (lambda p: np.full(len(p), 0.5), "too high"),
        (lambda p: np.full(len(p), 1 / 8), "too low"),
        (lambda p: np.random.default_rng(0).permutation(p), "too low"),
    ],
    ids=["halved", "root", "constant", "called uniform", "of other rows"],
)
def test_wrong_propensities_raise_the_alarm(change, text):
    world, evaluation = _once(
        change, likeness=1.0
    )  # a logging policy that was no fool: it showed what the new one likes
    (alarm,) = _weight_alarm(evaluation)
    assert text in alarm
    ips = evaluation.value("ips")
    assert not ips.low <= world.value(world.target) <= ips.high


def test_a_part_of_the_policy_that_was_never_shown_is_measured():
    made = World.make(7)
    never = made.logging.copy()
    never[:, :3] = 0
    never /= never.sum(axis=1, keepdims=True)
    world = World(made.click, never, made.target, made.price)
    log, kind = world.log(np.random.default_rng(17), 2000)
    evaluation = evaluate_policy(log, world.target[kind, log.item])
    missing = world.target[:, :3].sum(axis=1).mean()
    assert evaluation.weights.mean.mean == pytest.approx(1 - missing, abs=0.03)
    assert "never shown" in _weight_alarm(evaluation)[0]
    seen = (world.target * world.click)[:, 3:].sum(axis=1).mean()  # IPS takes what is missing for reward 0
    ips = evaluation.value("ips")
    assert ips.low <= seen <= ips.high < world.value(world.target)


def test_clipping_lowers_the_estimate_within_its_stated_bound():
    world, plain = _once()
    _, cut = _once(clip=2.0)
    lost = plain.value("ips").mean - cut.value("ips").mean
    share = cut.weights.clipped_share
    assert 0 < lost <= share * plain.weights.mean.mean + 1e-12  # largest reward: 1
    assert cut.weights.effective_rows > plain.weights.effective_rows
    assert cut.value("ips").high - cut.value("ips").low < plain.value("ips").high - plain.value("ips").low
    assert any("clipped" in text and "downwards" in text for text in cut.warnings)
    assert cut.weights.mean == plain.weights.mean
    assert cut.value("ips").high < world.value(world.target)  # the bias, which the interval does not contain


def test_the_logging_policy_itself_gains_nothing():
    _, evaluation = _once(target=lambda world: world.logging)
    gain = evaluation.value("gain")
    assert gain.mean == pytest.approx(0, abs=1e-12)
    assert gain.low is None
    assert evaluation.value("ips").mean == pytest.approx(evaluation.value("logged").mean)
    assert not _weight_alarm(evaluation)
