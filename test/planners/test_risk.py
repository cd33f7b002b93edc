"""Risk measures against closed forms, sorting by hand and the normal distribution."""

import numpy as np
import pytest
from scipy import stats

from mbrl_ros.errors import ConfigError
from mbrl_ros.planners.base import risk_neutral
from mbrl_ros.planners.risk import RISKS, RiskConfig, cvar, make_risk, mean_plus_std, worst_case

COSTS = np.array([[4.0, 1.0], [1.0, 2.0], [3.0, 8.0], [2.0, 5.0]])  # (P=4, N=2)


def test_cvar_by_sorting():
    np.testing.assert_allclose(cvar(0.5)(COSTS), [3.5, 6.5])
    np.testing.assert_allclose(cvar(0.25)(COSTS), [4.0, 8.0])


def test_cvar_counts_a_part_of_a_particle():
    # 1.5 particles of the tail: (4 + 0.5 * 3) / 1.5 and (8 + 0.5 * 5) / 1.5
    np.testing.assert_allclose(cvar(0.375)(COSTS), [5.5 / 1.5, 10.5 / 1.5])


def test_cvar_solves_the_rockafellar_uryasev_minimisation():
    costs = np.random.default_rng(0).standard_normal((37, 1))
    for alpha in (0.1, 0.33, 0.9):
        values = [t + np.maximum(costs[:, 0] - t, 0.0).mean() / alpha for t in costs[:, 0]]  # optimum is at a sample
        np.testing.assert_allclose(cvar(alpha)(costs), [min(values)], rtol=1e-12)


def test_cvar_limits_are_mean_and_worst_case():
    np.testing.assert_allclose(cvar(1.0)(COSTS), risk_neutral(COSTS))
    np.testing.assert_allclose(cvar(1e-6)(COSTS), worst_case(COSTS))


def test_cvar_of_a_gaussian():
    """Closed form mu + sigma phi(z) / alpha; 200 000 samples, threshold 0.04."""
    alpha, mu, sigma = 0.1, 3.0, 2.0
    costs = mu + sigma * np.random.default_rng(1).standard_normal((200_000, 1))
    exact = mu + sigma * stats.norm.pdf(stats.norm.ppf(1 - alpha)) / alpha
    assert abs(cvar(alpha)(costs)[0] - exact) < 0.04
    assert abs(mean_plus_std(1.5)(costs)[0] - (mu + 1.5 * sigma)) < 0.04


def test_mean_plus_std_signs():
    np.testing.assert_allclose(mean_plus_std(2.0)(COSTS), COSTS.mean(0) + 2.0 * np.sqrt(COSTS.var(0)))
    assert np.all(mean_plus_std(-1.0)(COSTS) < risk_neutral(COSTS))


@pytest.mark.parametrize("name", sorted(RISKS))
def test_measures_are_translation_equivariant_and_keep_divergence(name):
    measure = make_risk(RiskConfig(measure=name))
    np.testing.assert_allclose(measure(COSTS + 10.0), measure(COSTS) + 10.0)
    assert measure(COSTS).shape == (2,)
    for bad in (np.nan, np.inf):
        costs = COSTS.copy()
        costs[2, 1] = bad
        with np.errstate(invalid="ignore"):
            result = measure(costs)
        assert np.isfinite(result[0]) and not np.isfinite(result[1])


def test_every_parameter_changes_the_result():
    def result(**values):
        return make_risk(RiskConfig(**values))(COSTS)

    assert np.any(result(measure="cvar", alpha=0.25) != result(measure="cvar", alpha=0.5))
    assert np.any(result(measure="mean_plus_std", std_weight=1.0) != result(measure="mean_plus_std", std_weight=2.0))
    assert len({tuple(result(measure=name, alpha=0.5)) for name in RISKS}) == len(RISKS)


def test_errors_name_what_is_allowed():
    with pytest.raises(ConfigError, match="worst_case"):
        RiskConfig(measure="optimist")
    with pytest.raises(ConfigError, match="share in"):
        cvar(0.0)
