"""LQR against the algebraic Riccati equation, a dense KKT solve and Monte Carlo."""

import numpy as np
import pytest
from scipy.linalg import solve_discrete_are

from mbrl_ros.errors import ConfigError
from mbrl_ros.models.analytic import AnalyticDynamics
from mbrl_ros.planners import lqr
from mbrl_ros.planners.base import Deadline, Problem
from mbrl_ros.planners.lqr import LQR, LQRConfig
from mbrl_ros.robots import pendulum_equations
from mbrl_ros.tasks.pendulum_swingup import PendulumSwingup, PendulumSwingupConfig

NX, NU = 3, 2


def positive(rng: np.random.Generator, *shape: int) -> np.ndarray:
    m = rng.normal(size=(*shape, shape[-1]))
    return m @ np.swapaxes(m, -1, -2) + 0.5 * np.eye(shape[-1])


def random_problem(horizon: int, seed: int = 0) -> tuple:
    """Time-varying, affine, with cross terms: F, f, C, c, terminal."""
    rng = np.random.default_rng(seed)
    F = rng.normal(size=(horizon, NX, NX + NU)) * 0.6
    f, c = rng.normal(size=(horizon, NX)), rng.normal(size=(horizon, NX + NU))
    return F, f, positive(rng, horizon, NX + NU), c, (positive(rng, NX), rng.normal(size=NX))


def dense_kkt(F, f, C, c, terminal, x0) -> tuple[np.ndarray, np.ndarray, float]:
    """The whole problem as one linear system in (states, actions, multipliers): states, actions, cost."""
    H, n = len(F), NX + NU
    size, rows = H * n + NX, (H + 1) * NX
    P, p, E, e = np.zeros((size, size)), np.zeros(size), np.zeros((rows, size)), np.zeros(rows)
    E[:NX, :NX], e[:NX] = np.eye(NX), x0
    for t in range(H):
        z = slice(t * n, (t + 1) * n)
        P[z, z], p[z] = C[t], c[t]
        row = slice((t + 1) * NX, (t + 2) * NX)
        E[row, z], E[row, (t + 1) * n : (t + 1) * n + NX], e[row] = -F[t], np.eye(NX), f[t]
    P[-NX:, -NX:], p[-NX:] = terminal
    kkt = np.block([[P, E.T], [E, np.zeros((rows, rows))]])
    z = np.linalg.solve(kkt, np.concatenate([-p, e]))[:size]
    stages = z[:-NX].reshape(H, n)
    return np.concatenate([stages[:, :NX], z[None, -NX:]]), stages[:, NX:], 0.5 * z @ P @ z + p @ z


def roll_out(solution, F, f, x0, noise=None) -> tuple[np.ndarray, np.ndarray]:
    """Closed loop from x0 (M, nx): states (M, H + 1, nx), actions (M, H, nu)."""
    states, actions = [x0], []
    for t in range(len(F)):
        actions.append(states[-1] @ solution.K[t].T + solution.k[t])
        following = np.concatenate([states[-1], actions[-1]], axis=-1) @ F[t].T + f[t]
        states.append(following if noise is None else following + noise[:, t])
    return np.stack(states, axis=1), np.stack(actions, axis=1)


def test_equals_a_dense_kkt_solve():
    problem = random_problem(12)
    x0 = np.array([1.0, -2.0, 0.5])
    states, actions, cost = dense_kkt(*problem, x0)
    solution = lqr.solve(*problem)
    got_states, got_actions = roll_out(solution, *problem[:2], x0[None])
    np.testing.assert_allclose(got_states[0], states, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(got_actions[0], actions, rtol=1e-9, atol=1e-9)
    assert solution.cost_to_go(x0) == pytest.approx(cost, rel=1e-9)


def test_long_horizon_and_infinite_horizon_equal_the_riccati_equation():
    rng = np.random.default_rng(1)
    A, B, C = rng.normal(size=(NX, NX)), rng.normal(size=(NX, NU)), positive(rng, NX + NU)
    V = solve_discrete_are(A, B, C[:NX, :NX], C[NX:, NX:], s=C[:NX, NX:])
    H = 300
    F, zeros = np.tile(np.hstack([A, B]), (H, 1, 1)), np.zeros((H, NX))
    terminal = (np.zeros((NX, NX)), np.zeros(NX))
    finite = lqr.solve(F, zeros, np.tile(C, (H, 1, 1)), np.zeros((H, NX + NU)), terminal)
    K_inf, V_inf = lqr.solve_infinite(A, B, C)
    np.testing.assert_allclose(finite.V[0], V, rtol=1e-9)
    np.testing.assert_allclose(V_inf, V, rtol=1e-9)
    np.testing.assert_allclose(finite.K[0], K_inf, rtol=1e-9, atol=1e-9)
    assert np.abs(np.linalg.eigvals(A + B @ K_inf)).max() < 1.0


def test_noise_leaves_the_policy_and_costs_what_monte_carlo_says():
    problem = random_problem(8, seed=2)
    sigma = 0.3 * positive(np.random.default_rng(3), NX)
    plain, noisy = lqr.solve(*problem), lqr.solve(*problem, noise=sigma)
    np.testing.assert_array_equal(plain.K, noisy.K)
    np.testing.assert_array_equal(plain.k, noisy.k)
    M, x0 = 40_000, np.array([0.3, 0.1, -0.4])
    noise = np.random.default_rng(4).multivariate_normal(np.zeros(NX), sigma, size=(M, 8))
    F, f, C, c, (V, v) = problem
    states, actions = roll_out(noisy, F, f, np.tile(x0, (M, 1)), noise)
    z = np.concatenate([states[:, :-1], actions], axis=-1)
    costs = 0.5 * np.einsum("mti,tij,mtj->m", z, C, z) + np.einsum("mti,ti->m", z, c)
    end = states[:, -1]
    costs += 0.5 * np.einsum("mi,ij,mj->m", end, V, end) + end @ v
    error = costs.std() / np.sqrt(M)
    assert abs(costs.mean() - noisy.cost_to_go(x0)) < 4 * error  # four standard errors
    assert noisy.noise_cost[0] > 20 * error  # so the comparison can see the term
    assert noisy.cost_to_go(x0) - plain.cost_to_go(x0) == pytest.approx(noisy.noise_cost[0], rel=1e-12)


def test_no_minimum_is_an_error():
    F, f, C, c, terminal = random_problem(3)
    C[1, NX:, NX:] *= -100
    with pytest.raises(ConfigError, match=r"period 1: .* no minimum"):
        lqr.solve(F, f, C, c, terminal)


def test_any_memory_layout_gives_the_same_solution():
    F, f, C, c, terminal = random_problem(5)
    expected = lqr.solve(F, f, C, c, terminal)
    strided = (np.asfortranarray(a) for a in (F, f, C, c))
    np.testing.assert_array_equal(lqr.solve(*strided, terminal).V, expected.V)
    constant = (np.broadcast_to(a[:1], a.shape) for a in (F, f, C, c))
    repeated = (np.repeat(a[:1], 5, axis=0) for a in (F, f, C, c))
    np.testing.assert_array_equal(lqr.solve(*constant, terminal).K, lqr.solve(*repeated, terminal).K)


def test_infinite_horizon_without_a_solution_is_an_error():
    with pytest.raises(ConfigError, match="no stabilising solution"):
        lqr.solve_infinite(np.diag([2.0, 0.5]), np.array([[0.0], [1.0]]), np.eye(3))


@pytest.fixture(scope="module")
def pendulum() -> Problem:
    dynamics = AnalyticDynamics(pendulum_equations.derivative, 2, 1, 0.05)
    task = PendulumSwingup(PendulumSwingupConfig())
    return Problem(dynamics, task, np.array([-3.0]), np.array([3.0]), horizon=40)


def plan(problem: Problem, x0, **settings):
    planner = LQR(LQRConfig(**settings))
    return planner.plan(problem, np.asarray(x0), None, np.random.default_rng(0), Deadline())[0]


def test_planner_keeps_the_pendulum_upright_within_the_limits(pendulum):
    x = np.array([0.25, 0.0])
    for _ in range(60):
        action = plan(pendulum, x).actions[:1]
        assert np.all(np.abs(action) <= 3.0)
        x = pendulum.dynamics.step(x[None], action)[0]
    assert np.abs(x).max() < 1e-3


def test_planner_policy_near_the_goal_is_its_gain(pendulum):
    x0 = np.array([1e-3, -2e-3])
    result = plan(pendulum, x0)
    np.testing.assert_allclose(result.actions[0], result.gains[0] @ x0, rtol=1e-9)
    assert result.states.shape == (41, 2)


def test_reference_and_goal_change_the_plan(pendulum):
    x0 = np.array([0.4, 0.3])
    at_goal, at_current = plan(pendulum, x0), plan(pendulum, x0, reference="current")
    assert np.abs(at_goal.actions - at_current.actions).max() > 1e-3
    elsewhere = plan(pendulum, x0, goal=(0.2, 0.0))
    assert np.abs(at_goal.actions - elsewhere.actions).max() > 1e-3


def test_wrong_goal_and_dynamics_without_derivatives_are_errors(pendulum):
    with pytest.raises(ConfigError, match="goal"):
        plan(pendulum, [0.0, 0.0], goal=(1.0, 2.0, 3.0))
    plain = Problem(object(), pendulum.task, pendulum.u_min, pendulum.u_max, 5)
    with pytest.raises(ConfigError, match="step"):
        plan(plain, [0.0, 0.0])
