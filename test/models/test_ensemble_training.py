"""Fits against a known linear-Gaussian system, and everything that must not blow up."""

import dataclasses

import numpy as np
import pytest

from mbrl_ros.errors import ConfigError, MbrlError
from mbrl_ros.models.ensemble_data import bootstrap_counts
from mbrl_ros.models.ensemble_training import EnsembleConfig, fit, split_rows
from mbrl_ros.models.evaluation import multi_step_error
from mbrl_ros.models.fitting import FitError, stream
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.types import Transitions

LAYOUT = StateLayout(("a", "b"), ("u",), (), {}, 0.1)
A = np.array([[0.9, 0.2], [-0.3, 0.8]])
B = np.array([[0.5], [-1.0]])
NOISE = np.array([0.05, 0.2])
SMALL = EnsembleConfig(members=3, width=16, steps=60, refit_steps=40)


def linear_data(n: int, seed: int = 0, scale: float = 1.0, centre: float = 0.0) -> Transitions:
    rng = np.random.default_rng(seed)
    x, u = centre + scale * rng.standard_normal((n, 2)), scale * rng.standard_normal((n, 1))
    return Transitions(x, u, x @ A.T + u @ B.T + NOISE * rng.standard_normal((n, 2)), np.zeros(n, int))


def motion(trajectories: int, length: int, seed: int = 0, noise: np.ndarray = NOISE) -> Transitions:
    """Unbroken motion of the same system."""
    rng = np.random.default_rng(seed)
    x, u = rng.standard_normal((trajectories, length + 1, 2)), rng.standard_normal((trajectories, length, 1))
    for t in range(length):
        x[:, t + 1] = x[:, t] @ A.T + u[:, t] @ B.T + noise * rng.standard_normal((trajectories, 2))
    number = np.repeat(np.arange(trajectories), length)
    return Transitions(x[:, :-1].reshape(-1, 2), u.reshape(-1, 1), x[:, 1:].reshape(-1, 2), number)


def test_recovers_mean_and_noise_of_a_linear_gaussian_system():
    model, report = fit(linear_data(2000), LAYOUT, EnsembleConfig(members=3, width=24, steps=700, beta=0.0), seed=0)
    test = linear_data(400, seed=1)
    mean, std = model.predict(test.x, test.u)
    error = mean.mean(axis=0) - (test.x @ A.T + test.u @ B.T - test.x)
    assert (np.sqrt(np.mean(error**2, axis=0)) < 0.4 * NOISE).all()
    # The predicted noise level: within 15 % of the true one for both entries, which differ by a factor of 4.
    np.testing.assert_allclose(np.median(std, axis=(0, 1)), NOISE, rtol=0.15)
    assert (report.steps, report.transitions, report.warm, report.stopped) == (700, 2000, False, False)
    assert report.seconds > 0.0


def test_members_disagree_away_from_the_data():
    model, _ = fit(linear_data(100, scale=0.5), LAYOUT, EnsembleConfig(width=32, steps=300), seed=0)
    spread = [model.predict(np.full((1, 2), r), np.zeros((1, 1)))[0].std(axis=0).mean() for r in (0.0, 2.0, 6.0)]
    assert 3.0 * spread[0] < spread[1] < spread[2]


def test_same_seed_same_bytes_other_seed_others():
    data = linear_data(50)
    first, again, other = (fit(data, LAYOUT, SMALL, seed)[0] for seed in (0, 0, 1))
    assert all(first.arrays[k].tobytes() == again.arrays[k].tobytes() for k in first.arrays)
    assert not np.allclose(first.arrays["w_in"], other.arrays["w_in"])


def test_global_random_state_and_threads_stay_as_they_were():
    import torch

    torch.manual_seed(3)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    fit(linear_data(20), LAYOUT, SMALL, 0)
    assert torch.equal(before, torch.get_rng_state())
    assert threads == torch.get_num_threads()


def test_warm_start_leaves_the_function_unchanged_before_training():
    old, _ = fit(linear_data(50), LAYOUT, SMALL, 0)
    other = linear_data(80, seed=2, scale=2.0, centre=0.5)
    new, report = fit(other, LAYOUT, SMALL, 0, previous=old, stop=lambda: True)
    assert report.warm and report.stopped and report.steps == 0
    assert not np.allclose(new.arrays["feature_std"], old.arrays["feature_std"], rtol=0.2)
    for got, expected in zip(new.predict(other.x, other.u), old.predict(other.x, other.u), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_warm_start_takes_fewer_steps_and_improves():
    old, first = fit(linear_data(50), LAYOUT, SMALL, 0)
    more = linear_data(200, seed=4)
    _, untrained = fit(more, LAYOUT, SMALL, 0, previous=old, stop=lambda: True)
    _, refit = fit(more, LAYOUT, SMALL, 0, previous=old)
    assert first.steps == 60 and refit.steps == 40
    assert refit.loss < untrained.loss


@pytest.mark.parametrize("change", [{"width": 8}, {"members": 2}, {"layers": 3}])
def test_previous_model_of_another_shape_is_passed_over(change):
    old, _ = fit(linear_data(20), LAYOUT, SMALL, 0)
    model, report = fit(linear_data(20), LAYOUT, dataclasses.replace(SMALL, **change), 0, previous=old)
    assert not report.warm
    assert model.members == change.get("members", 3)


def test_previous_model_of_a_far_scale_is_passed_over():
    still = linear_data(20)
    still = Transitions(still.x, still.u, still.x, still.trajectory)  # nothing ever changes
    old, _ = fit(still, LAYOUT, SMALL, 0)
    assert not fit(linear_data(20), LAYOUT, SMALL, 0, previous=old)[1].warm


def test_stop_is_asked_before_every_step():
    answers = iter([False] * 7 + [True])
    _, report = fit(linear_data(20), LAYOUT, SMALL, 0, stop=lambda: next(answers))
    assert report.steps == 7 and report.stopped


@pytest.mark.parametrize(
    "data",
    [
        linear_data(1),
        linear_data(2),
        Transitions(np.zeros((30, 2)), np.zeros((30, 1)), np.zeros((30, 2)), np.zeros(30, int)),
        linear_data(40, scale=1e6),
        linear_data(40, scale=1e-9),
    ],
    ids=["one", "two", "constant", "huge", "tiny"],
)
def test_training_survives_awkward_data(data):
    model, report = fit(data, LAYOUT, SMALL, 0)
    assert np.isfinite(report.loss)
    assert all(np.isfinite(v).all() for v in model.arrays.values())
    assert np.isfinite(np.stack(model.predict(data.x, data.u))).all()


def test_an_outlier_costs_accuracy_but_not_the_fit():
    data = linear_data(100)
    data.x_next[17] = 1e4
    model, _ = fit(data, LAYOUT, SMALL, 0)
    assert np.isfinite(np.stack(model.predict(data.x, data.u))).all()


def test_bad_data_are_refused_with_a_clear_error():
    with pytest.raises(FitError, match="no transitions"):
        fit(linear_data(0), LAYOUT, SMALL, 0)
    data = linear_data(10)
    data.x_next[4, 1] = np.nan
    with pytest.raises(FitError, match="1 of 10 transitions are not finite, the first is 4"):
        fit(data, LAYOUT, SMALL, 0)
    assert issubclass(FitError, MbrlError)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_a_loss_that_is_no_number_is_an_error():
    with pytest.raises(FitError, match="last good model stays in use"):
        fit(linear_data(30, scale=1e60), LAYOUT, SMALL, 0)  # finite, but not in single precision


@pytest.mark.parametrize(
    "change",
    [
        {"members": 4},
        {"layers": 3},
        {"width": 24},
        {"learning_rate": 1e-2},
        {"weight_decay": 1e-2},
        {"batch_size": 8},
        {"steps": 61},
        {"beta": 0.0},
        {"mirror": True},
        {"bootstrap": True},
        {"holdout": 0.5},
        {"elites": 2},
        {"loss_horizon": 3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_setting_changes_the_model(change):
    data, x, u = motion(4, 12), np.ones((1, 2)), np.ones((1, 1))
    base = fit(data, LAYOUT, SMALL, 0)[0].predict(x, u)[0].mean(axis=0)
    changed = fit(data, LAYOUT, dataclasses.replace(SMALL, **change), 0)[0].predict(x, u)[0].mean(axis=0)
    assert not np.allclose(base, changed, rtol=1e-5)


def test_refit_steps_changes_the_refit():
    data = linear_data(50)
    old, _ = fit(data, LAYOUT, SMALL, 0)
    reports = [fit(data, LAYOUT, dataclasses.replace(SMALL, refit_steps=n), 0, previous=old)[1] for n in (5, 30)]
    assert [r.steps for r in reports] == [5, 30] and reports[0].loss != reports[1].loss


def test_mirror_learns_from_every_motion_and_its_reflection():
    data = linear_data(40, centre=1.0)
    both = Transitions(*(np.concatenate([a, -a]) for a in (data.x, data.u, data.x_next)), np.zeros(80, int))
    mirrored, report = fit(data, LAYOUT, dataclasses.replace(SMALL, mirror=True), 0)
    plain, _ = fit(both, LAYOUT, SMALL, 0)
    assert all(mirrored.arrays[k].tobytes() == plain.arrays[k].tobytes() for k in plain.arrays)
    assert report.transitions == 40


def test_a_bootstrapped_member_never_sees_what_its_resample_leaves_out():
    """Rows of count zero may hold anything: the member stays as it is, the others do not."""
    data, config = linear_data(40), dataclasses.replace(SMALL, bootstrap=True)
    out = np.flatnonzero(bootstrap_counts(5, 3, 40)[1] == 0)
    change = data.x_next - data.x
    change[out] = change[np.roll(out, 1)]  # the normaliser sees the same numbers
    other = Transitions(data.x, data.u, data.x + change, data.trajectory)
    plain, moved = (fit(d, LAYOUT, config, 5)[0].predict(data.x, data.u)[0] for d in (data, other))
    np.testing.assert_allclose(plain[1], moved[1], atol=1e-4)
    assert np.abs(plain[0] - moved[0]).max() > 0.01 and np.abs(plain[2] - moved[2]).max() > 0.01


def test_members_keep_their_resamples_in_a_refit_to_more_data():
    """Appended rows change no member's share in the earlier ones: what was never its own does not become so."""
    data, config = linear_data(40), dataclasses.replace(SMALL, bootstrap=True)
    before = split_rows(data.trajectory, 1, config, 5).own
    after = split_rows(np.zeros(70, int), 1, config, 5).own
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new[new < 40], old)
        assert len(new) > len(old)
    assert len(np.unique(before[0])) < 40, "a resample leaves some out"


def test_held_out_trajectories_are_whole_and_never_learned_from():
    data, config = motion(10, 6), dataclasses.replace(SMALL, holdout=0.3, bootstrap=True)
    split = split_rows(data.trajectory, 1, config, 0)
    judge = set(data.trajectory[split.judge])
    assert len(judge) == 3 and split.held_out
    for own in split.own:
        assert not judge & set(data.trajectory[own])
    np.testing.assert_array_equal(split.judge, np.flatnonzero(np.isin(data.trajectory, list(judge))))


def test_held_out_trajectories_shape_no_weight():
    data, config = motion(10, 6), dataclasses.replace(SMALL, holdout=0.3)
    judge = split_rows(data.trajectory, 1, config, 0).judge.numpy()
    other = data.x_next - data.x
    other[judge] = other[np.roll(judge, 1)]  # the normaliser sees the same numbers
    changed = Transitions(data.x, data.u, data.x + other, data.trajectory)
    (plain, report), (moved, worse) = (fit(d, LAYOUT, config, 0) for d in (data, changed))
    np.testing.assert_allclose(plain.predict(data.x, data.u), moved.predict(data.x, data.u), atol=1e-4)
    assert report.held_out < worse.held_out


def test_early_stopping_ends_overfitting_and_keeps_the_best_weights():
    data = motion(6, 5, noise=np.array([0.5, 0.5]))
    config = EnsembleConfig(members=3, width=32, steps=400, holdout=0.34, weight_decay=0.0)
    _, full = fit(data, LAYOUT, config, 0)
    stopped, early = fit(data, LAYOUT, dataclasses.replace(config, patience=60), 0)
    assert full.steps == 400 and early.steps < 400 and not early.stopped
    assert early.held_out < full.held_out - 0.1
    # What comes back are the weights that were judged best, not those that training ended with: judged once more here.
    judge = split_rows(data.trajectory, 1, config, 0).judge.numpy()
    mean, std = stopped.predict(data.x[judge], data.u[judge])
    scale = stopped.arrays["target_std"]
    error = (mean - (data.x_next - data.x)[judge]) / scale
    again = 0.5 * np.mean((error * scale / std) ** 2 + 2.0 * np.log(std / scale))
    assert again == pytest.approx(early.held_out, abs=1e-3)


def test_more_patience_trains_longer():
    data = motion(6, 5, noise=np.array([0.5, 0.5]))
    config = EnsembleConfig(members=2, width=32, steps=400, holdout=0.34)
    steps = [fit(data, LAYOUT, dataclasses.replace(config, patience=p), 0)[1].steps for p in (20, 120)]
    assert steps[0] < steps[1] <= 400


def test_little_patience_still_looks_before_it_gives_up():
    """Patience shorter than the usual time between two looks at what is held out: training goes on while it helps."""
    data = motion(6, 40)
    config = EnsembleConfig(members=2, width=32, steps=300, holdout=0.34, patience=5)
    _, none = fit(data, LAYOUT, dataclasses.replace(config, steps=1), 0)
    _, early = fit(data, LAYOUT, config, 0)
    assert early.steps > 20 and early.held_out < none.held_out - 0.3


def test_without_anything_held_out_nothing_is_stopped_early():
    _, report = fit(motion(1, 40), LAYOUT, dataclasses.replace(SMALL, holdout=0.3, patience=1), 0)
    assert report.steps == SMALL.steps and np.isnan(report.held_out)


def test_elites_are_the_members_of_best_held_out_likelihood():
    data, config = motion(6, 20), dataclasses.replace(SMALL, members=5, holdout=0.34, steps=20)
    everyone, _ = fit(data, LAYOUT, config, 0)
    chosen, report = fit(data, LAYOUT, dataclasses.replace(config, elites=2), 0)
    judge = split_rows(data.trajectory, 1, config, 0).judge.numpy()
    mean, std = everyone.predict(data.x[judge], data.u[judge])
    error = (data.x_next - data.x)[judge] - mean
    losses = (0.5 * (error / std) ** 2 + np.log(std / everyone.arrays["target_std"])).mean(axis=(1, 2))
    best = np.argsort(losses)[:2]
    assert everyone.members == 5 and chosen.members == 2
    np.testing.assert_array_equal(chosen.arrays["elites"], best)
    np.testing.assert_allclose(chosen.predict(data.x, data.u)[0], everyone.predict(data.x, data.u)[0][best], atol=1e-6)
    assert report.held_out == pytest.approx(losses[best].mean(), abs=1e-3)


def test_a_refit_goes_on_from_all_members_not_from_the_elites():
    data, config = motion(6, 20), dataclasses.replace(SMALL, members=4, elites=1, holdout=0.34)
    old, _ = fit(data, LAYOUT, config, 0)
    new, report = fit(data, LAYOUT, config, 0, previous=old, stop=lambda: True)
    assert report.warm and len(new.arrays["w_in"]) == 4
    np.testing.assert_allclose(new.arrays["w_in"], old.arrays["w_in"], atol=1e-6)


def test_a_loss_over_several_periods_predicts_better_over_several():
    """Sensor noise pulls a one-step fit towards zero change; several periods average it out."""
    errors = {}
    truth = motion(40, 12, noise=np.zeros(2))
    rng = np.random.default_rng(3)
    seen = np.concatenate([truth.x.reshape(40, 12, 2), truth.x_next.reshape(40, 12, 2)[:, -1:]], axis=1)
    seen = seen + 0.5 * rng.standard_normal(seen.shape)
    noisy = Transitions(seen[:, :-1].reshape(-1, 2), truth.u, seen[:, 1:].reshape(-1, 2), truth.trajectory)
    test = motion(20, 8, seed=7, noise=np.zeros(2))
    for horizon in (1, 6):
        config = EnsembleConfig(members=2, width=16, steps=300, loss_horizon=horizon)
        errors[horizon] = multi_step_error(fit(noisy, LAYOUT, config, 0)[0], test, 8)
    assert errors[6] < 0.8 * errors[1]


def test_refits_to_more_data_draw_other_minibatches():
    a, b = (stream(7, n) for n in (10, 11))
    assert a != b and stream(7, 10) == a and stream(8, 10) != a


def test_weight_decay_shrinks_the_weights():
    norms = [
        np.square(fit(linear_data(50), LAYOUT, dataclasses.replace(SMALL, weight_decay=w), 0)[0].arrays["w_in"]).sum()
        for w in (0.0, 0.05)
    ]
    assert norms[1] < 0.9 * norms[0]


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="members"):
        EnsembleConfig(members=0)
    with pytest.raises(ConfigError, match="beta"):
        EnsembleConfig(beta=1.5)
    with pytest.raises(ConfigError, match="elites: 6 is not allowed; expected at most members, 5"):
        EnsembleConfig(elites=6)
