"""Expansions of every task's cost against real finite differences; closed forms against the generic ones."""

from types import SimpleNamespace

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


@pytest.mark.parametrize(("task", "nx"), TASKS, ids=NAMES)
def test_the_generic_expansion_is_exact_where_a_closed_form_is_known(task, nx):
    rng = np.random.default_rng(1)
    x, u = 3.0 * rng.normal(size=(60, nx)), rng.normal(size=(60, 1))  # past both ends of the track, full turns too
    generic = SimpleNamespace(running_cost=task.running_cost, terminal_cost=task.terminal_cost)
    c, C = expand_running(generic, x, u)
    exact = task.running_expansion(x, u)
    np.testing.assert_allclose(c, exact[0], rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(C, exact[1], atol=1e-8)
    np.testing.assert_array_equal(C, C.swapaxes(1, 2))
    for t in range(5):
        v, V = expand_terminal(generic, x[t])
        np.testing.assert_allclose(v, task.terminal_expansion(x[t])[0], rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(V, task.terminal_expansion(x[t])[1], atol=1e-8)


def test_every_cross_entry_of_the_generic_hessian_is_in_its_place():
    z = np.random.default_rng(3).normal(size=(7, 4))
    c, C = expand(lambda z: z[..., 0] ** 2 * z[..., 1] + np.sin(z[..., 1] * z[..., 3]), z)
    a, b, _, d = z.T
    zero = 0.0 * a
    bend, mixed = -np.sin(b * d), np.cos(b * d) - b * d * np.sin(b * d)
    exact = [
        [2 * b, 2 * a, zero, zero],
        [2 * a, d * d * bend, zero, mixed],
        [zero, zero, zero, zero],
        [zero, mixed, zero, b * b * bend],
    ]
    np.testing.assert_allclose(c.T, [2 * a * b, a * a + d * np.cos(b * d), zero, b * np.cos(b * d)], atol=1e-14)
    np.testing.assert_allclose(C, np.moveaxis(exact, -1, 0), atol=1e-9)


def test_a_cost_may_vary_along_the_trajectory():
    """The points keep the trajectory's axis, so that a task may track a reference."""
    reference = np.linspace(0.0, 1.0, 6)[:, None]
    z = np.random.default_rng(4).normal(size=(6, 2))
    c, _ = expand(lambda z: ((z - reference) ** 2).sum(axis=-1), z)
    np.testing.assert_allclose(c, 2.0 * (z - reference), rtol=1e-14, atol=1e-15)


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


def test_convex_leaves_semidefinite_and_definite_matrices_as_they_are():
    rng = np.random.default_rng(5)
    free = np.zeros((3, 4, 4))  # one entry is not charged for
    M = rng.normal(size=(3, 3, 3))
    free[:, :3, :3] = M @ M.swapaxes(1, 2)
    np.testing.assert_array_equal(convex(free), free)
    mixed = np.stack([np.eye(2), -np.eye(2), np.array([[1.0, 2.0], [2.0, 0.0]])])
    given = mixed.copy()
    cut = convex(mixed)
    np.testing.assert_array_equal(mixed, given)
    np.testing.assert_array_equal(cut[0], np.eye(2))
    np.testing.assert_allclose(cut[1], 0.0, atol=1e-15)
    high = 0.5 + 0.5 * np.sqrt(17.0)  # the larger eigenvalue, its vector is (high, 2)
    np.testing.assert_allclose(cut[2], high * np.outer([high, 2.0], [high, 2.0]) / (high**2 + 4.0), rtol=1e-14)
    np.testing.assert_allclose(convex(-np.eye(3)), 0.0, atol=1e-15)
