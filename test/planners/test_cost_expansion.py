"""Expansions of every task's cost against real finite differences; closed forms against the generic ones."""

import numpy as np
import pytest

from mbrl_ros.errors import ConfigError
from mbrl_ros.planners.cost_expansion import convex, expand, expand_running, expand_terminal
from mbrl_ros.tasks.cartpole_swingup import CartpoleSwingup, CartpoleSwingupConfig
from mbrl_ros.tasks.pendulum_swingup import PendulumSwingup, PendulumSwingupConfig

TASKS = [(CartpoleSwingup(CartpoleSwingupConfig()), 4), (PendulumSwingup(PendulumSwingupConfig()), 2)]
NAMES = ["cartpole", "pendulum"]


def numeric(cost, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and Hessian by central differences of real values: about 8 and 6 digits."""
    n, g, h = z.shape[1], 1e-6, 1e-4
    eye = np.eye(n)
    c = np.stack([(cost(z + g * d) - cost(z - g * d)) / (2 * g) for d in eye], axis=-1)
    C = np.empty((len(z), n, n))
    for i in range(n):
        for j in range(n):
            a, b = h * eye[i], h * eye[j]
            C[:, i, j] = (cost(z + a + b) - cost(z + a - b) - cost(z - a + b) + cost(z - a - b)) / (4 * h * h)
    return c, C


@pytest.fixture(params=TASKS, ids=NAMES)
def case(request):
    task, nx = request.param
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, nx)) * 1.5
    return task, x, rng.normal(size=(40, 1))


def test_running_cost(case):
    task, x, u = case
    nx = x.shape[1]
    c, C = expand_running(task, x, u)
    expected = numeric(lambda z: task.running_cost(z[:, :nx], z[:, nx:]), np.hstack([x, u]))
    np.testing.assert_allclose(c, expected[0], atol=1e-7)
    np.testing.assert_allclose(C, expected[1], atol=1e-5)
    np.testing.assert_array_equal(C, C.swapaxes(1, 2))


def test_terminal_cost(case):
    task, x, _ = case
    expected = numeric(task.terminal_cost, x[:5])
    for t in range(5):
        v, V = expand_terminal(task, x[t])
        np.testing.assert_allclose(v, expected[0][t], atol=1e-7)
        np.testing.assert_allclose(V, expected[1][t], atol=1e-5)


def test_the_generic_expansion_is_exact_where_a_closed_form_is_known():
    task = PendulumSwingup(PendulumSwingupConfig())
    rng = np.random.default_rng(1)
    x, u = rng.normal(size=(20, 2)), rng.normal(size=(20, 1))
    c, C = expand(lambda z: task.running_cost(z[..., :2], z[..., 2:]), np.hstack([x, u]))
    exact = task.running_expansion(x, u)
    np.testing.assert_allclose(c, exact[0], rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(C, exact[1], atol=1e-9)


def test_a_cost_that_is_not_complex_differentiable_is_an_error():
    z = np.ones((3, 2))
    with pytest.raises(ConfigError, match="drops imaginary parts"):
        expand(lambda z: np.abs(z).sum(axis=-1), z)
    with pytest.raises(ConfigError, match="complex numbers"):
        expand(lambda z: np.arctan2(z[..., 0], z[..., 1]), z)


def test_convex_cuts_negative_curvature_and_nothing_else():
    rng = np.random.default_rng(2)
    M = rng.normal(size=(30, 4, 4))
    M = M + M.swapaxes(1, 2)
    P = convex(M)
    values, vectors = np.linalg.eigh(M)
    for t in range(30):
        assert np.linalg.eigvalsh(P[t])[0] > -1e-12
        keep = vectors[t][:, values[t] > 0]
        np.testing.assert_allclose(P[t] @ keep, M[t] @ keep, atol=1e-12)
        np.testing.assert_allclose(P[t] @ vectors[t][:, values[t] < 0], 0.0, atol=1e-12)
    definite = np.eye(3)[None]
    np.testing.assert_array_equal(convex(definite), definite)
