"""The files of a run: names, trial arrays, damage."""

from dataclasses import fields, replace

import numpy as np
import pytest

from mbrl_ros.errors import MbrlError
from mbrl_ros.reporting import run_folder
from mbrl_ros.reporting.run_folder import TrialArrays, load_trial, save_trial


def arrays(ticks: int = 5) -> TrialArrays:
    rng = np.random.default_rng(0)
    return TrialArrays(
        stamp=0.05 * np.arange(ticks),
        x=rng.normal(size=(ticks, 4)),
        u=rng.normal(size=(ticks, 1)),
        cost=rng.normal(size=ticks),
        planning_time=np.full(ticks, np.nan),
        model_version=np.arange(ticks),
        deadline_missed=np.arange(ticks) == 2,
    )


def test_round_trip_keeps_every_array(tmp_path):
    saved = arrays()
    assert save_trial(tmp_path, 7, saved) == tmp_path / "trials" / "trial_007.npz"
    loaded = load_trial(tmp_path, 7)
    for field in fields(saved):
        np.testing.assert_array_equal(getattr(loaded, field.name), getattr(saved, field.name))
    assert loaded.deadline_missed.dtype == bool and loaded.model_version.dtype == int
    assert [p.name for p in (tmp_path / "trials").iterdir()] == ["trial_007.npz"]


def test_nan_for_no_model_and_no_deadline_is_understood(tmp_path):
    loose = replace(arrays(2), model_version=np.array([np.nan, 3.0]), deadline_missed=np.array([np.nan, 1.0]))
    save_trial(tmp_path, 0, loose)
    loaded = load_trial(tmp_path, 0)
    assert loaded.model_version.tolist() == [0, 3]
    assert loaded.deadline_missed.tolist() == [False, True]


def test_lists_trials_and_models_and_nothing_else(tmp_path):
    assert run_folder.trial_indices(tmp_path) == run_folder.model_versions(tmp_path) == []
    run_folder.create_run_folder(tmp_path)
    for index in (10, 2, 1000):
        save_trial(tmp_path, index, arrays())
    (tmp_path / "trials" / "trial_003.npz.12.tmp").touch()
    (tmp_path / "trials" / "notes.txt").touch()
    run_folder.model_path(tmp_path, 12).touch()
    assert run_folder.trial_indices(tmp_path) == [2, 10, 1000]
    assert run_folder.model_versions(tmp_path) == [12]
    assert run_folder.model_path(tmp_path, 12).name == "model_0012.safetensors"


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_truncated_trial_is_a_clear_error(tmp_path, keep):
    path = save_trial(tmp_path, 0, arrays())
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    with pytest.raises(MbrlError, match=r"trial_000.npz: damaged trial file"):
        load_trial(tmp_path, 0)


def test_flipped_bytes_never_end_in_another_error(tmp_path):
    path = save_trial(tmp_path, 0, arrays())
    data = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for position in rng.integers(len(data), size=200):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :])
        try:
            load_trial(tmp_path, 0)
        except MbrlError:
            refused += 1
    assert refused > 100  # the rest hit time stamps and the like, which carry no data


@pytest.mark.parametrize("name, value", [("x", np.zeros((4, 4))), ("u", np.zeros(5)), ("cost", np.zeros((5, 1)))])
def test_arrays_that_do_not_fit_are_named(name, value):
    with pytest.raises(MbrlError, match=f"{name}: shape"):
        replace(arrays(), **{name: value})


def test_missing_array_missing_trial_and_pickles_are_refused(tmp_path):
    with pytest.raises(MbrlError, match="no such trial"):
        load_trial(tmp_path, 0)
    path = save_trial(tmp_path, 0, arrays())
    np.savez(path, stamp=np.zeros(3))
    with pytest.raises(MbrlError, match="damaged trial file"):
        load_trial(tmp_path, 0)
    np.savez(path, **{f.name: np.array([None] * 3) for f in fields(TrialArrays)})
    with pytest.raises(MbrlError, match="damaged trial file"):
        load_trial(tmp_path, 0)


def test_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "file"
    run_folder.write_atomically(path, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder.os, "fsync", full)
    with pytest.raises(MbrlError, match="file: cannot write: No space left on device"):
        run_folder.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_run_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MbrlError, match="cannot make the run folder"):
        run_folder.create_run_folder(tmp_path / "file")


def test_arrays_that_came_later_are_optional_and_kept_where_they_are(tmp_path):
    old = arrays()
    save_trial(tmp_path, 0, old)
    assert load_trial(tmp_path, 0).plan_x is None and "flag" not in load_trial(tmp_path, 0).present()
    plan = np.arange(5.0 * 3 * 4, dtype=np.float32).reshape(5, 3, 4)
    flags = np.array(["ok", "", "limited", "timeout", "ok"])
    save_trial(tmp_path, 1, replace(old, plan_x=plan, flag=flags, spread=np.arange(5.0), cut_short=np.ones(5, bool)))
    loaded = load_trial(tmp_path, 1)
    np.testing.assert_array_equal(loaded.plan_x, plan)
    assert loaded.flag.tolist() == flags.tolist() and loaded.cut_short.all() and loaded.entropy is None


def test_optional_arrays_must_fit_too():
    with pytest.raises(MbrlError, match=r"plan_x: shape \(5, 3\) does not fit 5 ticks"):
        replace(arrays(), plan_x=np.zeros((5, 3)))
    with pytest.raises(MbrlError, match=r"flag: shape \(4,\)"):
        replace(arrays(), flag=np.array(["ok"] * 4))


def test_fits_are_noted_in_order_and_a_damaged_line_is_named(tmp_path):
    assert run_folder.read_fits(tmp_path) == []
    run_folder.create_run_folder(tmp_path)
    run_folder.note_fit(tmp_path, 1, 60, 0.25)
    run_folder.note_fit(tmp_path, 2, 70, 0.5)
    first, second = run_folder.read_fits(tmp_path)
    assert (first.version, first.transitions, first.fit_seconds) == (1, 60, 0.25)
    assert (second.version, second.transitions, second.fit_seconds) == (2, 70, 0.5)
    assert first.published <= second.published and first.published.startswith("20")
    with (tmp_path / "fits.csv").open("a") as file:
        file.write("3,2026")
    with pytest.raises(MbrlError, match=r"fits.csv: line 4 is damaged: '3,2026'"):
        run_folder.read_fits(tmp_path)


def test_fits_cannot_be_noted_where_there_is_no_folder(tmp_path):
    with pytest.raises(MbrlError, match=r"fits.csv: cannot write: No such file"):
        run_folder.note_fit(tmp_path / "none", 1, 60, 0.25)
