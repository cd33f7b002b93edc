"""Several runs on one page: every run a row, failures too, and only what differs in the parameters."""

from html.parser import HTMLParser

import numpy as np
import pytest

from mbrl_ros.errors import MbrlError
from mbrl_ros.reporting import comparison
from mbrl_ros.reporting.chart import Line, Marks, Rule
from mbrl_ros.reporting.report import report_on


class Rows(HTMLParser):
    """The cells of all tables, row by row."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.inside = [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        self.inside = tag in ("td", "th") or (self.inside and tag == "br")

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


def parameters(folder, seed, samples, output):
    shared = f"    seed: {seed}\n    output: {output}\n"
    text = f"mpc_controller:\n  ros__parameters:\n{shared}    cem.samples: {samples}\n"
    (folder / "parameters.yaml").write_text(text + f"model_learner:\n  ros__parameters:\n{shared}    rate: 3\n")


@pytest.fixture
def folders(tmp_path, runs):
    for name, seed in (("first", 1), ("second", 2)):
        runs.build(tmp_path / "runs" / name, trials=2, seed=seed)
        parameters(tmp_path / "runs" / name, seed, 64, name)
    return [tmp_path / "runs" / "first", tmp_path / "runs" / "second"]


def test_every_run_is_a_row_and_the_page_lies_beside_them(folders):
    path = report_on(folders)
    assert path == folders[0].parent / "comparison.html"
    text = path.read_text()
    rows = Rows(text).rows
    assert [row[0] for row in rows[1:3]] == ["first", "second"]
    assert [row[13] for row in rows[1:3]] == ["1", "2"] and len(rows[1]) == len(comparison.COLUMNS)
    assert "<h1>0 of 2 runs solved</h1>" in text
    assert not (folders[0] / "report.html").exists()  # the runs' own reports are left alone


def test_only_what_differs_in_the_parameters_is_shown(folders):
    parameters(folders[1], 2, 128, "elsewhere")
    rows = Rows(report_on(folders).read_text()).rows
    assert rows[3:] == [["parameter", "first", "second"], ["cem.samples", "64", "128"], ["seed", "1", "2"]]


def test_parameters_that_only_some_runs_have_and_nodes_that_disagree():
    one = {"a": {"rate": 1, "same": 5, "gone": 2}, "b": {"rate": 1, "same": 5}}
    two = {"a": {"rate": 2, "same": 5}, "b": {"rate": 3, "same": 5}}
    assert comparison.differences([one, two]) == {
        "gone": ["2", comparison.NOTHING],
        "rate": ["1", "2"],
        "b.rate": ["1", "3"],
    }
    assert comparison.differences([one, one]) == {}


def test_a_node_that_only_some_runs_had_is_one_row():
    alone = {"mpc_controller": {"horizon": 8, "seed": 1}}
    watched = {"mpc_controller": {"horizon": 9, "seed": 1}, "recorder": {"seed": 2, "filter.gate": 0.9, "bag": ""}}
    expected = {"horizon": ["8", "9"], "node recorder": [comparison.NOTHING, "yes"]}
    assert comparison.differences([alone, watched]) == expected
    assert comparison.differences([watched, watched]) == {}


def test_a_run_that_cannot_be_read_is_a_row_with_its_reason(folders):
    (folders[1] / "summary.json").write_text("{")
    text = report_on(folders).read_text()
    row = Rows(text).rows[2]
    assert row[:2] == ["second", "no"] and "summary.json: damaged summary" in row[6]
    assert "0 of 2 runs solved" in text and "What is missing" in text


def test_output_may_be_chosen(folders, tmp_path):
    assert report_on(folders, tmp_path / "pages" / "two.html").read_text().startswith("<!DOCTYPE html>")
    assert not (folders[0].parent / "comparison.html").exists()


def test_mistakes_are_named(folders, tmp_path):
    with pytest.raises(MbrlError, match="none: no such run folder"):
        report_on([folders[0], tmp_path / "none"])
    with pytest.raises(MbrlError, match="is there twice"):
        report_on([folders[0], folders[0].parent / "." / "first"])
    for folder in folders:
        (folder / "summary.json").unlink()
    with pytest.raises(MbrlError, match=r"first/summary.json: no such file(.|\n)*second/summary.json"):
        report_on(folders)


def test_curves_are_every_trial_as_it_was(runs):
    values = ([9.0, 5.0, 7.0], [8.0, 8.5])
    summaries = [
        runs.summarise(
            *(
                runs.result_of(i, runs.simulate(i), cost=c, solved=c == 5.0, ended_early="wall" * (c == 8.5))
                for i, c in enumerate(costs)
            )
        )
        for costs in values
    ]
    figure = comparison.curves([("a", summaries[0]), ("b", summaries[1])])
    chart = figure.charts[1]
    lines = {layer.label: layer for layer in chart.layers if isinstance(layer, Line)}
    np.testing.assert_array_equal(lines["a"].y, values[0])  # worse after better stays worse
    np.testing.assert_array_equal(lines["a"].x, [0.0, 3.0, 6.0])
    np.testing.assert_array_equal(lines["b"].y, values[1])
    marks = [(m.shape, m.filled, m.y.tolist()) for m in chart.layers if isinstance(m, Marks)]
    assert marks == [
        ("circle", True, [5.0]),
        ("circle", False, [9.0, 7.0]),
        ("cross", True, [8.5]),
        ("circle", False, [8.0]),
    ]
    assert chart.y_range[0] == 0.0 and lines["a"].colour != lines["b"].colour
    assert [r.at for r in chart.layers if isinstance(r, Rule)] == [17.5, 18.0]


def test_more_runs_than_colours_differ_in_their_dashes(runs):
    summary = runs.summarise(runs.result_of(0, runs.simulate(0)))
    looks = {
        (layer.colour, layer.dash)
        for i in range(20)
        for layer in comparison.curve(i, ("r", summary), [1.0])
        if isinstance(layer, Line)
    }
    assert len(looks) == 20


def test_runs_of_different_tasks_have_no_records_and_a_warning(tmp_path, runs):
    runs.build(tmp_path / "a", trials=1)
    runs.build(tmp_path / "b", trials=1, task="other")
    text = report_on([tmp_path / "a", tmp_path / "b"]).read_text()
    assert "different tasks" in text and "PILCO" not in text


def test_names_and_problems_cannot_become_html(tmp_path, runs):
    for name in ("a", "<b>"):
        runs.build(tmp_path / name, trials=1, ended="node died: <i>")
    text = report_on([tmp_path / "a", tmp_path / "<b>"]).read_text()
    assert "<b>" not in text.replace("<body>", "") and "<i>" not in text and "&lt;b&gt;" in text
