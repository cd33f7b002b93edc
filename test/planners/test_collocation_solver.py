"""Direct collocation against optimal control problems with known solutions."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from mbrl_ros.errors import ConfigError
from mbrl_ros.planners.collocation_solver import (
    SCHEMES,
    CollocationSettings,
    OptimalControlProblem,
    Transcription,
    solve,
)
from mbrl_ros.robots import cartpole_equations

INF, NAN = np.inf, np.nan
BOTH = pytest.mark.parametrize("scheme", sorted(SCHEMES))


def double_integrator(x, u):
    return x[1], u[0]


def effort(x, u):
    return u[..., 0] ** 2


def minimum_effort():
    """Distance 1 in 1 s, rest to rest: u = 6 - 12 t, integral of u^2 is 12."""
    return OptimalControlProblem(
        double_integrator, np.zeros(2), np.array([1.0, 0.0]), np.array([-INF]), np.array([INF]), 1.0, effort
    )


def minimum_time(**changes):
    """Distance 1 with |u| <= 1, rest to rest: bang-bang, 2 s."""
    values = {"u_min": np.array([-1.0]), "u_max": np.array([1.0]), "duration": (0.1, 10.0), "time_weight": 1.0}
    return OptimalControlProblem(double_integrator, np.zeros(2), np.array([1.0, 0.0]), **values | changes)


def brachistochrone():
    """Bead on a wire from (0, 0) to (pi, -2) under g = 9.81: 1.0030 s."""

    def slide(x, u):
        return x[2] * np.cos(u[0]), -x[2] * np.sin(u[0]), 9.81 * np.sin(u[0])

    half_turn = np.array([0.5 * np.pi])
    ends = np.zeros(3), np.array([np.pi, -2.0, NAN])
    return OptimalControlProblem(slide, *ends, -half_turn, half_turn, (0.1, 5.0), time_weight=1.0)


def cartpole_swingup(duration=2.0):
    """From hanging to upright with the least effort, the force and the track limited."""
    track = np.array([1.0, INF, INF, INF])
    ends = np.array([0.0, np.pi, 0.0, 0.0]), np.zeros(4)
    limit = np.array([8.0])
    return OptimalControlProblem(
        cartpole_equations.derivative, *ends, -limit, limit, duration, effort, x_min=-track, x_max=track
    )


def test_minimum_effort_is_exact_with_hermite_simpson():
    """Controls linear, states cubic: the transcription holds the solution; threshold 1e-8."""
    result = solve(minimum_effort(), CollocationSettings(segments=4))
    assert result.status == "converged" and abs(result.cost - 12.0) < 1e-8
    np.testing.assert_allclose(result.u[:, 0], 6.0 - 12.0 * result.times, atol=1e-8)
    t = np.linspace(0.0, 1.0, 37)
    np.testing.assert_allclose(result.state(t), np.stack([3 * t**2 - 2 * t**3, 6 * t - 6 * t**2], axis=1), atol=1e-8)
    np.testing.assert_allclose(result.action(t)[:, 0], 6.0 - 12.0 * t, atol=1e-8)


def test_minimum_effort_approached_by_trapezoids():
    """From above, within 1 % at 20 segments."""
    result = solve(minimum_effort(), CollocationSettings(segments=20, scheme="trapezoidal"))
    assert result.status == "converged" and 12.0 < result.cost < 12.12
    assert np.abs(result.action(np.array(0.25)) - 3.0).max() < 0.3


@BOTH
def test_bounded_minimum_time(scheme):
    """Threshold 0.5 % of 2 s; full push in the first half, full brake in the second."""
    result = solve(minimum_time(), CollocationSettings(segments=20, scheme=scheme))
    assert result.status == "converged" and abs(result.duration - 2.0) < 0.01
    assert np.abs(result.u).max() <= 1.0
    assert result.u[result.times < 0.8].min() > 0.999 and result.u[result.times > 1.2].max() < -0.999


@BOTH
def test_brachistochrone(scheme):
    """1.0030 s from a straight line at no speed, where the constraints are dependent; threshold 2e-4 s."""
    result = solve(brachistochrone(), CollocationSettings(segments=30, scheme=scheme))
    assert result.status == "converged" and abs(result.duration - 1.0030) < 2e-4
    speed = np.sqrt(2 * 9.81 * np.maximum(0.0, -result.x[:, 1]))  # energy
    np.testing.assert_allclose(result.x[:, 2], speed, atol=0.01)


@pytest.mark.parametrize(("scheme", "order"), [("trapezoidal", 2.0), ("hermite_simpson", 4.0)])
def test_order_of_convergence(scheme, order):
    """Integral of (x^2 + u^2) / 2 with x' = u from 1: x = cosh(2 - t) / cosh 2; order within 0.25."""

    def half_squares(x, u):
        return 0.5 * (x[..., 0] ** 2 + u[..., 0] ** 2)

    problem = OptimalControlProblem(
        lambda x, u: (u[0],), np.ones(1), np.full(1, NAN), np.array([-INF]), np.array([INF]), 2.0, half_squares
    )
    errors = []
    for segments in (8, 16, 32):
        result = solve(problem, CollocationSettings(segments=segments, scheme=scheme, tolerance=1e-12))
        exact = np.cosh(2.0 - result.times) / np.cosh(2.0)
        errors.append(np.abs(result.x[:, 0] - exact)[:: result.knots].max())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.abs(orders - order).max() < 0.25


@BOTH
def test_derivatives_against_differences(scheme):
    """Gradient, Jacobian and Hessian of the transcription by central differences; threshold 1e-5."""

    def curved(x, u):
        return x[..., 1] ** 2 * u[..., 0] + np.sin(x[..., 0])

    problem = OptimalControlProblem(
        cartpole_equations.derivative,
        np.zeros(4),
        np.full(4, NAN),
        np.full(1, -9.0),
        np.full(1, 9.0),
        (0.5, 1.5),
        curved,
        lambda x: np.cos(x[..., 1]) * x[..., 3],
        0.3,
    )
    nlp, rng = Transcription(problem, SCHEMES[scheme](3)), np.random.default_rng(0)
    v = rng.uniform(0.5, 1.0, len(nlp.low))
    y, h = rng.standard_normal(len(nlp.constraints(v))), 1e-6
    moved = [(v + d, v - d) for d in h * np.eye(len(v))]
    difference = np.array([(nlp.cost(a) - nlp.cost(b)) / (2 * h) for a, b in moved])
    np.testing.assert_allclose(nlp.gradient(v), difference, atol=1e-5)
    difference = np.array([(nlp.constraints(a) - nlp.constraints(b)) / (2 * h) for a, b in moved]).T
    np.testing.assert_allclose(nlp.jacobian(v).toarray(), difference, atol=1e-5)

    def lagrangian_gradient(v):
        return nlp.gradient(v) + nlp.jacobian(v).T @ y

    difference = np.array([(lagrangian_gradient(a) - lagrangian_gradient(b)) / (2 * h) for a, b in moved])
    np.testing.assert_allclose(nlp.hessian(v, y).toarray(), difference, atol=1e-4)


def test_cartpole_swingup_resimulated():
    """Scipy's integration under the found controls ends upright (threshold 0.1 in every entry), the limits kept."""
    coarse = solve(cartpole_swingup(), CollocationSettings(segments=20))
    result = solve(cartpole_swingup(), CollocationSettings(segments=80), (coarse.x, coarse.u, coarse.duration))
    assert coarse.status == result.status == "converged"
    assert np.abs(result.u).max() <= 8.0 and np.abs(result.x[:, 0]).max() <= 1.0
    motion = solve_ivp(
        lambda t, x: cartpole_equations.derivative(x, result.action(t)), (0.0, 2.0), result.x[0], rtol=1e-9, atol=1e-9
    )
    assert np.abs(motion.y[:, -1]).max() < 0.1


def test_state_limits_hold_and_cost():
    free = solve(minimum_time(), CollocationSettings(segments=20))
    slow = solve(minimum_time(x_max=np.array([INF, 0.5])), CollocationSettings(segments=20))
    assert slow.x[:, 1].max() <= 0.5 and free.x[:, 1].max() > 0.9
    assert abs(slow.duration - 2.5) < 0.02  # 0.5 s up, 1.5 s at 0.5 m/s, 0.5 s down


def test_terminal_cost_and_free_ends():
    """(x_T - 1)^2 + integral u^2 over 1 s with x' = u from 0: u = 1/2, cost 1/2."""
    problem = OptimalControlProblem(
        lambda x, u: (u[0],), np.zeros(1), np.full(1, NAN), -np.full(1, INF), np.full(1, INF), 1.0, effort,
        lambda x: (x[..., 0] - 1.0) ** 2,
    )  # fmt: skip
    result = solve(problem, CollocationSettings(segments=3))
    assert abs(result.cost - 0.5) < 1e-8
    np.testing.assert_allclose(result.u, 0.5, atol=1e-7)


def test_every_setting_and_the_guess_take_effect():
    base = solve(brachistochrone(), CollocationSettings(segments=10))
    assert solve(brachistochrone(), CollocationSettings(segments=12)).cost != base.cost
    assert solve(brachistochrone(), CollocationSettings(segments=10, scheme="trapezoidal")).cost > base.cost
    assert solve(brachistochrone(), CollocationSettings(segments=10, iterations=3)).status == "iterations"
    assert solve(brachistochrone(), CollocationSettings(segments=10, tolerance=1e-2)).iterations < base.iterations
    warm = solve(brachistochrone(), CollocationSettings(segments=20), (base.x, base.u, base.duration))
    assert warm.status == "converged"
    assert warm.iterations < solve(brachistochrone(), CollocationSettings(segments=20)).iterations


def test_time_weight_shortens_the_motion():
    durations = []
    for weight in (1.0, 16.0):
        free = {"running_cost": effort, "u_min": np.array([-INF]), "u_max": np.array([INF])}
        durations.append(solve(minimum_time(time_weight=weight, **free), CollocationSettings(segments=5)).duration)
    # 12 / T^3 + w T is least at T^4 = 36 / w
    np.testing.assert_allclose(durations, (36.0 / np.array([1.0, 16.0])) ** 0.25, rtol=1e-5)


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match="duration"):
        minimum_time(duration=(2.0, 1.0))
    with pytest.raises(ConfigError, match="same length"):
        minimum_time(u_max=np.ones(2))
    with pytest.raises(ConfigError, match="trapezoidal"):
        CollocationSettings(scheme="gauss")
    with pytest.raises(ConfigError, match="complex"):
        solve(minimum_time(running_cost=lambda x, u: np.abs(x[..., 0])), CollocationSettings(segments=3))
