"""The learning loop: nothing counts before it is stored, a failed fit changes nothing, errors are honest."""

from dataclasses import astuple

import numpy as np
import pytest

from mbrl_ros.control.change_detection import ChangeConfig
from mbrl_ros.control.learner import Learner
from mbrl_ros.data.pairing import Pair
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.errors import StoreError
from mbrl_ros.models.base import LearnedModel
from mbrl_ros.models.fitting import FitError
from mbrl_ros.models.layout import StateLayout

LAYOUT = StateLayout(("p", "v"), ("u",), (), {"p": "v"}, 1.0)


class Shift:
    """Predicts that every entry grows by `step` each period."""

    members, nx, array_type = 1, 2, np.float64

    def __init__(self, step, std=0.0):
        self.step, self.std, self.scale = step, std, None

    def with_arrays(self, horizon_scale):
        other = Shift(self.step, self.std)
        other.scale = horizon_scale
        return other

    def observed(self, states, rng):
        return states

    def rollout(self, x0, actions, rng, particles):
        n, horizon, _ = actions.shape
        states = np.asarray(x0) + self.step * np.arange(horizon + 1.0)[:, None] * np.ones((particles, n, 1, 1))
        return states if rng is None else states + self.std * rng.standard_normal(states.shape)


def train(data, layout, config, seed, previous):
    return Shift(float(len(data))), ("report", seed, previous)


def pair(k, trajectory=0):
    return Pair(k, np.full(2, float(k)), np.array([0.5]), np.full(2, k + 1.0), trajectory)


@pytest.fixture
def learner(tmp_path):
    with TransitionStore(tmp_path / "t.sqlite", "robot", LAYOUT) as store:
        made = Learner(store, LAYOUT, train, "config", 100)
        made.store = store
        yield made


def test_transitions_are_stored_and_come_back_after_a_restart(learner):
    for k in range(3):
        learner.add(pair(k), 0)
    again = Learner(learner.store, LAYOUT, train, "config", 100)
    assert len(again) == len(learner) == 3
    assert again.data().x_next.tolist() == [[1, 1], [2, 2], [3, 3]]


def test_what_could_not_be_stored_does_not_count(learner):
    learner.add(pair(0), 0)
    with pytest.raises(StoreError):
        learner.add(pair(0), 0)
    assert len(learner) == 1


def test_a_fit_counts_only_when_accepted(learner):
    learner.add(pair(0), 0)
    fitted = learner.fit(learner.data(), warm=True)
    assert (learner.model, learner.version, learner.trained_on) == (None, 0, 0)
    learner.accept(fitted)
    assert (learner.model.step, learner.version, learner.trained_on) == (1.0, 1, 1)


def test_a_warm_fit_starts_from_the_newest_model_and_every_fit_has_the_same_seed(learner):
    learner.add(pair(0), 0)
    learner.accept(learner.fit(learner.data(), warm=False))
    assert learner.fit(learner.data(), warm=True).report == ("report", 100, learner.model)
    assert learner.fit(learner.data(), warm=False).report == ("report", 100, None)


@pytest.mark.parametrize(
    "problem",
    [
        FitError("fit: the loss became nan; the last good model stays in use"),
        FloatingPointError("overflow"),
        np.linalg.LinAlgError("not positive definite"),
        RuntimeError("cannot allocate memory"),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_after_a_fit_that_fails_the_last_good_model_stays(learner, problem):
    def failing(*_):
        raise problem

    learner.add(pair(0), 0)
    learner.accept(learner.fit(learner.data(), warm=False))
    good, learner._train = learner.model, failing
    learner.add(pair(1), 0)
    with pytest.raises(FitError, match=f"^fit: .*{str(problem)[5:15]}.*the last good model stays in use$"):
        learner.fit(learner.data(), warm=True)
    assert learner.model is good and (learner.version, learner.trained_on, len(learner)) == (1, 1, 2)


def test_a_mistake_in_the_code_of_a_trainer_is_not_hidden(learner):
    learner._train = lambda *_: None.missing
    learner.add(pair(0), 0)
    with pytest.raises(AttributeError):
        learner.fit(learner.data(), warm=True)


def test_errors_are_those_of_the_model_the_trial_began_with_on_this_trial_only(learner):
    learner.add(pair(0), 0)
    learner.begin_trial()
    learner.add(pair(1), 1)
    assert np.isnan(astuple(learner.judge_trial(1))).all(), "there was no model when the trial began"
    learner.accept(learner.fit(learner.data()[:1], warm=False))  # grows by 1 each period: exact
    learner.begin_trial()
    for k in range(2, 6):
        learner.add(pair(k), 2)
    learner.accept(learner.fit(learner.data(), warm=False))  # grows by 6: wrong, and came too late
    verdict = learner.judge_trial(3)
    assert (verdict.one_step_error, verdict.multi_step_error) == pytest.approx((0.0, 0.0))


def test_a_trial_calibrates_the_models_to_come(learner):
    """The model believes in steps of 1 with a spread of 0.1; the motion's spread is five times as large."""
    rng = np.random.default_rng(0)
    assert learner.calibrated(Shift(1.0)).scale is None, "nothing is known before the first trial"
    learner.model = Shift(1.0, std=0.1)
    learner.begin_trial()
    for k in range(200):
        noisy = Pair(k, np.zeros(2), np.array([0.5]), 1.0 + 0.5 * rng.standard_normal(2), 0)
        learner.add(noisy, 1)
    verdict = learner.judge_trial(1)
    assert verdict.coverage_1 == verdict.coverage_h
    assert verdict.coverage_1 == pytest.approx(0.26, abs=0.1)  # P(|N(0, 1)| < 1.645 / 5)
    np.testing.assert_allclose(learner.calibrated(learner.model).scale, 5.0, rtol=0.15)


def test_a_changed_robot_is_learned_anew_from_its_change_on(tmp_path):
    """80 periods as the model says, then every velocity changes by 5 more; the model knows a noise of 0.1."""
    rng = np.random.default_rng(1)

    def period(k, extra):
        return Pair(k, np.zeros(2), np.array([0.5]), 1.0 + extra + 0.1 * rng.standard_normal(2), 0)

    with TransitionStore(tmp_path / "t.sqlite", "robot", LAYOUT) as store:
        learner = Learner(store, LAYOUT, train, "config", 100, ChangeConfig(fresh=15))
        learner.model = Believer(LAYOUT, {})
        seen = []
        for k in range(110):
            learner.add(pair := period(k, 5.0 if k >= 80 else 0.0), 1)
            if learner.changed(pair):
                seen.append(k)
            if k == 90:
                assert learner.outdated == 0, "too few to learn from"
    assert len(seen) == 1 and 81 <= seen[0] <= 100
    assert abs(learner.changed_at - 80) <= 2
    assert learner.outdated == learner.changed_at
    with TransitionStore(tmp_path / "t.sqlite", "robot", LAYOUT) as store:
        again = Learner(store, LAYOUT, train, "config", 100, ChangeConfig(fresh=15))
        assert again.outdated == learner.outdated, "a resumed run knows"
        assert len(again.data(again.outdated)) == 110 - learner.changed_at
        early = Learner(store, LAYOUT, train, "config", 100, ChangeConfig(fresh=50))
        assert early.outdated == 0 and early.changed_at == learner.changed_at, "and waits for as many as it would have"


def test_a_trainer_that_can_is_given_the_robot_before_its_last_change(tmp_path):
    given = {}

    def able(data, layout, config, seed, previous, *, former=None, discrepancy=0.0):
        given.update(data=len(data), former=None if former is None else former.x[:, 0], discrepancy=discrepancy)
        return "model", "report"

    with TransitionStore(tmp_path / "t.sqlite", "robot", LAYOUT) as store:
        learner = Learner(store, LAYOUT, able, "config", 100, ChangeConfig(fresh=15))
        for k in range(100):
            learner.add(Pair(k, np.full(2, float(k)), np.array([0.5]), np.zeros(2), k // 30), 1)
        assert learner.former() is None, "it has not changed"
        learner.fit(learner.data(), False, learner.former())
        assert given == {"data": 100, "former": None, "discrepancy": 0.0}
        for row in (40, 70):
            store.note_change(row)
    with TransitionStore(tmp_path / "t.sqlite", "robot", LAYOUT) as store:
        learner = Learner(store, LAYOUT, able, "config", 100, ChangeConfig(fresh=15, discrepancy=0.7))
        learner.fit(learner.data(learner.outdated), False, learner.former())
        assert given["data"] == 30 and given["discrepancy"] == 0.7
        np.testing.assert_array_equal(given["former"], np.arange(40.0, 70.0))
        waiting = Learner(store, LAYOUT, able, "config", 100, ChangeConfig(fresh=31))
        assert waiting.former() is None, "until there are enough newer ones all are the robot's"
        assert Learner(store, LAYOUT, train, "config", 100, ChangeConfig(fresh=15)).former() is None, "it cannot"


class Believer(LearnedModel):
    members = 1

    def predict_member(self, member, x, u):
        return np.ones((len(x), 1)), np.full((len(x), 1), 0.1)
