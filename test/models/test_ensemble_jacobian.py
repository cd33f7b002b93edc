"""The ensemble's mean as differentiable dynamics, against float64 numpy, finite differences and torch.func."""

import numpy as np
import pytest
import torch

from mbrl_ros.models.ensemble_training import EnsembleConfig, initial_arrays
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.probabilistic_ensemble import WEIGHTS, ProbabilisticEnsemble
from mbrl_ros.planners.base import DifferentiableDynamics

# Angles and positions not in the first places, one learned entry that is nobody's derivative, two actions.
LAYOUT = StateLayout(("v", "p", "w", "theta", "s"), ("f", "g"), ("theta",), {"p": "v", "theta": "w"}, 0.05)
NY = 3


@pytest.fixture(scope="module", params=[1, 2, 4], ids=lambda n: f"{n} layers")
def model(request) -> ProbabilisticEnsemble:
    config = EnsembleConfig(members=3, layers=request.param, width=16)
    arrays = dict(initial_arrays(config, LAYOUT.n_features, NY, torch.Generator().manual_seed(0)))
    rng = np.random.default_rng(0)
    for name, low, high, n in (
        ("feature_mean", -1, 1, LAYOUT.n_features),
        ("feature_std", 0.5, 2, LAYOUT.n_features),
        ("target_mean", -1, 1, NY),
        ("target_std", 0.5, 2, NY),
    ):
        arrays[name] = rng.uniform(low, high, n).astype(np.float32)
    for name in ("b_in", "b_hidden", "b_out"):
        arrays[name] = rng.normal(size=arrays[name].shape).astype(np.float32)
    return ProbabilisticEnsemble(LAYOUT, arrays)


@pytest.fixture(scope="module")
def points() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return 2 * rng.standard_normal((7, 5)), rng.standard_normal((7, 2))


def exact_step(model: ProbabilisticEnsemble, x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The same mean in float64 numpy."""
    a = {name: array.astype(float) for name, array in model.arrays.items()}
    features = (LAYOUT.features(x, u) - a["feature_mean"]) / a["feature_std"]
    heads = []
    for e in range(model.members):
        w_in, b_in, w_hidden, b_hidden, w_out, b_out = (a[k][e] for k in WEIGHTS)
        h = features @ w_in + b_in
        for w, b in zip(w_hidden, b_hidden, strict=True):
            h = h / (1 + np.exp(-h)) @ w + b
        heads.append(h / (1 + np.exp(-h)) @ w_out + b_out)
    change = np.mean(heads, axis=0)[..., :NY] * a["target_std"] + a["target_mean"]
    return LAYOUT.integrate(x, change)


def test_is_differentiable_dynamics(model):
    assert isinstance(model, DifferentiableDynamics)


def test_step_is_the_mean_of_the_members(model, points):
    np.testing.assert_allclose(model.step(*points), exact_step(model, *points), atol=2e-5)
    means = [LAYOUT.integrate(points[0], change) for change in model.predict(*points)[0]]
    np.testing.assert_allclose(model.step(*points), np.mean(means, axis=0), atol=2e-5)


def test_jacobians_equal_finite_differences_in_float64(model, points):
    x, u = points
    A, B = model.linearize(x, u)
    z, h = np.concatenate(points, axis=1), 1e-6
    for j in range(7):
        d = np.eye(7)[j] * h
        ahead, behind = (exact_step(model, *np.split(z + s * d, [5], axis=1)) for s in (1, -1))
        got = np.concatenate([A, B], axis=2)[:, :, j]
        np.testing.assert_allclose(got, (ahead - behind) / (2 * h), atol=5e-5)  # float32 networks


def test_jacobians_equal_torch_on_the_same_weights(model, points):
    a = {name: torch.tensor(array, dtype=torch.float64) for name, array in model.arrays.items()}
    silu = torch.nn.functional.silu

    def change(z: torch.Tensor) -> torch.Tensor:
        v, p, w, theta, s, f, g = z
        features = torch.stack([v, p, w, torch.sin(theta), s, torch.cos(theta), f, g])
        h = torch.einsum("i,eij->ej", (features - a["feature_mean"]) / a["feature_std"], a["w_in"]) + a["b_in"]
        for layer in range(a["w_hidden"].shape[1]):
            h = torch.einsum("ei,eij->ej", silu(h), a["w_hidden"][:, layer]) + a["b_hidden"][:, layer]
        heads = torch.einsum("ei,eij->ej", silu(h), a["w_out"]) + a["b_out"]
        return heads[:, :NY].mean(0) * a["target_std"]

    z = torch.tensor(np.concatenate(points, axis=1))
    expected = torch.func.vmap(torch.func.jacrev(change))(z).numpy()
    A, B = model.linearize(*points)
    learned = LAYOUT.learned
    got = np.concatenate([A, B], axis=2)[:, learned] - np.eye(7)[learned]
    np.testing.assert_allclose(got, expected, atol=5e-5)


def test_rollout_under_feedback_is_step_by_step(model):
    rng = np.random.default_rng(2)
    x_hat, u_hat = rng.normal(size=(7, 5)), rng.normal(size=(6, 2))
    k, K = rng.normal(size=(6, 2)), 0.1 * rng.normal(size=(6, 2, 5))
    limits, alphas = (np.array([-1.0, -0.5]), np.array([1.0, 2.0])), np.array([1.0, 0.25])
    states, actions = model.rollout_feedback((x_hat, u_hat), (k, K), alphas, limits)
    assert states.shape == (2, 7, 5) and actions.shape == (2, 6, 2)
    for n, alpha in enumerate(alphas):
        x = x_hat[0]
        for t in range(6):
            u = np.clip(u_hat[t] + alpha * k[t] + K[t] @ (x - x_hat[t]), *limits)
            np.testing.assert_allclose(actions[n, t], u, atol=1e-9)
            x = model.step(x[None], u[None])[0]
            np.testing.assert_allclose(states[n, t + 1], x, atol=1e-4)
            x = states[n, t + 1]


def test_hessian_is_the_slope_of_the_network_in_float64():
    """Against torch's second derivatives of the same weights in double precision."""
    layout = StateLayout(("p", "a", "v", "w"), ("f",), ("a",), {"p": "v", "a": "w"}, 0.05)
    rng = np.random.default_rng(0)
    model = ProbabilisticEnsemble.example(layout, EnsembleConfig(members=3, width=16), rng)
    weights = {k: torch.tensor(v.astype(float)) for k, v in model.arrays.items()}

    def step(z):
        features = torch.stack([z[0], torch.sin(z[1]), z[2], z[3], torch.cos(z[1]), z[4]])
        h = torch.nn.functional.silu(torch.einsum("i,eio->eo", features, weights["w_in"]) + weights["b_in"])
        h = torch.einsum("ei,eio->eo", h, weights["w_hidden"][:, 0]) + weights["b_hidden"][:, 0]
        heads = torch.einsum("ei,eio->eo", torch.nn.functional.silu(h), weights["w_out"]) + weights["b_out"]
        v = z[2:4] + heads[:, :2].mean(0)
        return torch.cat([z[:2] + 0.5 * 0.05 * (z[2:4] + v), v])

    x, u = rng.standard_normal((4, 4)), rng.standard_normal((4, 1))
    hessian = model.hessian(x, u)
    for b in range(4):
        z = torch.tensor(np.concatenate([x[b], u[b]]))
        expected = np.array([torch.autograd.functional.hessian(lambda z, k=k: step(z)[k], z).numpy() for k in range(4)])
        np.testing.assert_allclose(hessian[b], expected, atol=2e-3 * np.abs(expected).max())
