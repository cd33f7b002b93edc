"""Training that cannot blow up: every trainer meets the same awkward data and makes a model that can be used."""

import dataclasses

import numpy as np
import pytest

from mbrl_ros.models import model_class
from mbrl_ros.models.evaluation import one_step_error
from mbrl_ros.models.fitting import FitError, tamed
from mbrl_ros.models.serialization import to_bytes
from mbrl_ros.models.trainers import TRAINERS
from mbrl_ros.robots.description import load_robot
from mbrl_ros.types import Transitions

LAYOUT = load_robot("cartpole").layout  # p, theta, v, omega: the robot that every model knows, also physics
QUICK = {"steps": 30, "refit_steps": 20, "width": 16, "iterations": 10, "refit_iterations": 5, "max_data": 60}


def config_of(name: str):
    """The model's settings, smaller where it has such a setting."""
    config = model_class(name).config_class()
    known = {f.name for f in dataclasses.fields(config)}
    return dataclasses.replace(config, **{k: v for k, v in QUICK.items() if k in known})


def motion(n: int, seed: int = 0) -> Transitions:
    """Smooth motion, trajectories of 30 transitions."""
    rng = np.random.default_rng(seed)
    x, u = rng.normal(size=(n, 4)), rng.normal(size=(n, 1))
    change = 0.05 * np.column_stack([u[:, 0] - 0.1 * x[:, 2], 9.0 * np.sin(x[:, 1]) - u[:, 0]])
    noise = 0.01 * rng.normal(size=(n, 2))
    return Transitions(x, u, LAYOUT.integrate(x, change + noise), np.arange(n) // 30)


def constant_inputs() -> Transitions:
    data = motion(40)
    x, u = np.tile(data.x[:1], (40, 1)), np.tile(data.u[:1], (40, 1))
    return Transitions(x, u, x + data.x_next - data.x, data.trajectory)


def constant_target() -> Transitions:
    data = motion(40)
    return Transitions(data.x, data.u, LAYOUT.integrate(data.x, np.full((40, 2), 0.1)), data.trajectory)


def duplicated() -> Transitions:
    data = motion(12)
    return data[np.repeat(np.arange(12), 5)]


def outlier(n: int = 60) -> Transitions:
    data = motion(n)
    data.x_next[17] += 1e6
    return data


def collinear() -> Transitions:
    """Velocities and the action are the same number; the place is a multiple of it."""
    data = motion(40)
    x = np.column_stack([2.0 * data.u[:, 0], data.x[:, 1], data.u[:, 0], data.u[:, 0]])
    return Transitions(x, data.u, x + data.x_next - data.x, data.trajectory)


def scaled(factor: float) -> Transitions:
    data = motion(40)
    return Transitions(factor * data.x, factor * data.u, factor * data.x_next, data.trajectory)


def still() -> Transitions:
    """Nothing ever moves."""
    data = motion(30)
    return Transitions(np.zeros((30, 4)), np.zeros((30, 1)), np.zeros((30, 4)), data.trajectory)


class Still:
    """Predicts that the velocities stay as they are: what a model that sees no motion says."""

    members = 1

    def rollout(self, x0, actions, rng, particles):
        first = np.tile(x0, (particles, len(actions), 1))
        return np.stack([first, LAYOUT.integrate(first, np.zeros((*first.shape[:-1], 2)))], axis=2)


AWKWARD = {
    "one": lambda: motion(1),
    "two": lambda: motion(2),
    "ten": lambda: motion(10),
    "constant inputs": constant_inputs,
    "constant target": constant_target,
    "still": still,
    "duplicated": duplicated,
    "outlier": outlier,
    "collinear": collinear,
    "huge": lambda: scaled(1e6),
    "tiny": lambda: scaled(1e-6),
}


def refused(name: str, case: str) -> bool:
    """Whether a clear error is the right answer: no parameters of a cart-pole explain a million metres a period."""
    return name.startswith("physics") and case == "huge"


def require_usable(model, data: Transitions) -> None:
    """It can be sent, and it predicts numbers where it has been."""
    to_bytes(model, 1, len(data), "cartpole")
    rows = slice(0, 50)
    assert np.isfinite(np.stack(model.predict(data.x[rows], data.u[rows]))).all()
    assert np.isfinite(model.step(data.x[rows], data.u[rows])).all()
    states = model.rollout(data.x[0], np.tile(data.u[0], (2, 3, 1)), np.random.default_rng(0), 3)
    assert np.isfinite(states).all()


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize("case", AWKWARD)
def test_awkward_data_give_a_usable_model(name, case):
    data, config = AWKWARD[case](), config_of(name)
    if refused(name, case):
        with pytest.raises(FitError, match=r"^fit: "):
            TRAINERS[name](data, LAYOUT, config, 0, None)
        return
    model, report = TRAINERS[name](data, LAYOUT, config, 0, None)
    assert np.isfinite(report.loss)
    require_usable(model, data)


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize("case", AWKWARD)
def test_a_good_model_survives_awkward_data_that_are_added(name, case):
    """The warm refit of a run into which something awkward has come."""
    config, good = config_of(name), motion(40, seed=1)
    model, _ = TRAINERS[name](good, LAYOUT, config, 0, None)
    bad = AWKWARD[case]()
    columns = zip(*((d.x, d.u, d.x_next, d.trajectory) for d in (good, bad)), strict=True)
    both = Transitions(*(np.concatenate(pair) for pair in columns))
    if refused(name, case):
        with pytest.raises(FitError, match=r"^fit: "):
            TRAINERS[name](both, LAYOUT, config, 0, model)
        return
    refitted, _ = TRAINERS[name](both, LAYOUT, config, 0, model)
    require_usable(refitted, both)


def test_only_what_cannot_be_motion_is_tamed():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 3))
    values[::50, 1] = 1e3  # a hit is left to the models
    np.testing.assert_array_equal(tamed(values), values)
    wild = values.copy()
    wild[[3, 7], [0, 2]] = 1e8, -1e8
    kept = np.ones((200, 3), bool)
    kept[[3, 7], [0, 2]] = False
    np.testing.assert_array_equal(tamed(wild)[kept], values[kept])
    assert tamed(wild)[3, 0] == np.delete(values[:, 0], 3).max()
    assert tamed(wild)[7, 2] == np.delete(values[:, 2], 7).min()
    rest = np.zeros((100, 1))
    rest[50:54] = 9.0  # a robot that rests nearly all the time, noise-free, and moves
    np.testing.assert_array_equal(tamed(rest), rest)


@pytest.mark.parametrize("name", TRAINERS)
def test_one_wild_outlier_does_not_end_learning(name):
    """Next to 1e6 all motion looks like none; the models must still see it."""
    config, clean = config_of(name), motion(200, seed=3)
    changes = {"steps": 600} if "steps" in {f.name for f in dataclasses.fields(config)} else {}
    model, _ = TRAINERS[name](outlier(200), LAYOUT, dataclasses.replace(config, **changes), 0, None)
    assert one_step_error(model, clean) < 0.5 * one_step_error(Still(), clean)


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["x", "u", "x_next"])
def test_rows_that_are_not_finite_are_refused_and_named(name, value, where):
    data = motion(20)
    getattr(data, where)[[7, 13], 0] = value
    if where == "x":
        getattr(data, where)[7, 2] = getattr(data, where)[13, 2] = value
    with pytest.raises(FitError, match="2 of 20 transitions are not finite, the first is 7"):
        TRAINERS[name](data, LAYOUT, config_of(name), 0, None)


@pytest.mark.parametrize("name", TRAINERS)
def test_no_data_are_refused(name):
    with pytest.raises(FitError, match="no transitions"):
        TRAINERS[name](motion(0), LAYOUT, config_of(name), 0, None)


@pytest.mark.parametrize("name", TRAINERS)
def test_a_hundred_thousand_transitions_are_taken(name):
    data = motion(100_000)
    model, report = TRAINERS[name](data, LAYOUT, config_of(name), 0, None)
    assert report.transitions == 100_000
    require_usable(model, data)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("name", ["bayesian_network", "probabilistic_ensemble"])
def test_a_loss_that_is_no_number_is_an_error(name):
    with pytest.raises(FitError, match=r"the loss became .*; the last good model stays in use"):
        TRAINERS[name](scaled(1e60), LAYOUT, config_of(name), 0, None)  # finite, but not in single precision


@pytest.mark.parametrize(
    "options", [{"bootstrap": True}, {"loss_horizon": 5}, {"holdout": 0.5, "patience": 5}], ids=str
)
@pytest.mark.parametrize("case", AWKWARD)
def test_the_ensembles_options_survive_awkward_data(options, case):
    data, config = AWKWARD[case](), dataclasses.replace(config_of("probabilistic_ensemble"), elites=2, **options)
    model, _ = TRAINERS["probabilistic_ensemble"](data, LAYOUT, config, 0, None)
    require_usable(model, data)
