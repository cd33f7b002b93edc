"""The live view shows what is known and a dash for what is not."""

import io
import math

from rich.console import Console

from mbrl_ros.terminal import RunView, plain_header, plain_line, render

TRIAL = {
    "trial": 2.0,
    "mpc": 1.0,
    "experience": 9.0,
    "cost": 31.25,
    "time_on_target": 1.5,
    "solved": 1.0,
    "refits": 3.0,
}
TRIAL |= {"one_step_error": 0.043, "multi_step_error": math.nan, "deadline_misses": 4.0}
TRIAL |= {"planning_p50": 8.12, "planning_p99": 16.5, "planning_max": 20.0}


def text(view):
    console = Console(width=180, record=True, file=io.StringIO())
    console.print(render(view))
    return console.export_text()


def test_a_trial_as_a_plain_line_stands_under_its_heading():
    header, line = plain_header(), plain_line(TRIAL)
    assert line.split() == [
        "2",
        "mpc",
        "9.0",
        "31.2",
        "1.50",
        "yes",
        "0.043",
        "-",
        "3",
        "8.1",
        "/",
        "16.5",
        "/",
        "20.0",
        "4",
    ]
    assert header.index("cost") + len("cost") == line.index("31.2") + len("31.2")


def test_the_view_before_anything_happened():
    assert "robot" in text(RunView("robot", 30.0))


def test_what_a_node_says_is_shown_as_it_is_and_never_read_as_markup():
    view = RunView("[/i]", 30.0, nodes={"[x]": (0, "[/b] no [file")})
    assert "[/b] no [file" in text(view) and "[x]" in text(view) and "[/i]" in text(view)


def test_the_view_shows_trials_nodes_planning_and_misses():
    view = RunView(
        "robot", 30.0, trials=[TRIAL], nodes={"command_guard": (0, "armed"), "model_learner": (2, "disk full")}
    )
    view.tick = {"deadline_misses": 7.0, "cost": 12.5, "spread": 0.25, "model_version": 9.0}
    view.planning_ms.extend([10.0, 12.0, 14.0])
    shown = text(view)
    for words in ("command_guard", "armed", "disk full", "12.0 / 14.0 / 14.0 ms of 30", "misses 7", "model 9", "yes"):
        assert words in shown
