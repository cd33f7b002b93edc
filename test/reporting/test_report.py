"""The report as a whole: self-contained, honest about what is missing, safe against what files hold."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.errors import MbrlError
from mbrl_ros.reporting import report, run_folder, svg
from mbrl_ros.reporting.page import Content, render
from mbrl_ros.reporting.run import read_run
from mbrl_ros.reporting.summary import read_summary, write_summary
from mbrl_ros.reporting.targets import target_range
from mbrl_ros.robots.description import load_robot
from mbrl_ros.tasks.cartpole_swingup import CartpoleSwingup, CartpoleSwingupConfig
from mbrl_ros.tasks.reach import Reach, ReachConfig

GIF = b"GIF89a" + bytes(20)
VOID = {"meta", "img", "br"}
XMLNS = 'xmlns="http://www.w3.org/2000/svg"'  # a name, which nobody fetches


class Checker(HTMLParser):
    """Collects tags and attributes, and holds every opened tag to be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        """Note the tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """Hold it to the last one opened."""
        assert self.open.pop() == tag

    def drawings(self) -> list[str]:
        """What the charts say they show."""
        return [attrs["aria-label"] for tag, attrs in self.tags if tag == "svg" and "aria-label" in attrs]

    def images(self, kind: str) -> list[str]:
        """Embedded images of a kind."""
        sources = [attrs["src"] for tag, attrs in self.tags if tag == "img"]
        return [s for s in sources if s.startswith(f"data:image/{kind};base64,")]


@pytest.fixture(autouse=True)
def fast_animation(monkeypatch):
    """The renderer has tests of its own; here it takes notes."""
    calls = []

    def animate(robot, states, path, rate):
        calls.append((robot.name, states, rate))
        path.write_bytes(GIF)

    monkeypatch.setattr("mbrl_ros.robots.animation.animate", animate)
    return calls


def make(folder) -> tuple[str, Checker]:
    path = report.write_report(folder)
    assert path == folder / "report.html"
    text = path.read_text(encoding="utf-8")
    return text, Checker(text)


def test_whole_report_is_one_file_with_everything(tmp_path, runs, fast_animation):
    summary = runs.build(tmp_path, trials=3)
    text, page = make(tmp_path)
    drawn = page.drawings()
    for index in range(3):
        assert sum(f"States and actions of trial {index}: " in d for d in drawn) == 5
        assert sum(f"Cost of each tick of trial {index}, by its parts: " in d for d in drawn) == 1
    assert "States and actions of trial 1: cart_slider/position (m)" in drawn
    assert sum("Uncertainty during trial 1" in d for d in drawn) == 4
    assert sum("Learning curve" in d for d in drawn) == 2
    assert sum(d.startswith("Calibration on trial") for d in drawn) == 2
    assert len(page.images("gif")) == 1
    assert "What is missing" not in text
    assert "Not solved in 9.0 s of motion" in text and "Ended: trials used up" in text
    for trial in summary.trials:
        assert f"{trial.cost:.2f}" in text and f"{trial.time_on_target_s:.2f}" in text
    assert "mbrl_ros sim --seed 3" in text and "horizon: 25" in text and "limited 1, ok 59" in text
    names = {p.name for p in (tmp_path / "plots").iterdir()}
    assert {"learning_curve.svg", "model_error.svg", "planning_time.svg", "reliability.svg"} < names
    of_trial = {"", "_cost", "_doubt", "_calibration", "_planning", "_guard", "_data"}
    assert {f"trial_001{part}.svg" for part in of_trial} == {n for n in names if n.startswith("trial_001")}
    for path in (tmp_path / "plots").iterdir():
        assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    ((name, states, rate),) = fast_animation
    assert (name, rate) == ("cartpole", 20.0)
    np.testing.assert_array_equal(states, runs.simulate(2).x)


def test_nothing_is_fetched_from_anywhere(tmp_path, runs):
    runs.build(tmp_path, trials=1)
    text, page = make(tmp_path)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"}
    assert all(attrs["src"].startswith("data:") for tag, attrs in page.tags if tag == "img")
    assert not re.search(r"https?://|url\(|@import|href", text.replace(XMLNS, ""))


def test_every_picture_has_a_text_and_the_page_fits_a_phone(tmp_path, runs):
    runs.build(tmp_path, trials=2)
    text, page = make(tmp_path)
    assert all(attrs["alt"] for tag, attrs in page.tags if tag == "img")
    outer = [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("viewbox", "").startswith("0 0 ")]
    assert all(attrs.get("aria-label") or attrs.get("aria-hidden") for attrs in outer) and len(outer) > 20
    # Charts are drawn for a phone and scale; nothing has a width of its own that a phone has not.
    assert {attrs["viewbox"].split()[2] for attrs in outer} == {f"{svg.WIDTH:g}"} and not any(
        "width" in a for a in outer
    )
    assert 'content="width=device-width, initial-scale=1"' in text
    style = text.split("<style>")[1].split("</style>")[0]
    assert "svg { display: block; width: 100%; height: auto; }" in style and "font-size: 16px" in style
    assert ".scroll { overflow-x: auto; }" in style and "minmax(min(340px, 100%), 1fr)" in style
    assert text.count("<table>") == text.count('<div class="scroll"><table>') == 2
    assert not re.search(r"(?<!max-)(?<!min-)width: \d{3,}px", style)


def test_page_of_a_long_run_stays_small_and_says_what_is_left_out(tmp_path, runs):
    runs.build(tmp_path, trials=report.FIRST + report.LAST + 3)
    text, page = make(tmp_path)
    assert "only in the table: 4, 5, 6." in text
    drawn = page.drawings()
    assert not any("trial 5:" in d for d in drawn) and any("trial 7:" in d for d in drawn)
    assert any("trial 3:" in d for d in drawn) and len(text) < 6e6


def test_a_run_from_before_plans_were_recorded_says_what_is_missing(tmp_path, runs):
    runs.build(tmp_path, trials=2, plans=False)
    text, page = make(tmp_path)
    assert "How sure the model was has not been recorded" in text
    assert "What the guard did at each tick has not been recorded" in text
    assert "did not record which plans were cut short" in text
    assert "What is missing" not in text  # nothing was lost
    assert sum("States and actions of trial 1" in d for d in page.drawings()) == 5
    assert "plan, a horizon before" not in text and "open loop, 90 %" in text


def page_of(summary) -> str:
    """The page without pictures."""
    text = render(Content(summary))
    Checker(text)
    return text


def test_solved_run_says_when(runs):
    trials = [runs.result_of(i, runs.simulate(i), solved=i > 0) for i in range(3)]
    text = page_of(runs.summarise(*trials, ended="solved"))
    assert "Solved after 3.0 s of motion" in text and "From trial 1 on, two trials in a row" in text


def test_one_solved_trial_is_not_a_solved_run(runs):
    trials = [runs.result_of(i, runs.simulate(i), solved=i == 1) for i in range(3)]
    text = page_of(runs.summarise(*trials))
    assert "Not solved in 9.0 s" in text and "not twice in a row: trial 1" in text


def test_real_time_run_counts_deadlines(runs):
    trials = [runs.result_of(i, runs.simulate(i), deadline_misses=7 * i) for i in range(2)]
    text = page_of(runs.summarise(*trials, lockstep=False))
    assert "<b>7 of 60</b>" in text and "depends on timing" in text


def test_interrupted_before_any_trial(tmp_path, runs, fast_animation):
    write_summary(runs.summarise(ended="interrupted"), tmp_path)
    text, page = make(tmp_path)
    assert "No trial was finished" in text and "Ended: interrupted" in text
    assert "There is no animation" in text and "The parameters were not saved" in text
    assert "parameters: No such file or directory" in text
    assert not {"img", "svg"} & {tag for tag, _ in page.tags}
    assert fast_animation == []


def test_interrupted_before_any_transition_leaves_an_empty_store_and_a_report(tmp_path, runs):
    robot = load_robot("cartpole")
    write_summary(runs.summarise(ended="interrupted"), tmp_path)
    TransitionStore(tmp_path / run_folder.TRANSITIONS, robot.name, robot.layout).close()
    text, _ = make(tmp_path)
    assert "No trial was finished" in text
    known, transitions = read_run(tmp_path).rows
    assert (
        len(known) == 0 and transitions.x.shape == (0, robot.layout.nx) and transitions.u.shape == (0, robot.layout.nu)
    )


def test_base_policy_only_animates_the_base_policy(tmp_path, runs, fast_animation):
    runs.build(tmp_path, trials=1, ended="node died: model_learner")
    text, page = make(tmp_path)
    assert "Trial 0 (base)" in text and "node died: model_learner" in text
    assert len(fast_animation) == 1 and len(page.images("gif")) == 1


def test_missing_and_damaged_files_are_named_and_the_rest_is_shown(tmp_path, runs):
    runs.build(tmp_path, trials=4)
    run_folder.model_path(tmp_path, 2).unlink()
    run_folder.model_path(tmp_path, 3).write_bytes(b"junk")
    run_folder.trial_path(tmp_path, 1).write_bytes(b"junk")
    run_folder.trial_path(tmp_path, 2).unlink()
    text, page = make(tmp_path)
    missing = text.split("What is missing")[1].split("</section>")[0]
    for name in ("model_0003", "trial_001.npz: damaged", "trial 2: its arrays were not saved"):
        assert name in missing
    drawn = page.drawings()
    assert any("of trial 0:" in d for d in drawn) and any("of trial 3:" in d for d in drawn)
    assert not any("of trial 1:" in d or "of trial 2:" in d for d in drawn)
    assert "Trial 1:" not in text.split("Trial by trial")[1]


def test_failed_animation_costs_nothing_else(tmp_path, runs, monkeypatch):
    def broken(*_):
        raise RuntimeError("no renderer")

    monkeypatch.setattr("mbrl_ros.robots.animation.animate", broken)
    runs.build(tmp_path, trials=1)
    text, page = make(tmp_path)
    assert "animation: no renderer" in text and "There is no animation" in text
    assert len(page.drawings()) == 10  # learning curve 2, states and action 5, cost 1, data 2: nothing was known before


def test_unknown_robot_and_task_are_named(tmp_path, runs):
    runs.build(tmp_path, trials=1, robot="walker")
    text, page = make(tmp_path)
    assert "unknown robot" in text and len(page.drawings()) == 2
    runs.build(tmp_path, trials=1, task="juggling")
    text, _ = make(tmp_path)
    assert "task: unknown task" in text


def test_trial_of_another_robot_is_named(tmp_path, runs):
    runs.build(tmp_path, trials=1)
    arrays = runs.simulate(0)
    run_folder.save_trial(tmp_path, 0, replace(arrays, x=arrays.x[:, :2]))
    text, _ = make(tmp_path)
    assert "do not fit the robot" in text


def test_text_from_files_cannot_become_html(tmp_path, runs):
    evil = "<script>alert(1)</script><img src=x onerror='1'>\"&"
    summary = runs.build(tmp_path, trials=1)
    trial = replace(summary.trials[0], ended_early=evil, flags={evil: 1})
    changes = {"planner": evil, "model": evil, "started": evil, "command": evil, "ended": f"node died: {evil}"}
    write_summary(replace(summary, robot=evil, versions={evil: evil}, trials=(trial,), **changes), tmp_path)
    (tmp_path / "parameters.yaml").write_text(evil)
    text, page = make(tmp_path)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any("onerror" in attrs for _, attrs in page.tags)
    assert text.count("&lt;script&gt;") >= 8


def test_reason_of_an_early_end_cannot_become_html_beside_its_figure(runs):
    result = runs.result_of(0, runs.simulate(0), ended_early="<b>wall</b>")
    text = render(Content(runs.summarise(result), trials={0: ""}))
    assert "<b>wall" not in text and "base, &lt;b&gt;wall&lt;/b&gt;, cost" in text


def test_fast_robots_are_animated_at_a_rate_that_viewers_keep(tmp_path, runs, fast_animation):
    runs.build(tmp_path, trials=1, control_rate=200.0)
    make(tmp_path)
    ((_, states, rate),) = fast_animation
    assert rate == 50.0 and len(states) == 16  # every fourth of 61


def test_same_folder_same_report(tmp_path, runs):
    runs.build(tmp_path, trials=2)
    run_folder.trial_path(tmp_path, 0).unlink()
    assert make(tmp_path)[0] == make(tmp_path)[0]


def test_numbers_that_are_none_and_a_trial_of_one_observation_are_drawn(tmp_path, runs):
    arrays = runs.simulate(1, steps=0)
    run_folder.save_trial(tmp_path, 0, arrays)
    nan = float("nan")
    result = runs.result_of(0, arrays, cost=nan, one_step_error=nan, time_on_target_s=nan, ended_early="stopped")
    write_summary(runs.summarise(result), tmp_path)
    text, page = make(tmp_path)
    assert text.count("<li>") == 2  # the parameters and the model, which were never written
    assert any("States and actions of trial 0" in d for d in page.drawings())


def test_target_range_finds_the_limits_of_the_task(runs):
    low, high = target_range(CartpoleSwingup(CartpoleSwingupConfig()), runs.robot.layout.state)
    np.testing.assert_allclose(high, [0.5, np.radians(15.0), np.inf, np.inf], rtol=1e-9)
    np.testing.assert_array_equal(low, -high)


def test_target_range_lies_around_the_goal_of_the_run():
    task = Reach(ReachConfig(goal=(2.0, -1.0), weights=(1.0, 0.0), tolerance=0.25))
    low, high = target_range(task, ("a", "b"))
    np.testing.assert_allclose([low[0], high[0]], [1.75, 2.25])
    assert (low[1], high[1]) == (-np.inf, np.inf)


def test_a_goal_that_is_not_on_target_has_no_range():
    class Elsewhere(CartpoleSwingup):
        def on_target(self, x):
            return super().on_target(x - np.array([5.0, 0.0, 0.0, 0.0]))

    assert target_range(Elsewhere(CartpoleSwingupConfig()), ("p", "theta", "v", "omega")) is None


def test_parameters_of_the_run_make_its_task_and_deadline(tmp_path, runs):
    runs.build(tmp_path, trials=2, lockstep=False)
    (tmp_path / "parameters.yaml").write_text(
        "/robot1/trial_manager:\n  ros__parameters:\n    task:\n      upright_weight: 2.5\n"
        "mpc_controller:\n  ros__parameters:\n    horizon: 7\n    budget: 0.6\n"
    )
    run = read_run(tmp_path)
    assert (run.task.config.upright_weight, run.horizon) == (2.5, 7)
    assert run.budget == pytest.approx(0.6 / 20.0)
    text, _ = make(tmp_path)
    assert "deadline: 30 ms" in text and "control period: 50 ms" in text and "after 7 periods" in text


@pytest.mark.parametrize("damaged", ["{", "- 1\n", "node: 3\n", "trial_manager:\n  ros__parameters:\n    task.x: 1\n"])
def test_damaged_parameters_are_named_and_the_rest_is_shown(tmp_path, runs, damaged):
    runs.build(tmp_path, trials=1)
    (tmp_path / "parameters.yaml").write_text(damaged)
    text, page = make(tmp_path)
    missing = text.split("What is missing")[1].split("</section>")[0]
    assert "parameters.yaml: not a ROS parameter file" in missing or "task: unknown key" in missing
    assert any("States and actions of trial 0" in d for d in page.drawings())


def test_a_damaged_store_and_damaged_fits_are_named_and_the_trials_data_are_shown(tmp_path, runs):
    runs.build(tmp_path, trials=2)
    (tmp_path / "transitions.sqlite").write_bytes(b"SQLite format 3" + bytes(100))
    (tmp_path / "fits.csv").write_text("version\nx,y\n")
    text, page = make(tmp_path)
    missing = text.split("What is missing")[1].split("</section>")[0]
    assert "transitions.sqlite" in missing and "fits.csv: line 2 is damaged" in missing
    assert sum("Data before trial 1" in d for d in page.drawings()) == 3


def test_output_names_another_file_but_no_folder(tmp_path, runs):
    runs.build(tmp_path, trials=1)
    page = tmp_path / "pages" / "one.html"
    assert report.report_on([tmp_path], page) == page and "Trial 0" in page.read_text()
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(MbrlError, match=r"output: .* is a folder; expected the name of a file"):
        report.report_on([tmp_path], tmp_path)


def test_no_summary_is_a_clear_error(tmp_path):
    with pytest.raises(MbrlError, match=r"summary.json: no such file; is this the folder of a run"):
        report.write_report(tmp_path)


def test_summary_is_left_as_it_was(tmp_path, runs):
    runs.build(tmp_path, trials=1)
    before = (tmp_path / "summary.json").read_bytes()
    make(tmp_path)
    assert (tmp_path / "summary.json").read_bytes() == before
    assert read_summary(tmp_path).trials[0].index == 0


@pytest.mark.parametrize("name", ["base", "arm"])
def test_other_robots_have_all_their_entries_drawn(tmp_path, runs, name):
    path = runs.robot.urdf.parent / "examples" / f"{name}.yaml"
    robot, rng = load_robot(str(path)), np.random.default_rng(0)
    layout, ticks = robot.layout, 31
    u = rng.normal(size=(ticks, layout.nu))
    u[-1] = np.nan
    nothing, none = np.full(ticks, np.nan), np.zeros(ticks, int)
    stamp = robot.dt * np.arange(ticks)
    x = np.cumsum(0.1 * rng.normal(size=(ticks, layout.nx)), axis=0)
    run_folder.create_run_folder(tmp_path)
    for index in (0, 1):
        arrays = run_folder.TrialArrays(stamp, x, u, np.ones(ticks), nothing, none, none > 0)
        run_folder.save_trial(tmp_path, index, arrays)
    write_summary(runs.summarise(robot=str(path), task=robot.task, control_rate=robot.control_rate), tmp_path)
    text, page = make(tmp_path)
    drawn = page.drawings()
    for entry in (*layout.state, *layout.action):
        assert any(d.startswith(f"States and actions of trial 1: {entry}") for d in drawn)
    assert any("Data before trial 1" in d for d in drawn)
    assert "States and actions of trial 0" in text
