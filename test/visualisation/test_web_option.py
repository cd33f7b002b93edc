"""``mbrl_ros sim --web``: parameters of the page, and what is said where it cannot be."""

import socket
import sys
from types import SimpleNamespace

import pytest
import yaml

from mbrl_ros.bringup import Graph
from mbrl_ros.cli import main, parser
from mbrl_ros.errors import MbrlError
from mbrl_ros.graph import NODES, VISUALIZER, WEB_VIEW
from mbrl_ros.params_file import resolve, viewer_parameters
from mbrl_ros.session import add_web_view


def options(**given):
    return SimpleNamespace(**{"web": True, "web_host": None, "web_port": None, "params_file": None} | given)


def test_a_real_robot_is_shown_with_the_same_options():
    arguments = parser().parse_args(["robot", "--robot", "arm.yaml", "--web", "--web-port", "9000"])
    assert (arguments.web, arguments.web_host, arguments.web_port) == (True, None, 9000)


def test_only_this_machine_is_served_unless_asked():
    parameters = resolve({"seed": 7}, None)
    values = viewer_parameters(WEB_VIEW, parameters, None, {"host": None, "port": None})
    assert (values["host"], values["port"], values["seed"], values["robot"]) == ("127.0.0.1", 8080, 7, "cartpole")
    arguments = parser().parse_args(["sim", "--web", "--web-host", "0.0.0.0", "--web-port", "9000"])
    assert (arguments.web, arguments.web_host, arguments.web_port) == (True, "0.0.0.0", 9000)


def test_the_file_says_and_the_options_win(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump({"web_view": {"ros__parameters": {"port": 9000, "particles": 3}}}))
    values = viewer_parameters(WEB_VIEW, resolve({}, path), path, {"host": None, "port": 9001})
    assert (values["port"], values["particles"]) == (9001, 3)
    assert viewer_parameters(VISUALIZER, resolve({}, path), path, {})["particles"] == 10
    with pytest.raises(MbrlError, match=r"web_view: port: 0 is not allowed; expected int in \[1, 65535\]"):
        viewer_parameters(WEB_VIEW, resolve({}, None), None, {"port": 0})


def test_a_missing_viewer_is_said_before_anything_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "viser", None)
    assert main(["sim", "--web", "--output", str(tmp_path / "run")]) == 2
    assert "the web view needs viser; install it with: pip install" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_port_in_use_is_said_before_anything_starts(monkeypatch):
    monkeypatch.setattr("mbrl_ros.session.import_viser", lambda: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(MbrlError, match=f"127.0.0.1:{port} cannot be used"):
            add_web_view(resolve({}, None), options(web_port=port))


def test_a_page_that_has_ended_is_said_once_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    codes = {"web_view": 1, "mpc_controller": None}
    monkeypatch.setattr("mbrl_ros.bringup.start", lambda name, *_: SimpleNamespace(poll=lambda: codes[name], pid=0))
    monkeypatch.setattr("mbrl_ros.bringup.pin", lambda processes: None)
    graph = Graph(tmp_path / "p.yaml", tmp_path, "", "info", [WEB_VIEW, NODES["mpc_controller"]])
    assert graph.ended() is None and graph.ended() is None
    assert capsys.readouterr().out.count("web_view has ended (exit code 1); the run goes on without it") == 1
    codes["mpc_controller"] = 1
    assert graph.ended().died == "mpc_controller"
