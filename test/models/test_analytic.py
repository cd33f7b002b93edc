"""Known dynamics: integration against scipy, derivatives against finite differences, noise against its moments."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from mbrl_ros.errors import ConfigError, UnknownNameError
from mbrl_ros.models.analytic import AnalyticDynamics
from mbrl_ros.planners.base import DifferentiableDynamics
from mbrl_ros.robots import cartpole_equations, pendulum_equations

DT = 0.05


def drag(v):
    """A helper that `duffing` calls: plain Python too."""
    return 0.1 * v


def duffing(x, u):
    """A discrete map with mixed types, a constant entry and an entry of u squared."""
    return x[0] + 0.1 * x[1], x[1] - 0.1 * (x[0] ** 3 + drag(x[1])) + 0.1 * u[0] ** 2 * x[0], 1.0


def ragged(x, u):
    """Complex numbers cannot be compared."""
    return x[0] if x[0] > 0 else -x[0], x[1]


@pytest.fixture(scope="module")
def cartpole() -> AnalyticDynamics:
    return AnalyticDynamics(cartpole_equations.derivative, 4, 1, DT)


@pytest.fixture(scope="module")
def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(20, 4)) * [1, 3, 1, 3], 5 * rng.normal(size=(20, 1))


def exact(derivative, x, u, dt):
    flow = solve_ivp(lambda t, x: derivative(x, u), (0, dt), x, method="DOP853", rtol=1e-12, atol=1e-13)
    return flow.y[:, -1]


def error(integrator: str, substeps: int, x, u) -> float:
    dynamics = AnalyticDynamics(cartpole_equations.derivative, 4, 1, DT, integrator, substeps)
    expected = np.array([exact(cartpole_equations.derivative, a, b, DT) for a, b in zip(x, u, strict=True)])
    return np.abs(dynamics.step(x, u) - expected).max()


def test_integrators_have_their_order(batch):
    rk4 = [error("rk4", n, *batch) for n in (1, 2, 4)]
    euler = [error("euler", n, *batch) for n in (8, 16, 32)]
    assert rk4[0] < 1e-3 and euler[2] < 0.2
    for coarse, fine in pairwise(rk4):
        assert 12 < coarse / fine < 24  # fourth order: 16
    for coarse, fine in pairwise(euler):
        assert 1.6 < coarse / fine < 2.4  # first order: 2


def test_rollout_is_step_by_step(cartpole):
    rng = np.random.default_rng(1)
    x0, actions = rng.normal(size=(3, 4)), rng.normal(size=(5, 7, 1))
    states = cartpole.rollout(x0, actions, None, 3)
    assert states.shape == (3, 5, 8, 4)
    for p in range(3):
        x = np.tile(x0[p], (5, 1))
        for t in range(7):
            np.testing.assert_array_equal(states[p, :, t], x)
            x = cartpole.step(x, actions[:, t])
        np.testing.assert_array_equal(states[p, :, 7], x)


def test_jacobians_equal_finite_differences(cartpole, batch):
    x, u = batch
    A, B = cartpole.linearize(x, u)
    h = 1e-6
    for j in range(4):
        d = np.eye(4)[j] * h
        np.testing.assert_allclose(A[:, :, j], (cartpole.step(x + d, u) - cartpole.step(x - d, u)) / (2 * h), atol=1e-8)
    np.testing.assert_allclose(B[:, :, 0], (cartpole.step(x, u + h) - cartpole.step(x, u - h)) / (2 * h), atol=1e-8)


def test_jacobians_are_exact_to_rounding():
    dynamics = AnalyticDynamics(pendulum_equations.derivative, 2, 1, DT, "euler")
    x, u = np.array([[0.7, -1.0]]), np.array([[0.3]])
    stiffness, inertia = 0.5 * 9.81 * np.cos(0.7), 1.0 / 3.0
    A, B = dynamics.linearize(x, u)
    expected = [[1.0, DT], [DT * stiffness / inertia, 1.0 - DT * 0.01 / inertia]]
    np.testing.assert_allclose(A[0], expected, rtol=1e-15)
    np.testing.assert_allclose(B[0], [[0.0], [DT / inertia]], rtol=1e-15)


def test_second_derivatives_equal_differences_of_jacobians(cartpole, batch):
    x, u = batch
    H = cartpole.hessian(x, u)
    z, h = np.hstack(batch), 1e-4
    for k in range(5):
        d = np.eye(5)[k] * h
        ahead, behind = (np.concatenate(cartpole.linearize(*np.split(z + s * d, [4], 1)), 2) for s in (1, -1))
        np.testing.assert_allclose(H[:, :, :, k], (ahead - behind) / (2 * h), atol=2e-6)
    np.testing.assert_array_equal(H, H.swapaxes(2, 3))


def test_discrete_map_and_its_derivatives():
    dynamics = AnalyticDynamics.discrete(duffing, 3, 1)
    x, u = np.array([[0.5, -2.0, 7.0]]), np.array([[3.0]])
    np.testing.assert_allclose(dynamics.step(x, u), [[0.3, -2.0 - 0.1 * (0.125 - 0.2) + 0.45, 1.0]], rtol=1e-14)
    A, B = dynamics.linearize(x, u)
    np.testing.assert_allclose(A[0], [[1, 0.1, 0], [-0.1 * 0.75 + 0.9, 0.99, 0], [0, 0, 0]], rtol=1e-14)
    np.testing.assert_allclose(B[0], [[0.0], [0.3], [0.0]], rtol=1e-14)
    H = dynamics.hessian(x, u)[0]
    expected = np.zeros((3, 4, 4))
    expected[1, 0, 0], expected[1, 0, 3], expected[1, 3, 0], expected[1, 3, 3] = -0.3, 0.6, 0.6, 0.1
    np.testing.assert_allclose(H, expected, atol=1e-9)


def test_rollout_under_feedback_is_step_by_step(cartpole):
    rng = np.random.default_rng(2)
    x_hat, u_hat, k = rng.normal(size=(7, 4)), rng.normal(size=(6, 1)), rng.normal(size=(6, 1))
    K, limits = rng.normal(size=(6, 1, 4)), (np.array([-1.0]), np.array([2.0]))
    alphas = np.array([1.0, 0.25])
    states, actions = cartpole.rollout_feedback((x_hat, u_hat), (k, K), alphas, limits)
    for n, alpha in enumerate(alphas):
        x = x_hat[0]
        for t in range(6):
            u = np.clip(u_hat[t] + alpha * k[t] + K[t] @ (x - x_hat[t]), *limits)
            np.testing.assert_allclose(actions[n, t], u, rtol=1e-12)
            x = cartpole.step(x[None], actions[n, t][None])[0]
            np.testing.assert_array_equal(states[n, t + 1], x)


def test_noise_has_the_given_standard_deviation_and_candidates_share_it():
    std = np.array([0.1, 0.5])
    noisy = AnalyticDynamics(pendulum_equations.derivative, 2, 1, DT, noise_std=std)
    actions = np.zeros((2, 1, 1))
    rng = np.random.default_rng(3)
    states = noisy.rollout(np.zeros(2), actions, rng, 20_000)
    np.testing.assert_array_equal(states[:, 0], states[:, 1])
    sample = states[:, 0, 1]
    np.testing.assert_allclose(sample.std(axis=0), std, rtol=0.03)  # 5 standard errors are 2.5 %
    np.testing.assert_allclose(sample.mean(axis=0), 0.0, atol=5 * std.max() / np.sqrt(20_000))
    np.testing.assert_array_equal(noisy.rollout(np.zeros(2), actions, None, 1)[0, 0, 1], 0.0)


def test_is_differentiable_dynamics(cartpole):
    assert isinstance(cartpole, DifferentiableDynamics)


def test_mistakes_name_the_function_and_the_reason():
    with pytest.raises(UnknownNameError, match="discrete, euler, rk4"):
        AnalyticDynamics(duffing, 3, 1, DT, "heun")
    with pytest.raises(ConfigError, match="duffing: returned 3 entries; expected nx = 4"):
        AnalyticDynamics(duffing, 4, 1, DT)
    with pytest.raises(ConfigError, match="substeps"):
        AnalyticDynamics(duffing, 3, 1, DT, substeps=0)
    dynamics = AnalyticDynamics.discrete(ragged, 2, 1)
    with pytest.raises(ConfigError, match="ragged: cannot be compiled"):
        dynamics.linearize(np.ones((1, 2)), np.ones((1, 1)))
