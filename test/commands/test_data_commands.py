"""`mbrl_ros data`, `bag` and `fit` as a user calls them."""

import re

import numpy as np
import pytest

from mbrl_ros import cli
from mbrl_ros.commands.fit import coverage, split
from mbrl_ros.control.start_model import data_path, read_start
from mbrl_ros.data.store_format import Row, read_store
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.errors import ConfigError
from mbrl_ros.reporting.run_folder import TRANSITIONS
from mbrl_ros.robots.description import load_robot
from mbrl_ros.types import Transitions

ROBOT = load_robot("cartpole")
DT = round(1e9 * ROBOT.dt)


@pytest.fixture
def run(tmp_path):
    """A run folder with five trials of 20 transitions: a double integrator, driven at random."""
    folder, rng = tmp_path / "run", np.random.default_rng(0)
    folder.mkdir()
    with TransitionStore(folder / TRANSITIONS, ROBOT.name, ROBOT.layout) as store:
        for trial in range(5):
            x = rng.standard_normal(4)
            for k in range(20):
                u = rng.standard_normal(1)
                v = x[2:] + ROBOT.dt * u
                x_next = np.concatenate([x[:2] + 0.5 * ROBOT.dt * (x[2:] + v), v])
                store.append((100 * trial + k) * DT, trial, trial, x, u, x_next)
                x = x_next
    return folder


def call(*arguments):
    return cli.main([str(argument) for argument in arguments])


def content(path):
    return [
        (r.stamp_ns, r.trial, r.trajectory, r.x.tobytes(), r.u.tobytes(), r.x_next.tobytes())
        for r in read_store(path)[2]
    ]


def test_check_and_recover(run, tmp_path, capsys):
    store = run / TRANSITIONS
    assert call("data", "check", run) == 0
    assert "intact: 100 transitions of 5 trials" in capsys.readouterr().out
    data = bytearray(store.read_bytes())
    place = data.index(read_store(store)[2][50].x.tobytes())
    data[place] ^= 1
    store.write_bytes(data)
    assert call("data", "check", run) == 1
    said = capsys.readouterr().out
    assert "row 51 does not match its checksum" in said and "99 transitions of 5 trials can be saved" in said
    assert "1 are lost: numbers 51" in said and "data recover" in said
    assert call("data", "recover", store, tmp_path / "saved.sqlite") == 0
    assert len(content(tmp_path / "saved.sqlite")) == 99 and store.read_bytes() == data
    assert call("data", "recover", store, tmp_path / "saved.sqlite") == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["mcap", "sqlite3"])
def test_export_then_import(run, tmp_path, capsys, kind):
    assert call("bag", "export", run, tmp_path / "bag", "--format", kind) == 0
    again = tmp_path / "again.sqlite"
    assert call("bag", "import", tmp_path / "bag", "--robot", "cartpole", "--output", again) == 0
    assert content(again) == content(run / TRANSITIONS)
    said = capsys.readouterr().out
    assert "100 transitions added, 100 in all" in said and re.search(r"a reset follows +4$", said, re.MULTILINE)
    assert call("bag", "import", tmp_path / "bag", "--robot", "cartpole", "--output", again) == 0
    said = capsys.readouterr().out
    assert "0 transitions added, 100 in all" in said and re.search(r"^stored already.* 100$", said, re.MULTILINE)


def test_a_bag_without_a_transition_is_an_error_and_leaves_no_store(run, tmp_path, capsys):
    with TransitionStore(tmp_path / "one.sqlite", ROBOT.name, ROBOT.layout) as store:
        store.append_all([Row(0, 0, 0, np.zeros(4), np.zeros(1), np.zeros(4), "stopped")])
    assert call("bag", "export", tmp_path / "one.sqlite", tmp_path / "bag") == 0
    out = tmp_path / "new" / "out.sqlite"
    assert call("bag", "import", tmp_path / "bag", "--robot", "cartpole", "--output", out) == 2
    said = capsys.readouterr()
    assert "no transition in these bags" in said.err and "command 'stopped'" in said.out
    assert not out.exists()


def test_fit_judges_by_what_it_has_not_seen_and_writes_a_model_to_start_from(run, tmp_path, capsys):
    out = tmp_path / "m.safetensors"
    arguments = ("--robot", "cartpole", "--model", "linear_gaussian", "--output", out)
    assert call("fit", "--data", run, *arguments, "--holdout", 2, "--horizon", 5) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    fitted, held = (next(line for line in lines if line[:2] == name) for name in (["fitted", "to"], ["held", "out"]))
    assert fitted[2:4] == ["60", "3"] and held[2:4] == ["40", "2"]
    assert float(held[4]) < 0.01 and float(held[5]) < 0.05, "it is linear: nothing is left to learn"
    start = read_start(out, ROBOT, "linear_gaussian")
    assert start.header.data_size == 60 and start.size() == 100
    assert content(data_path(out)) == content(run / TRANSITIONS)
    before = out.read_bytes()
    assert call("fit", "--data", run, *arguments, "--holdout", 2, "--seed", 0) == 0
    assert out.read_bytes() == before, "the same seed, the same bytes"
    assert call("fit", "--data", run, *arguments, "--holdout", 2, "--seed", 1) == 0
    assert out.read_bytes() != before


def test_stores_runs_and_bags_may_be_given_together(run, tmp_path, capsys):
    assert call("bag", "export", run, tmp_path / "bag") == 0
    arguments = ("--robot", "cartpole", "--model", "linear_gaussian", "--output", tmp_path / "m.safetensors")
    assert call("fit", "--data", run, tmp_path / "bag", run / TRANSITIONS, *arguments, "--holdout", 0) == 0
    said = capsys.readouterr().out
    assert re.search(r"^given twice +200$", said, re.MULTILINE)
    held = next(line.split() for line in said.splitlines() if line.startswith("held out"))
    assert held[2:] == ["0", "0", "-", "-", "-", "-"]


def another_run(tmp_path, run, start_ns=0):
    """A run with the same stamps and other motion: in lockstep the clock of every run begins at 0."""
    other = tmp_path / "another"
    other.mkdir()
    with TransitionStore(other / TRANSITIONS, ROBOT.name, ROBOT.layout) as store:
        for row in read_store(run / TRANSITIONS)[2]:
            store.append(row.stamp_ns + start_ns, row.trial, row.trajectory, -row.x, -row.u, -row.x_next)
    return other


def test_two_runs_in_lockstep_are_no_repetition_of_each_other(run, tmp_path, capsys):
    other, out = another_run(tmp_path, run), tmp_path / "m.safetensors"
    assert call("bag", "export", other, tmp_path / "bag") == 0
    arguments = ("--robot", "cartpole", "--model", "linear_gaussian", "--output", out, "--holdout", 0)
    assert call("fit", "--data", run, other, tmp_path / "bag", run, *arguments) == 0
    said = capsys.readouterr().out
    assert fitted_to(said) == 200 and re.search(r"^given twice +200$", said, re.MULTILINE)
    rows = read_store(data_path(out))[2]
    assert [row.x.tobytes() for row in rows[100:]] == [(-row.x).tobytes() for row in rows[:100]]
    assert [row.trajectory for row in rows] == [k // 20 for k in range(200)]


def test_what_has_the_same_wall_clock_stamp_is_one_transition_though_a_filter_has_made_it_anew(run, tmp_path, capsys):
    robots = [another_run(tmp_path, run, 17 * 10**17)]
    (tmp_path / "again").mkdir()
    robots.append(another_run(tmp_path / "again", robots[0]))
    arguments = ("--robot", "cartpole", "--model", "linear_gaussian", "--output", tmp_path / "m.safetensors")
    assert call("fit", "--data", *robots, *arguments, "--holdout", 0) == 0
    assert fitted_to(capsys.readouterr().out) == 100


def note_changes(run, *counts):
    with TransitionStore(run / TRANSITIONS, ROBOT.name, ROBOT.layout) as store:
        for count in counts:
            store.note_change(count)


def fitted_to(said):
    return int(next(line.split()[2] for line in said.splitlines() if line.startswith("fitted to")))


@pytest.mark.parametrize("bag_beside", [False, True])
def test_fit_takes_what_came_after_the_last_change_of_the_robot(run, tmp_path, capsys, bag_beside):
    """Of the store, and of a bag in the run folder, too: it would bring back what the store leaves out."""
    note_changes(run, 20, 60)
    assert call("bag", "export", run, run / "bag") == 0
    capsys.readouterr()
    model = ("--robot", "cartpole", "--model", "linear_gaussian", "--output", tmp_path / "m.safetensors")
    given = (run, run / "bag") if bag_beside else (run,)
    assert call("fit", "--data", *given, *model, "--holdout", 0) == 0
    said = capsys.readouterr().out
    count = 120 if bag_beside else 60
    assert fitted_to(said) == 40 and re.search(rf"^from before the robot has changed.*--all.* {count}$", said, re.M)
    assert call("fit", "--data", *given, *model, "--holdout", 0, "--all") == 0
    said = capsys.readouterr().out
    assert fitted_to(said) == 100 and "has changed" not in said


def test_import_takes_what_came_after_the_last_change_of_the_robot(run, tmp_path, capsys):
    note_changes(run, 60)
    assert call("bag", "export", run, run / "bag") == 0
    bag = next((run / "bag").glob("*.mcap"))
    for source, *options, count in ((run / "bag", 40), (bag, 40), (run / "bag", "--all", 100)):
        output = tmp_path / f"{len(options)}_{source.name}.sqlite"
        assert call("bag", "import", source, "--robot", "cartpole", "--output", output, *options) == 0
        assert content(output)[-1][3:] == content(run / TRANSITIONS)[-1][3:] and len(content(output)) == count
        assert ("has changed" in capsys.readouterr().out) == (count == 40)
    (run / TRANSITIONS).write_bytes(b"damaged")
    assert call("bag", "import", run / "bag", "--robot", "cartpole", "--output", tmp_path / "saved.sqlite") == 0
    assert len(content(tmp_path / "saved.sqlite")) == 100, "a store that cannot be read says nothing"


def test_mistakes_are_named(run, tmp_path, capsys):
    fit = ("--model", "linear_gaussian", "--output", tmp_path / "m.safetensors")
    cases = [
        (("fit", "--data", run, "--robot", "cartpole", *fit, "--holdout", 5), "holdout: 5 is not allowed"),
        (("fit", "--data", run, "--robot", "cartpole_blackdrops", *fit), "a store of robot"),
        (("fit", "--data", tmp_path / "none", "--robot", "cartpole", *fit), "no such transition store"),
        (("fit", "--data", run, "--robot", "cartpole", "--model", "guess", "--output", "m"), "unknown model 'guess'"),
        (("fit", "--data", run, "--robot", "cartpole", *fit, "--horizon", 0), "horizon"),
        (("bag", "import", tmp_path / "none", "--robot", "cartpole", "--output", tmp_path / "o"), "no such bag"),
        (("bag", "export", tmp_path / "none", tmp_path / "bag"), "no such transition store"),
        (("data", "check", tmp_path / "none"), "no such transition store"),
    ]
    for arguments, message in cases:
        assert call(*arguments) == 2
        assert message in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"], "nothing is left behind"


def test_trajectories_and_trials_of_several_bags_are_kept_apart(run, tmp_path):
    assert call("bag", "export", run, tmp_path / "one") == 0
    assert call("bag", "export", another_run(tmp_path, run, 10**15), tmp_path / "two") == 0
    store = tmp_path / "all.sqlite"
    given = ("--robot", "cartpole", "--output", store)
    assert call("bag", "import", tmp_path / "one", tmp_path / "two", *given) == 0
    rows = read_store(store)[2]
    assert [row.trajectory for row in rows] == [row.trial for row in rows] == [k // 20 for k in range(200)]


def test_whole_trajectories_are_held_out():
    data = Transitions(np.zeros((60, 1)), np.zeros((60, 1)), np.zeros((60, 1)), np.arange(60) // 6)
    train, test = split(data, 3, np.random.default_rng(0))
    assert len(test) == 18 and len(train) == 42 and not set(train.trajectory) & set(test.trajectory)
    assert len(split(data, None, np.random.default_rng(0))[1]) == 12, "a fifth"
    assert {len(split(data, 5, np.random.default_rng(seed))[1]) for seed in range(9)} == {30}, "each drawn once"
    assert set(split(data, 3, np.random.default_rng(1))[1].trajectory) != set(test.trajectory)
    assert len(split(data[:6], None, np.random.default_rng(0))[1]) == 0, "one trajectory is needed to learn from"
    with pytest.raises(ConfigError, match=r"in \[0, 9\]"):
        split(data, 10, np.random.default_rng(0))


class Gaussian:
    """The next state is the last one plus the action plus noise of the given spread."""

    members = 1

    def __init__(self, std):
        self.std = std

    def rollout(self, x0, actions, rng, particles):
        steps = actions[None] + self.std * rng.standard_normal((particles, *actions.shape))
        return x0 + np.concatenate([np.zeros((particles, 1, 1, 1)), steps.cumsum(axis=2)], axis=2)


@pytest.mark.parametrize(("std", "low", "high"), [(1.0, 0.87, 0.93), (0.3, 0.30, 0.46), (3.0, 0.999, 1.0)])
def test_coverage_is_that_of_a_gaussian(std, low, high):
    """A 90 % interval of spread s covers erf(1.645 s / sqrt 2) of a standard normal: 0.90, 0.38, 1.00."""
    rng = np.random.default_rng(0)
    n = 1000
    x, u = np.zeros((n, 1)), rng.standard_normal((n, 1))
    data = Transitions(x, u, x + u + rng.standard_normal((n, 1)), np.zeros(n, int))
    assert low < coverage(Gaussian(std), data, 1, rng) <= high
    assert np.isnan(coverage(Gaussian(std), data[:2], 3, rng))
