"""The report as a whole: self-contained, honest about what is missing, safe against what files hold."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from mbrl_ros.errors import MbrlError
from mbrl_ros.reporting import report, run_folder
from mbrl_ros.reporting.page import Content, render
from mbrl_ros.reporting.summary import read_summary, write_summary
from mbrl_ros.tasks.cartpole_swingup import CartpoleSwingup

GIF = b"GIF89a" + bytes(20)
VOID = {"meta", "img", "br"}


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
    assert len(page.images("png")) == 7  # learning curve, planning time, model error, reliability, three trials
    assert len(page.images("gif")) == 1
    assert "What is missing" not in text
    assert "Not solved in 9.0 s of motion" in text and "Ended: trials used up" in text
    for trial in summary.trials:
        assert f"{trial.cost:.2f}" in text and f"{trial.time_on_target_s:.2f}" in text
    assert "mbrl_ros sim --seed 3" in text and "horizon: 25" in text and "limited 1, ok 59" in text
    assert sorted(p.name for p in (tmp_path / "plots").iterdir()) == [
        "learning_curve.png",
        "model_error.png",
        "planning_time.png",
        "reliability.png",
        "trial_000.png",
        "trial_001.png",
        "trial_002.png",
    ]
    ((name, states, rate),) = fast_animation
    assert (name, rate) == ("cartpole", 20.0)
    np.testing.assert_array_equal(states, runs.simulate(2).x)


def test_nothing_is_fetched_from_anywhere(tmp_path, runs):
    runs.build(tmp_path, trials=1)
    text, page = make(tmp_path)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"}
    assert all(attrs["src"].startswith("data:") for tag, attrs in page.tags if tag == "img")
    assert not re.search(r"https?://|url\(|@import", text)


def page_of(summary) -> str:
    """The page without pictures."""
    text = render(Content(summary, {}, b"", None, "", []))
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
    assert [tag for tag, _ in page.tags].count("img") == 0
    assert fast_animation == []


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
    assert len(page.images("png")) == 5  # trials 0 and 3 are left
    assert "Trial 1:" not in text.split("Trial by trial")[1]


def test_failed_animation_costs_nothing_else(tmp_path, runs, monkeypatch):
    def broken(*_):
        raise RuntimeError("no renderer")

    monkeypatch.setattr("mbrl_ros.robots.animation.animate", broken)
    runs.build(tmp_path, trials=1)
    text, page = make(tmp_path)
    assert "animation: no renderer" in text and "There is no animation" in text
    assert len(page.images("png")) == 2


def test_unknown_robot_and_task_are_named(tmp_path, runs):
    runs.build(tmp_path, trials=1, robot="walker")
    text, page = make(tmp_path)
    assert "unknown robot" in text and len(page.images("png")) == 1
    runs.build(tmp_path, trials=1, task="juggling")
    text, _ = make(tmp_path)
    assert "trial_000: unknown task" in text


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
    text = render(Content(runs.summarise(result), {"trial_000": b"image"}, b"", None, "", []))
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
    assert len(page.images("png")) == 2


def test_target_range_finds_the_limits_of_the_task():
    low, high = report.target_range(CartpoleSwingup, 4)
    np.testing.assert_allclose(high, [0.5, np.radians(15.0), np.inf, np.inf], rtol=1e-9)
    np.testing.assert_array_equal(low, -high)


def test_target_that_is_not_at_the_origin_is_not_drawn():
    class Elsewhere(CartpoleSwingup):
        def on_target(self, x):
            return super().on_target(x - np.array([5.0, 0.0, 0.0, 0.0]))

    assert report.target_range(Elsewhere, 4) is None


def test_no_summary_is_a_clear_error(tmp_path):
    with pytest.raises(MbrlError, match=r"summary.json: no such file; is this the folder of a run"):
        report.write_report(tmp_path)


def test_summary_is_left_as_it_was(tmp_path, runs):
    runs.build(tmp_path, trials=1)
    before = (tmp_path / "summary.json").read_bytes()
    make(tmp_path)
    assert (tmp_path / "summary.json").read_bytes() == before
    assert read_summary(tmp_path).trials[0].index == 0
