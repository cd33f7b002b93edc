"""What is drawn: candidates by rank, the tube against known covariances, rotations against scipy."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mbrl_ros.planners import PLANNERS, planner_class
from mbrl_ros.planners.base import Deadline, Problem
from mbrl_ros.robots.description import load_robot
from mbrl_ros.robots.kinematics import Kinematics
from mbrl_ros.visualisation.candidates import CandidateLog
from mbrl_ros.visualisation.scene import (
    CHEAP,
    EXPENSIVE,
    SIGMAS,
    candidate_paths,
    cost_colours,
    describe,
    futures,
    quaternions,
    tube,
)


class Drift:
    """A robot of four entries; particle p drifts by p mm a period, and the action moves the first entry."""

    nx, nu = 4, 1

    def rollout(self, x0, actions, rng, particles):
        n, horizon, _ = actions.shape
        states = np.empty((particles, n, horizon + 1, 4))
        states[:, :, 0] = x0
        for t in range(horizon):
            states[:, :, t + 1] = states[:, :, t]
            states[:, :, t + 1, 0] += actions[:, t, 0] + 1e-3 * np.arange(particles)[:, None]
        return states


class Distance:
    def running_cost(self, x, u):
        return x[..., 0] ** 2 + 0.0 * u[..., 0]

    def terminal_cost(self, x):
        return x[..., 0] ** 2


PROBLEM = Problem(Drift(), Distance(), np.array([-0.1]), np.array([0.1]), 5)
X0 = np.array([0.4, 0.1, 0.0, 0.0])


def plan(name, problem):
    planner = planner_class(name)(planner_class(name).config_class())
    rng = np.random.default_rng(0)
    return planner.plan(problem, X0, planner.initial_state(problem), rng, Deadline())[0]


@pytest.mark.parametrize("name", ["cem", "mppi", "random_shooting", "mcts"])
def test_looking_at_the_candidates_does_not_change_the_plan(name):
    assert name in PLANNERS
    log = CandidateLog()
    watched, alone = plan(name, replace(PROBLEM, on_evaluated=log)), plan(name, PROBLEM)
    assert watched.actions.tobytes() == alone.actions.tobytes()
    tried = log.take()
    assert tried is not None and 2 <= len(tried.costs) <= 24
    assert tried.actions.shape == (len(tried.costs), 5, 1) and (np.diff(tried.costs) >= 0).all()
    states = Drift().rollout(X0, tried.actions, None, 1)[0]
    np.testing.assert_allclose(tried.costs, (states[..., 0] ** 2)[:, :-1].sum(axis=1) + states[:, -1, 0] ** 2)
    assert log.take() is None, "each tick begins anew"


def test_cheapest_and_most_expensive_are_shown_and_infinite_ones_never():
    log = CandidateLog()
    costs = np.array([5.0, np.inf, 1.0, 3.0, 9.0])
    log(X0, np.arange(5.0).reshape(5, 1, 1), costs)
    tried = log.take(2)
    assert tried.costs.tolist() == [1.0, 9.0] and tried.actions.ravel().tolist() == [2.0, 4.0]
    log(X0, np.zeros((1, 1, 1)), np.array([np.inf]))
    assert log.take() is None


def test_paths_are_forward_kinematics_of_the_models_rollouts():
    kinematics, model = Kinematics(load_robot("cartpole")), Drift()
    actions = np.full((5, 1), 0.02)
    paths = futures(model, kinematics, np.tile(X0, (6, 1)), actions, 3)
    assert paths.shape == (3, 6, 3)
    tip = X0[0] + 5 * (0.02 + 2e-3) + 0.5 * np.sin(X0[1])
    np.testing.assert_allclose(paths[2, 5], [tip, -0.09, 0.5 * np.cos(X0[1])])
    log = CandidateLog()
    log(X0, np.stack([actions, 2 * actions]), np.array([1.0, 2.0]))
    np.testing.assert_allclose(candidate_paths(model, kinematics, log.take())[0], paths[0])


def test_the_tube_is_two_standard_deviations_along_the_axes_of_the_covariance():
    rotation, std = Rotation.from_euler("xyz", [0.3, -0.7, 1.1]).as_matrix(), np.array([0.01, 0.05, 0.2])
    points = np.random.default_rng(0).normal(size=(40_000, 2, 3)) * std @ rotation.T + [1.0, 2.0, 3.0]
    found = tube(points)
    np.testing.assert_allclose(found.centres, np.tile([1.0, 2.0, 3.0], (2, 1)), atol=0.01)
    np.testing.assert_allclose(found.half_axes, np.tile(SIGMAS * std, (2, 1)), rtol=0.02)
    np.testing.assert_allclose(np.abs(np.einsum("ij,tij->tj", rotation, found.axes)), 1.0, atol=1e-3)
    np.testing.assert_allclose(np.linalg.det(found.axes), 1.0)
    assert not tube(points[:1]).half_axes.any(), "one particle knows no spread"


def test_quaternions_are_scipys():
    rotations = Rotation.random(200, random_state=1)
    turns = np.concatenate([rotations.as_matrix(), [np.diag([1.0, -1, -1]), np.diag([-1.0, 1, -1]), np.eye(3)]])
    expected = Rotation.from_matrix(turns).as_quat()[:, [3, 0, 1, 2]]
    np.testing.assert_allclose(np.abs((quaternions(turns) * expected).sum(axis=1)), 1.0)


def test_colours_go_by_rank():
    colours = cost_colours(np.array([2.0, 1e9, 1.0]))
    np.testing.assert_allclose(colours[[2, 1]], [CHEAP, EXPENSIVE])
    np.testing.assert_allclose(colours[0], np.add(CHEAP, EXPENSIVE) / 2)
    np.testing.assert_allclose(cost_colours(np.ones(1)), [CHEAP])


def test_the_state_in_words_has_units():
    assert describe(Kinematics(load_robot("cartpole")), np.array([0.5, -1.0, 2.0, 3.0])) == (
        "cart_slider: +0.50 m, +2.00 m/s",
        "pole_hinge: -1.00 rad, +3.00 rad/s",
    )
