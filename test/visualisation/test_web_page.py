"""The web page: what is in its scene, what a knob does, who may connect."""

import socket
import sys
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest

from mbrl_ros.errors import MbrlError
from mbrl_ros.robots.description import load_robot
from mbrl_ros.robots.kinematics import Kinematics
from mbrl_ros.visualisation.knobs import Knob
from mbrl_ros.visualisation.scene import Scene, tube
from mbrl_ros.visualisation.web_page import WebPage, check_address, import_viser, trials_table

KINEMATICS = Kinematics(load_robot("cartpole"))
X = np.array([0.5, 0.3, 0.0, 0.0])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def page():
    pytest.importorskip("viser", reason="viser is not installed: pip install -r requirements-web.txt")
    result = WebPage(KINEMATICS, "127.0.0.1", free_port(), "test")
    yield result
    result.close()


def a_scene(steps=4):
    paths = np.cumsum(np.random.default_rng(0).normal(size=(5, steps, 3)), axis=1)
    return Scene(
        "world", 0, X, KINEMATICS.point(X), paths.mean(axis=0), paths, tube(paths), paths[:2], np.array([1.0, 2.0]),
        goal=np.array([0.0, 0.0, 0.5]), limits={"cart_slider": KINEMATICS.sweep("cart_slider", -2.5, 2.5, X)},
        title="trial 1: planning", state=("cart_slider: +0.50 m",),
    )  # fmt: skip


def test_the_page_is_served_on_this_machine_only(page):
    with urllib.request.urlopen(page.url) as answer:
        assert answer.status == 200 and b"<html" in answer.read().lower()
    others = [info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    for address in {a for a in others if not a.startswith("127.")}:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            assert probe.connect_ex((address, int(page.url.rsplit(":", 1)[1]))) != 0
    assert not page.watched


def test_links_are_where_forward_kinematics_has_them(page):
    page.draw(a_scene(), {}, [])
    for link, pose in KINEMATICS.poses(X).items():
        np.testing.assert_allclose(page._links[link].position, pose[:3, 3])


def test_lines_and_tube_follow_the_scene(page):
    for steps in (4, 4, 6):
        scene = a_scene(steps)
        page.draw(scene, {}, [])
        points = page._lines["plan"].points
        np.testing.assert_allclose(points[:, 0], scene.plan[:-1], rtol=1e-6)
        np.testing.assert_allclose(points[:, 1], scene.plan[1:], rtol=1e-6)
        np.testing.assert_allclose(page._tube.batched_positions, scene.tube.centres, rtol=1e-6)
        assert len(page._lines["futures"].points) == 5 * (steps - 1)
    cheap, expensive = page._lines["candidates"].colors[0, 0], page._lines["candidates"].colors[-1, 0]
    assert cheap[1] > cheap[0] and expensive[0] > expensive[1], "cheap is green"
    page.draw(Scene("world", 0, X, KINEMATICS.point(X)), {}, [])
    assert not page._lines["plan"].visible and not page._tube.visible and not page._goal.visible


def test_what_is_switched_off_is_hidden(page):
    page._shown["candidates"].value = False
    page.draw(a_scene(), {}, [])
    assert not page._lines["candidates"].visible and page._lines["plan"].visible
    page._shown["candidates"].value = True
    page.draw(a_scene(), {}, [])
    assert page._lines["candidates"].visible


def test_figures_are_written_and_plotted_once(page):
    figures = {"cost": 3.0, "spread": 0.2, "planning_time": 0.012, "deadline_misses": 2.0}
    for _ in range(2):
        page.draw(a_scene(), figures, [{"trial": 0.0, "cost": 90.0, "time_on_target": 0.25, "solved": 0.0}])
    assert page._figures.content == "cost of the plan **3** · spread **0.2** · deadline misses **2**"
    assert "trial 1: planning" in page._heading.content
    assert page._plots["planning_time"].data[1].tolist() == [12.0], "milliseconds, each tick once"
    assert page._trials.content.splitlines()[-1] == "0 | 90.0 | 0.25 | no"
    assert trials_table([]) == ""


def test_a_newcomer_can_read_the_page(page):
    """Colours are named, the goal where there is one; plots have a scale, and no line that nobody has measured."""
    shown = {name: box.label for name, box in page._shown.items()}
    assert set(shown) == {"plan", "tube", "futures", "candidates", "limits"}
    assert all(label.startswith(f"{name} (") for name, label in shown.items())
    assert all(box.hint for box in page._shown.values())
    page.draw(a_scene(), {}, [])
    assert page._goal_note.visible
    page.draw(Scene("world", 0, X, KINEMATICS.point(X)), {}, [])
    assert not page._goal_note.visible
    for plot in page._plots.values():
        assert plot.series[0]["label"] == "time (s)" and plot.series[1]["label"].endswith(")"), "units are said"
        assert plot.padding[0] >= 8, "the highest label is not cut off"
        assert plot.height >= 120 and plot.axes[1]["space"] <= 20, "two labels are to fit, also on a phone"
        assert (
            plot.series[1]["points"]["show"] and plot.series[1]["stroke"] == plot.series[1]["points"]["stroke"] + "40"
        )


def test_a_persons_turn_is_told_and_the_servers_own_is_not(page):
    turned = []
    knobs = [
        Knob("n", "weight", 0.4, 0.0, 2.0, 0.01, about="a weight"),
        Knob("n", "shown", True),
        Knob("n", "kind", "a", choices=("a", "b")),
        Knob("n", "word", "x"),
    ]
    page.add_knobs("n", knobs, lambda knob, value: turned.append((knob.name, value)))
    page.answer("n", "weight", 0.5, "")
    assert turned == [] and page._knobs["n", "weight"].value == 0.5
    page.answer("n", "weight", 0.4, "weight: 9.0 is not allowed")
    assert "9.0 is not allowed" in page._knobs["n", ""].content and page._knobs["n", "weight"].value == 0.4
    for handle in (page._knobs["n", "weight"], page._knobs["n", "kind"]):
        for callback in handle._impl.update_cb:
            callback(SimpleNamespace(client=object(), target=SimpleNamespace(value="chosen")))
    assert turned == [("weight", "chosen"), ("kind", "chosen")]


def test_an_address_in_use_and_a_missing_package_are_named(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(MbrlError, match=r"cannot be used: Address already in use; expected .* a port that is free"):
            check_address("127.0.0.1", taken.getsockname()[1])
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(MbrlError, match="pip install -r requirements-web"):
        import_viser()
