"""The Gaussian process as planners use it: against scikit-learn, Monte Carlo, finite differences, step by step."""

import dataclasses

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

from mbrl_ros.errors import ModelRejectedError
from mbrl_ros.models.gaussian_process import GaussianProcess, GaussianProcessConfig
from mbrl_ros.models.gaussian_process_training import fit
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.serialization import from_bytes, to_bytes
from mbrl_ros.planners.base import Deadline, DifferentiableDynamics, Problem
from mbrl_ros.planners.cem import CEM, CEMConfig
from mbrl_ros.planners.ddp import DDP
from mbrl_ros.planners.ilqr import ILQR
from mbrl_ros.types import Transitions

# Positions and angles not in the first places, one learned entry that is nobody's derivative, two actions.
LAYOUT = StateLayout(("v", "p", "w", "theta", "s"), ("f", "g"), ("theta",), {"p": "v", "theta": "w"}, 0.05)
NY = 3
CONFIG = GaussianProcessConfig(members=4, waves=50, iterations=8)


def transitions(n: int = 40, seed: int = 0) -> Transitions:
    rng = np.random.default_rng(seed)
    x, u = rng.normal(size=(n, 5)), rng.normal(size=(n, 2))
    theta = x[:, 3]
    change = np.stack([u[:, 0] + np.sin(theta), np.cos(theta) * x[:, 2] - u[:, 1], 0.5 * x[:, 4] * u[:, 0]], axis=1)
    return Transitions(x, u, LAYOUT.integrate(x, 0.1 * change + 0.01 * rng.normal(size=(n, NY))), np.zeros(n, int))


@pytest.fixture(scope="module")
def model() -> GaussianProcess:
    return fit(transitions(), LAYOUT, CONFIG, 0)[0]


@pytest.fixture(scope="module")
def queries() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(9)
    return rng.normal(size=(7, 5)), rng.normal(size=(7, 2))


@pytest.mark.parametrize("linear", [True, False])
def test_posterior_is_that_of_scikit_learn(linear, queries):
    data, (x, u) = transitions(), queries
    model = fit(data, LAYOUT, dataclasses.replace(CONFIG, linear=linear), 0)[0]
    a = model.arrays
    z, q = ((LAYOUT.features(*s) - a["feature_mean"]) / a["feature_std"] for s in ((data.x, data.u), (x, u)))
    y = (LAYOUT.targets(data.x, data.x_next) - a["target_mean"]) / a["target_std"]
    mean, std = model.posterior(x, u)
    for k in range(NY):
        kernel = ConstantKernel(a["signal_std"][k] ** 2) * RBF(a["length_scales"][k])
        if linear:
            kernel += ConstantKernel(a["linear_std"][k] ** 2) * DotProduct(1.0)
        # alpha is the noise of the data: without WhiteKernel the predicted std is that of the function
        peer = GaussianProcessRegressor(kernel, alpha=a["noise_std"][k] ** 2, optimizer=None).fit(z, y[:, k])
        peer_mean, peer_std = peer.predict(q, return_std=True)
        scale = a["target_std"][k]
        np.testing.assert_allclose(mean[:, k], peer_mean * scale + a["target_mean"][k], atol=1e-6 * scale)
        np.testing.assert_allclose(std[:, k], peer_std * scale, atol=1e-6 * scale)
        noisy = GaussianProcessRegressor(kernel + WhiteKernel(a["noise_std"][k] ** 2), alpha=0.0, optimizer=None)
        _, total = noisy.fit(z, y[:, k]).predict(q, return_std=True)
        ours = np.hypot(std[:, k], model.predict(x, u)[1][0, :, k])
        np.testing.assert_allclose(ours, total * scale, atol=1e-6 * scale)


def test_members_are_draws_from_the_posterior(queries):
    """Mean and covariance over 1500 draws of 2 members, frequencies drawn anew: standard errors below 2 and 4 %."""
    x, u = queries[0][:3], queries[1][:3]
    config = GaussianProcessConfig(members=2, waves=20, iterations=0)
    few = transitions(6)
    values = []
    for seed in range(1500):
        model = fit(few, LAYOUT, config, seed)[0]
        values.append(model.predict(x, u)[0][0])
    values = np.array(values)  # (draws, B, ny)
    mean, std = model.posterior(x, u)
    a = model.arrays
    np.testing.assert_allclose((values.mean(axis=0) - mean) / std, 0.0, atol=0.1)
    np.testing.assert_allclose(values.std(axis=0) / std, 1.0, atol=0.1)
    z, q = a["inputs"], (LAYOUT.features(x, u) - a["feature_mean"]) / a["feature_std"]
    for k in range(NY):  # the joint distribution over several inputs: that of one function
        kernel = ConstantKernel(a["signal_std"][k] ** 2) * RBF(a["length_scales"][k])
        kernel += ConstantKernel(a["linear_std"][k] ** 2) * DotProduct(1.0)
        peer = GaussianProcessRegressor(kernel, alpha=a["noise_std"][k] ** 2, optimizer=None).fit(z, np.zeros(len(z)))
        _, cov = peer.predict(q, return_cov=True)
        found = np.cov(values[:, :, k].T) / a["target_std"][k] ** 2
        np.testing.assert_allclose(found, cov, atol=0.12 * np.diag(cov).max())


def test_the_mean_over_members_is_the_posterior_mean(model, queries):
    members = model.predict(*queries)[0]
    np.testing.assert_allclose(members.mean(axis=0), model.posterior(*queries)[0], atol=1e-10)
    assert (members.std(axis=0) > 1e-4).all()


def test_one_member_is_the_posterior_mean(queries):
    alone = fit(transitions(), LAYOUT, dataclasses.replace(CONFIG, members=1), 0)[0]
    np.testing.assert_allclose(alone.predict(*queries)[0][0], alone.posterior(*queries)[0], atol=1e-10)


def test_what_is_not_known_grows_away_from_the_data(model):
    data = transitions()
    near, far = (model.posterior(x, data.u)[1] for x in (data.x, data.x + 6.0 * (np.arange(5) == 4)))
    assert (far.mean(axis=0) > 1.5 * near.mean(axis=0))[2], "s was never there, and drives the third entry"
    spread = [
        model.predict(x, data.u)[0].std(axis=0)[:, 2].mean() for x in (data.x, data.x + 6.0 * (np.arange(5) == 4))
    ]
    assert spread[1] > 1.5 * spread[0]


def test_rollout_is_predict_and_integrate_step_by_step(model):
    rng = np.random.default_rng(1)
    x0, actions = rng.standard_normal(5), rng.standard_normal((3, 6, 2))
    states = model.rollout(x0, actions, None, 6)
    assert states.shape == (6, 3, 7, 5) and states.dtype == np.float32
    for p in range(6):
        x = np.tile(x0, (3, 1))
        for t in range(6):
            np.testing.assert_allclose(states[p, :, t], x, atol=1e-4)
            x = LAYOUT.integrate(x, model.predict(x, actions[:, t])[0][p % 4])
        np.testing.assert_allclose(states[p, :, 6], x, atol=1e-4)


def test_the_mean_is_rolled_out_without_the_waves(model):
    rng = np.random.default_rng(4)
    starts, actions = rng.normal(size=(2, 5)), 0.3 * rng.normal(size=(6, 5, 2))
    states = model.with_propagation("mean").rollout(starts, actions, None, 2)
    for p in range(2):
        x = np.tile(starts[p], (6, 1))
        for t in range(5):
            x = model.step(x, actions[:, t])
            np.testing.assert_allclose(states[p, :, t + 1], x, atol=2e-4)
    assert np.abs(states[0] - model.rollout(starts[0], actions, None, 1)[0]).max() > 1e-3


def test_rollout_takes_one_start_a_particle(model):
    starts, actions = np.random.default_rng(2).standard_normal((4, 5)), np.zeros((2, 3, 2))
    together = model.rollout(starts, actions, None, 4)
    assert np.array_equal(together[0], model.rollout(starts[0], actions, None, 4)[0])
    assert not np.allclose(together[2], together[0])


def test_sampled_noise_has_the_predicted_spread_and_is_shared_by_the_candidates(model):
    x0, u = np.full(5, 0.3), np.full((2, 1, 2), -0.4)
    states = model.rollout(x0, u, np.random.default_rng(3), 40_000)
    np.testing.assert_array_equal(states[:, 0], states[:, 1])
    mean, std = model.predict(x0[None], u[0])
    for e in range(4):
        change = (states[e::4, 0, 1] - x0)[:, LAYOUT.learned]
        # 10000 draws: the standard errors are 1 % of the spread for the mean, 0.7 % for the spread
        np.testing.assert_allclose(change.mean(axis=0), mean[e, 0], atol=0.05 * std[e, 0].min())
        np.testing.assert_allclose(change.std(axis=0), std[e, 0], rtol=0.04)


def test_step_is_the_mean_of_one_rollout_step(model, queries):
    x, u = queries
    ahead = np.stack(
        [model.rollout(a, b[None, None], None, 4)[:, 0, 1].mean(axis=0) for a, b in zip(x, u, strict=True)]
    )
    np.testing.assert_allclose(model.step(x, u), ahead, atol=2e-5)


def test_jacobians_are_finite_differences(model, queries):
    x, u = queries
    A, B = model.linearize(x, u)
    h = 1e-6
    for i in range(5):
        e = h * (np.arange(5) == i)
        np.testing.assert_allclose(A[:, :, i], (model.step(x + e, u) - model.step(x - e, u)) / (2 * h), atol=1e-7)
    for j in range(2):
        e = h * (np.arange(2) == j)
        np.testing.assert_allclose(B[:, :, j], (model.step(x, u + e) - model.step(x, u - e)) / (2 * h), atol=1e-7)


def test_hessian_is_second_finite_differences(model, queries):
    x, u = queries
    H, h = model.hessian(x, u), 1e-3
    for i in range(7):
        for j in range(7):
            a, b = h * np.eye(7)[i], h * np.eye(7)[j]
            terms = [
                s * t * model.step(x + (s * a + t * b)[:5], u + (s * a + t * b)[5:]) for s in (1, -1) for t in (1, -1)
            ]
            np.testing.assert_allclose(H[:, :, i, j], sum(terms) / (4 * h * h), atol=2e-5)


def test_feature_jacobian_is_finite_differences(queries):
    x, u = queries
    J, h = LAYOUT.feature_jacobian(x), 1e-6
    for i in range(7):
        e = h * np.eye(7)[i]
        ahead, behind = (LAYOUT.features(x + s * e[:5], u + s * e[5:]) for s in (1, -1))
        np.testing.assert_allclose(J[:, :, i], (ahead - behind) / (2 * h), atol=1e-8)


class Quadratic:
    """Towards the origin."""

    def running_cost(self, x, u):
        return (x**2).sum(axis=-1) + 0.1 * (u**2).sum(axis=-1)

    def terminal_cost(self, x):
        return (x**2).sum(axis=-1)


@pytest.mark.parametrize("planner", [ILQR(ILQR.config_class()), DDP(DDP.config_class()), CEM(CEMConfig(samples=64))])
def test_planners_plan_through_it(model, planner):
    assert isinstance(model, DifferentiableDynamics)
    problem = Problem(model, Quadratic(), -np.ones(2), np.ones(2), horizon=6, particles=4)
    x0 = np.full(5, 0.4)
    plan, _ = planner.plan(problem, x0, planner.initial_state(problem), np.random.default_rng(0), Deadline())

    def cost(actions):
        states = model.rollout(x0, actions[None], None, 4)[:, 0]
        return (states**2).sum(axis=(1, 2)).mean() + 0.1 * (actions**2).sum()

    assert cost(plan.actions) < 0.98 * cost(np.zeros((6, 2)))


def test_bytes_come_back_as_the_same_model(model, queries):
    data = to_bytes(model, 3, 40, "robot")
    again, header = from_bytes(data, "robot", LAYOUT)
    assert (header.kind, header.version, header.data_size) == ("gaussian_process", 3, 40)
    for name, array in model.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)
    np.testing.assert_array_equal(again.posterior(*queries)[1], model.posterior(*queries)[1])
    actions = np.ones((2, 3, 2))
    np.testing.assert_array_equal(
        again.rollout(np.zeros(5), actions, None, 4), model.rollout(np.zeros(5), actions, None, 4)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": np.zeros((39, 8))}, "shape"),
        ({"weights": np.zeros((4, 3, 0))}, "shape"),
        ({"wave_weights": np.zeros((3, 3, 50))}, "shape"),
        ({"slopes": np.zeros((4, 3, 7))}, "shape"),
        ({"length_scales": np.zeros((3, 8))}, "positive"),
        ({"noise_std": np.full(3, np.nan)}, "not finite"),
        ({"offsets": np.zeros((4, 3), np.float32)}, "float32; expected float64"),
    ],
    ids=str,
)
def test_arrays_that_are_no_model_are_refused(model, change, message):
    with pytest.raises(ModelRejectedError, match=message):
        to_bytes(dataclasses.replace(model, arrays=model.arrays | change), 1, 1, "robot")


def test_example_has_the_configured_size_and_stays_moderate():
    config = GaussianProcessConfig(members=3, waves=7, max_data=11)
    model = GaussianProcess.example(LAYOUT, config, np.random.default_rng(0))
    a = model.arrays
    assert (model.members, a["inputs"].shape, a["wave_phases"].shape) == (3, (11, 8), (3, 7))
    assert len(to_bytes(model, 1, 1, "robot")) > 0
    assert np.abs(model.rollout(np.zeros(5), np.ones((4, 10, 2)), np.random.default_rng(0), 3)).max() < 1e3
