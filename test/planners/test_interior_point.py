"""The interior-point method against known optima, scipy and closed forms."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import lsq_linear

from mbrl_ros.planners.interior_point import InteriorPoint, minimise


class Quadratic:
    """Half v' H v + g' v subject to A v = b and limits."""

    def __init__(self, H, g, A, b, limits=(-np.inf, np.inf)):
        self.H, self.g, self.A, self.b = H, g, A, b
        self.low, self.high = (np.full(len(g), limit, float) for limit in limits)

    def cost(self, v):
        return 0.5 * v @ self.H @ v + self.g @ v

    def gradient(self, v):
        return self.H @ v + self.g

    def constraints(self, v):
        return self.A @ v - self.b

    def jacobian(self, v):
        return sp.csr_array(self.A)

    def hessian(self, v, multipliers):
        return sp.csr_array(self.H)


class HS071:
    """Hock and Schittkowski's problem 71, the inequality with a slack v[4]; optimum 17.0140173."""

    low, high = np.array([1.0, 1, 1, 1, 25]), np.array([5.0, 5, 5, 5, np.inf])

    def cost(self, v):
        return v[0] * v[3] * (v[0] + v[1] + v[2]) + v[2]

    def gradient(self, v):
        a, b, c, d, _ = v
        return np.array([d * (2 * a + b + c), a * d, a * d + 1, a * (a + b + c), 0.0])

    def constraints(self, v):
        return np.array([v[:4].prod() - v[4], (v[:4] ** 2).sum() - 40.0])

    def jacobian(self, v):
        return sp.csr_array(np.array([[*(v[:4].prod() / v[:4]), -1.0], [*(2.0 * v[:4]), 0.0]]))

    def hessian(self, v, multipliers):
        h = 1e-6  # differences of the Lagrangian's gradient
        unit = np.eye(5) * h
        slope = [self.gradient(v + d) + self.jacobian(v + d).T @ multipliers for d in (*unit, *-unit)]
        H = (np.array(slope[:5]) - np.array(slope[5:])) / (2 * h)
        return sp.csr_array(0.5 * (H + H.T))


class Rosenbrock(Quadratic):
    """Banana valley with an upper limit on v[0]; no constraints."""

    def __init__(self, high):
        super().__init__(np.eye(2), np.zeros(2), np.zeros((0, 2)), np.zeros(0))
        self.high = np.array([high, np.inf])

    def cost(self, v):
        return 100.0 * (v[1] - v[0] ** 2) ** 2 + (1.0 - v[0]) ** 2

    def gradient(self, v):
        return np.array([-400.0 * v[0] * (v[1] - v[0] ** 2) - 2.0 * (1.0 - v[0]), 200.0 * (v[1] - v[0] ** 2)])

    def hessian(self, v, multipliers):
        return sp.csr_array(
            np.array([[1200.0 * v[0] ** 2 - 400.0 * v[1] + 2.0, -400.0 * v[0]], [-400.0 * v[0], 200.0]])
        )


def random_quadratic(seed=0, n=12, m=5):
    rng = np.random.default_rng(seed)
    M = rng.standard_normal((n, n))
    return Quadratic(M @ M.T + np.eye(n), *(rng.standard_normal(s) for s in (n, (m, n), m)))


def test_equality_quadratic_against_the_kkt_system():
    qp = random_quadratic()
    m = len(qp.b)
    kkt = np.block([[qp.H, qp.A.T], [qp.A, np.zeros((m, m))]])
    exact = np.linalg.solve(kkt, np.concatenate([-qp.g, qp.b]))
    result = minimise(qp, np.zeros(12))
    assert result.status == "converged" and result.iterations <= 3
    np.testing.assert_allclose(result.v, exact[:12], atol=1e-7)
    np.testing.assert_allclose(result.multipliers, exact[12:], atol=1e-6)


def test_bounded_least_squares_against_scipy():
    rng = np.random.default_rng(1)
    M, t = rng.standard_normal((30, 10)), 3.0 * rng.standard_normal(30)
    qp = Quadratic(M.T @ M, -M.T @ t, np.zeros((0, 10)), np.zeros(0), (-0.2, 0.3))
    result, exact = minimise(qp, np.full(10, 5.0)), lsq_linear(M, t, (-0.2, 0.3), tol=1e-12)
    assert result.status == "converged" and np.any(np.isclose(exact.x, 0.3))
    np.testing.assert_allclose(result.v, exact.x, atol=1e-6)
    assert np.all(result.v >= -0.2) and np.all(result.v <= 0.3)


def test_hock_schittkowski_71():
    result = minimise(HS071(), np.array([1.0, 5.0, 5.0, 1.0, 25.0]))
    assert result.status == "converged"
    assert np.isclose(HS071().cost(result.v), 17.0140173, atol=1e-6)
    np.testing.assert_allclose(result.v[:4], [1.0, 4.7429994, 3.8211503, 1.3794082], atol=1e-5)


@pytest.mark.parametrize(("high", "optimum"), [(np.inf, [1.0, 1.0]), (0.5, [0.5, 0.25])])
def test_nonconvex_cost_with_and_without_an_active_limit(high, optimum):
    result = minimise(Rosenbrock(high), np.array([-1.2, 1.0]))
    assert result.status == "converged"
    np.testing.assert_allclose(result.v, optimum, atol=1e-5)


def test_negative_curvature_is_left_behind():
    """v^4 / 4 - v^2 / 2 from beside its maximum at 0: Newton's method alone would go there."""

    class DoubleWell(Quadratic):
        def cost(self, v):
            return float((v**4 / 4 - v**2 / 2).sum())

        def gradient(self, v):
            return v**3 - v

        def hessian(self, v, multipliers):
            return sp.csr_array(np.diag(3 * v**2 - 1))

    result = minimise(DoubleWell(np.eye(1), np.zeros(1), np.zeros((0, 1)), np.zeros(0)), np.array([0.1]))
    assert result.status == "converged"
    np.testing.assert_allclose(result.v, 1.0, atol=1e-6)


def test_unknowns_whose_limits_meet_stay_there():
    qp = random_quadratic(2)
    qp.low[3] = qp.high[3] = 0.7
    result = minimise(qp, np.zeros(12))
    rest = np.delete(np.arange(12), 3)
    kkt = np.block([[qp.H[np.ix_(rest, rest)], qp.A[:, rest].T], [qp.A[:, rest], np.zeros((5, 5))]])
    exact = np.linalg.solve(kkt, np.concatenate([-qp.g[rest] - 0.7 * qp.H[rest, 3], qp.b - 0.7 * qp.A[:, 3]]))
    assert result.v[3] == 0.7
    np.testing.assert_allclose(result.v[rest], exact[:11], atol=1e-7)


def test_dependent_constraints_are_survived():
    qp = random_quadratic(3)
    qp.A[4], qp.b[4] = qp.A[3], qp.b[3]
    result = minimise(qp, np.zeros(12))
    assert result.status == "converged"
    assert np.abs(qp.A @ result.v - qp.b).max() < 1e-7


def test_contradicting_constraints_are_reported():
    qp = random_quadratic(4)
    qp.A[4], qp.b[4] = qp.A[3], qp.b[3] + 1.0
    result = minimise(qp, np.zeros(12), iterations=100)
    assert result.status in ("stuck", "iterations") and np.all(np.isfinite(result.v))


def test_iterations_tolerance_barrier_and_the_stop_take_effect():
    start = np.array([1.0, 5.0, 5.0, 1.0, 25.0])
    assert minimise(HS071(), start, iterations=3).status == "iterations"
    stopped = minimise(HS071(), start, allowed=iter([True, True, False]).__next__)
    assert stopped.status == "stopped" and stopped.iterations == 2
    loose, tight = (minimise(HS071(), start, tolerance=tolerance) for tolerance in (1e-3, 1e-9))
    assert loose.iterations < tight.iterations
    again = minimise(HS071(), tight.v, barrier=1e-6)
    assert again.iterations < minimise(HS071(), tight.v).iterations


def test_restoration_lowers_the_violation_and_keeps_the_limits():
    solver = InteriorPoint(HS071(), np.array([1.0, 5.0, 5.0, 1.0, 25.0]), 1e-8, 0.1)
    before = np.abs(solver.c).sum()
    assert solver.restore() and np.abs(solver.c).sum() < before
    assert np.all(solver.s_low > 0.0) and np.all(solver.s_high > 0.0)
