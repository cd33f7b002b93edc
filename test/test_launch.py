"""The launch file: its arguments, the nodes it starts, what it does with mistakes, and whole runs under ros2 launch."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml
from ros_domain import own_domain

# `launch` alone would find the folder of that name in a checkout.
pytest.importorskip("launch_ros.actions", reason="launch_ros is not installed: no ROS 2 is sourced (it is no wheel)")

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription, LaunchDescriptionSource, LaunchService
from mbrl_ros.errors import MbrlError
from mbrl_ros.graph import GRAPH, MANAGER, RECORDER, VIEWERS, TrialConfig
from mbrl_ros.models import MODELS
from mbrl_ros.params_file import OPTIONS
from mbrl_ros.planners import PLANNERS
from mbrl_ros.reporting.summary import read_summary
from mbrl_ros.robots.description import robot_names

LAUNCH_FILE = Path(__file__).resolve().parent.parent / "launch" / "sim.launch.py"
QUICK = {  # small enough for a test; what it learns does not matter here
    "mpc_controller": {"horizon": 8, "cem": {"samples": 16, "rounds": 2, "elites": 4}},
    "model_learner": {"refit_every": 15, "gaussian_process": {"max_data": 40, "iterations": 5, "refit_iterations": 2}},
}


def load():
    spec = importlib.util.spec_from_file_location("sim_launch", LAUNCH_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SIM = load()


def started(tmp_path, **arguments):
    """What the launch file does with these arguments: the actions, and the parameters of the run."""
    context = LaunchContext(argv=[])
    given = {"output": str(tmp_path / "run")} | arguments
    for argument in SIM.ARGUMENTS:
        default = "".join(part.perform(context) for part in argument.default_value)
        context.launch_configurations[argument.name] = given.pop(argument.name, default)
    assert not given, "arguments that the launch file does not declare"
    actions = SIM.setup(context)
    return actions, yaml.safe_load((tmp_path / "run" / "parameters.yaml").read_text())


def params_file(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({node: {"ros__parameters": values} for node, values in content.items()}))
    return path


def test_every_argument_is_declared_with_a_description():
    declared = [a for a in SIM.generate_launch_description().entities if isinstance(a, DeclareLaunchArgument)]
    assert {a.name for a in declared} == {
        *OPTIONS, "namespace", "params_file", "use_sim_time", "output", "fit_rate", "rviz", "record", "log_level",
    }  # fmt: skip
    assert all(a.description and a.description != "no description given" for a in declared)


def test_choices_are_the_registries_and_descriptions_name_the_defaults():
    arguments = {a.name: a for a in SIM.ARGUMENTS}
    choices = {name: a.choices for name, a in arguments.items() if a.choices}
    assert choices == {
        "planner": ["unset", *PLANNERS],
        "model": ["unset", *MODELS],
        "remote_learner": ["unset", "true", "false"],
        "fit_rate": ["true", "false"],
        "rviz": ["true", "false"],
        "record": ["true", "false"],
        "lockstep": ["unset", "true", "false"],
        "autostart": ["unset", "true", "false"],
        "paused": ["unset", "true", "false"],
        "gui": ["unset", "true", "false"],
        "use_sim_time": ["unset", "true", "false"],
        "log_level": ["debug", "info", "warn", "error", "fatal"],
    }
    assert all(name in arguments["robot"].description for name in robot_names())
    assert arguments["trials"].description.endswith(f"or else {TrialConfig().trials}")
    assert arguments["lockstep"].description.split(". Valid")[0].endswith("or else false")


def test_one_node_for_each_entry_of_the_graph(tmp_path):
    actions, _ = started(tmp_path)
    nodes = [a for a in actions if isinstance(a, Node)]
    assert [(n.node_package, n.node_executable) for n in nodes] == [("mbrl_ros", spec.name) for spec in GRAPH]


@pytest.mark.parametrize("publisher", [True, False], ids=["with TF", "without TF"])
def test_rviz_comes_with_the_visualizer_and_what_publishes_tf(tmp_path, monkeypatch, publisher, capsys):
    there = {"rviz2", "robot_state_publisher"} if publisher else {"rviz2"}
    monkeypatch.setattr(SIM, "installed", there.__contains__)
    actions, parameters = started(tmp_path, rviz="true")
    names = [a.node_executable for a in actions if isinstance(a, Node)]
    assert names[len(GRAPH) :] == ["visualizer", *(["robot_state_publisher"] if publisher else []), "rviz2"]
    assert parameters["visualizer"]["ros__parameters"]["robot"] == "cartpole"
    assert ("robot_state_publisher" in capsys.readouterr().out) is not publisher


def test_a_recorder_beside_the_graph_knows_the_sensors_and_the_models(tmp_path):
    path = params_file(
        tmp_path,
        {
            "state_estimator": {"filter": {"joint_topics": "left"}},
            "mpc_controller": {"model_topic": "/fleet/models"},
            "recorder": {"flush_period": 0.25},
        },
    )
    actions, parameters = started(tmp_path, record="true", params_file=str(path))
    names = [a.node_executable for a in actions if isinstance(a, Node)]
    assert names == [*(spec.name for spec in GRAPH), "recorder"]
    recorder = parameters["recorder"]["ros__parameters"]
    assert recorder["filter.joint_topics"] == "left" and recorder["model_topic"] == "/fleet/models"
    assert recorder["flush_period"] == 0.25 and recorder["output"] == str(tmp_path / "run")


def test_without_rviz_installed_the_launch_says_so_and_starts_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(SIM, "installed", lambda package: False)
    with pytest.raises(MbrlError, match="rviz2 is not installed: sudo apt install ros-jazzy-rviz2"):
        started(tmp_path, rviz="true")
    assert not (tmp_path / "run").exists()


def test_an_executable_for_each_node():
    scripts = {e.name: e.value for e in entry_points(group="console_scripts") if e.value.startswith("mbrl_ros")}
    nodes = {*(spec.name for spec in (*GRAPH, *VIEWERS, RECORDER, MANAGER)), "link_watchdog"}
    assert scripts == {"mbrl_ros": "mbrl_ros.cli:main"} | {name: f"mbrl_ros.nodes.{name}:main" for name in nodes}


def test_arguments_win_over_the_params_file_and_unset_ones_leave_it(tmp_path):
    shared = {"seed": 5, "lockstep": True, "use_sim_time": True, "planner": "random_shooting"}
    path = params_file(tmp_path, {"/**": shared})
    _, kept = started(tmp_path, params_file=str(path))
    for name in ("seed", "lockstep", "use_sim_time"):
        assert all(node["ros__parameters"][name] == shared[name] for node in kept.values())
    assert kept["mpc_controller"]["ros__parameters"]["planner"] == "random_shooting"
    arguments = {"seed": "7", "lockstep": "false", "use_sim_time": "false", "planner": "cem"}
    _, used = started(tmp_path, params_file=str(path), **arguments)
    for name, value in (("seed", 7), ("lockstep", False), ("use_sim_time", False)):
        assert all(node["ros__parameters"][name] is value for node in used.values())
    assert used["mpc_controller"]["ros__parameters"]["planner"] == "cem"


def test_namespace_is_in_the_parameter_file(tmp_path):
    _, parameters = started(tmp_path, namespace="robot_1")
    assert set(parameters) == {f"/robot_1/{spec.name}" for spec in GRAPH}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"robot": "nobody"}, r"unknown robot 'nobody'; choose one of: .*cartpole"),
        ({"seed": "x"}, r"seed: 'x' is not allowed; expected int in \[0, "),
        ({"trials": "0"}, r"trials: 0 is not allowed; expected int in \[1, "),
        ({"params_file": "no_such.yaml"}, "params file no_such.yaml: No such file"),
    ],
)
def test_mistake_is_a_message_instead_of_nodes(tmp_path, arguments, message):
    with pytest.raises(MbrlError, match=message):
        started(tmp_path, **arguments)
    assert not (tmp_path / "run").exists()


def test_mistake_in_a_params_file_names_file_node_key_value_and_range(tmp_path):
    path = params_file(tmp_path, {"mpc_controller": {"horizon": 0}})
    with pytest.raises(MbrlError) as error:
        started(tmp_path, params_file=str(path))
    assert str(error.value) == (
        f"params file {path}: mpc_controller: horizon: 0 is not allowed; expected int in [1, 1000]"
    )


def test_launch_with_a_mistake_returns_an_error(tmp_path):
    arguments = {"robot": "nobody", "output": str(tmp_path / "run")}
    source = LaunchDescriptionSource(SIM.generate_launch_description(), str(LAUNCH_FILE))
    service = LaunchService(argv=[], noninteractive=True)
    service.include_launch_description(
        LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments.items())])
    )
    assert service.run() == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "code", "interrupted", "died", "exit_code"),
    [
        ("trial_manager", 0, False, "", 0),
        ("trial_manager", 0, True, "", 130),
        ("trial_manager", 2, False, "trial_manager", 1),
        ("command_guard", 0, False, "", 130),
        ("command_guard", -9, False, "command_guard", 1),
        ("command_guard", -9, True, "", 130),
    ],
)
def test_first_end_of_a_process_tells_how_the_run_ended(name, code, interrupted, died, exit_code):
    ending = SIM.how_it_ended(name, code, interrupted)
    assert (ending.died, ending.code) == (died, exit_code)


def installed():
    """Whether `ros2 launch mbrl_ros` would find the package."""
    try:
        return shutil.which("ros2") is not None and bool(get_package_prefix("mbrl_ros"))
    except PackageNotFoundError:
        return False


needs_ros2 = pytest.mark.skipif(not installed(), reason="no ros2 command, or mbrl_ros is not built with colcon")


def launch(tmp_path, case, trials):
    """A short run in lockstep, in a ROS domain of its own."""
    environment = dict(os.environ) | {
        "ROS_DOMAIN_ID": str(own_domain(__file__, case)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOG_DIR": str(tmp_path / "log"),
    }
    arguments = {"params_file": params_file(tmp_path, QUICK), "lockstep": "true", "trials": trials, "namespace": "lab"}
    arguments["output"] = tmp_path / "run"
    return subprocess.Popen(
        ["ros2", "launch", "mbrl_ros", "sim.launch.py", *(f"{name}:={value}" for name, value in arguments.items())],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(process, text):
    """Output up to the first line with `text`."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError("".join(lines))


@needs_ros2
def test_run_ends_by_itself_and_leaves_the_report(tmp_path):
    process = launch(tmp_path, 0, trials=1)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert "Traceback" not in output, output
    assert (tmp_path / "run" / "report.html").is_file()
    assert read_summary(tmp_path / "run").ended == "trials used up"


@needs_ros2
def test_interrupt_ends_every_node_and_leaves_the_summary(tmp_path):
    process = launch(tmp_path, 1, trials=100)
    output = read_until(process, "trial 0 (base)")
    process.send_signal(signal.SIGINT)
    output += process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert "Traceback" not in output, output
    assert output.count("process has finished cleanly") == len(GRAPH), output
    assert "interrupted; every process has ended" in output
    assert read_summary(tmp_path / "run").ended == "interrupted"


@needs_ros2
def test_a_dead_node_ends_the_run_and_is_named(tmp_path):
    process = launch(tmp_path, 2, trials=100)
    output = read_until(process, "trial 0 (base)")
    os.kill(int(re.search(r"state_estimator-\d+\]: process started with pid \[(\d+)\]", output)[1]), signal.SIGKILL)
    output += process.communicate(timeout=120)[0]
    assert process.returncode == 1, output
    assert "state_estimator died: killed by SIGKILL" in output
    assert output.count("process has finished cleanly") == len(GRAPH) - 1, output
    assert read_summary(tmp_path / "run").ended == "node died: state_estimator (killed by SIGKILL)"
    assert (tmp_path / "run" / "report.html").is_file()
