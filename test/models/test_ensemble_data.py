"""Resamples that stay, whole trajectories held out, windows: against direct statements of what each shall be."""

import numpy as np
import pytest
from scipy.stats import poisson

from mbrl_ros.models.ensemble_data import bootstrap_counts, held_out, mirrored, remaining, resamples
from mbrl_ros.types import Transitions


def test_a_row_keeps_its_counts_when_rows_are_appended():
    before, after = bootstrap_counts(3, 4, 60), bootstrap_counts(3, 4, 300)
    np.testing.assert_array_equal(after[:, :60], before)
    np.testing.assert_array_equal(bootstrap_counts(3, 6, 60)[:4], before)


def test_members_and_seeds_have_resamples_of_their_own():
    a, b = bootstrap_counts(0, 2, 200), bootstrap_counts(1, 2, 200)
    assert (a[0] != a[1]).any() and (a != b).any()
    assert abs(np.corrcoef(a)[0, 1]) < 0.25, "200 pairs: 3.5 standard errors"


def test_counts_are_poisson():
    counts = bootstrap_counts(0, 5, 40_000).ravel()
    share = np.bincount(counts, minlength=6)[:6] / counts.size
    # 200,000 draws: five standard errors of a share are at most 0.0056
    np.testing.assert_allclose(share, poisson(1.0).pmf(np.arange(6)), atol=0.0056)


def test_resamples_repeat_rows_by_their_counts():
    rows = np.array([1, 2, 4])
    counts = np.array([[9, 2, 0, 9, 1], [5, 0, 0, 5, 0]])
    first, empty = resamples(counts, rows)
    np.testing.assert_array_equal(first, [1, 1, 4])
    np.testing.assert_array_equal(empty, rows)  # a member that has nothing yet learns from all


def blocks(*lengths: int) -> np.ndarray:
    """Trajectories of so many rows each, numbered downwards: their order is that of their beginnings."""
    return np.repeat(100 - np.arange(len(lengths)), lengths)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("count", [1, 2, 3, 10, 40])
def test_whole_trajectories_are_held_out_and_one_is_left(share, count):
    trajectory = blocks(*range(1, count + 1))
    mask = held_out(trajectory, share)
    kept, out = set(trajectory[~mask]), set(trajectory[mask])
    assert not kept & out and len(kept) >= 1
    assert abs(len(out) - share * count) <= 1.0


def test_a_trajectory_stays_on_its_side_when_others_are_added():
    trajectory = blocks(*[4] * 20)
    whole = held_out(trajectory, 0.3)
    for n in (1, 7, 33, 60):
        np.testing.assert_array_equal(held_out(trajectory[:n], 0.3), whole[:n])
    assert whole.any()


def test_remaining_counts_to_the_end_of_the_trajectory():
    np.testing.assert_array_equal(remaining(np.array([5, 5, 5, 2, 2, 9]), 10), [3, 2, 1, 2, 1, 1])
    np.testing.assert_array_equal(remaining(np.array([5, 5, 5, 2, 2, 9]), 2), [2, 2, 1, 2, 1, 1])


def test_mirrored_reverses_every_sign():
    data = Transitions(np.array([[1.0, 2.0]]), np.array([[3.0]]), np.array([[4.0, -5.0]]), np.array([7]))
    both = mirrored(data)
    np.testing.assert_array_equal(both.x, [[1, 2], [-1, -2]])
    np.testing.assert_array_equal(both.u, [[3], [-3]])
    np.testing.assert_array_equal(both.x_next, [[4, -5], [-4, 5]])
    np.testing.assert_array_equal(both.trajectory, [7, 7])
