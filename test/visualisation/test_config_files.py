"""The files for rviz, rqt and PlotJuggler: they parse, and every topic in them is in the graph with its type."""

import ast
import json
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from ros_domain import own_domain

from mbrl_ros.robots.description import load_robot
from mbrl_ros.visualisation.rviz import rviz_file

CONFIG = Path(__file__).resolve().parent.parent.parent / "config"
RVIZ = yaml.safe_load((CONFIG / "rviz" / "cartpole.rviz").read_text())["Visualization Manager"]
PERSPECTIVE = json.loads((CONFIG / "rqt" / "mbrl_ros.perspective").read_text())
LAYOUT = ElementTree.parse(CONFIG / "plotjuggler" / "mbrl_ros.xml").getroot()
RVIZ_TYPES = {  # display -> type of its topic
    "rviz_default_plugins/RobotModel": "std_msgs/msg/String",
    "rviz_default_plugins/Path": "nav_msgs/msg/Path",
    "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
}
WITHOUT_TOPIC = {"rviz_default_plugins/Grid", "rviz_default_plugins/TF"}
RUNNING = {
    "rqt_plot/Plot": [1, 2, 3, 4],
    "rqt_runtime_monitor/RuntimeMonitor": [1],
    "rqt_reconfigure/Param": [1],
    "rqt_graph/RosGraph": [1],
}


@pytest.fixture(scope="module")
def graph():
    """Types of all topics that the nodes of the graph and the visualizer publish."""
    rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from mbrl_ros.nodes.command_guard import CommandGuard
    from mbrl_ros.nodes.model_learner import ModelLearner
    from mbrl_ros.nodes.mpc_controller import MpcController
    from mbrl_ros.nodes.pybullet_sim import PyBulletSim
    from mbrl_ros.nodes.state_estimator import StateEstimator
    from mbrl_ros.nodes.trial_manager import TrialManager
    from mbrl_ros.nodes.visualizer import Visualizer

    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    rclpy.init(args=["--ros-args", "-p", "planner:=random_shooting"], domain_id=own_domain(__file__))
    kinds = (CommandGuard, ModelLearner, MpcController, PyBulletSim, StateEstimator, TrialManager, Visualizer)
    nodes = [kind() for kind in kinds]
    found = defaultdict(set)
    for node in nodes:
        node.bring_up()
        for name, types in node.get_publisher_names_and_types_by_node(node.get_name(), "/"):
            found[name] |= set(types)
        for name, types in node.get_subscriber_names_and_types_by_node(node.get_name(), "/"):
            found[f"heard {name}"] |= set(types)
    yield found
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown()


def value(setting):
    assert setting["type"] == "repr"
    return ast.literal_eval(setting["repr"])


def plots():
    """Topics and fields that the perspective plots."""
    for name, group in PERSPECTIVE["groups"]["pluginmanager"]["groups"].items():
        if name.startswith("plugin__rqt_plot__"):
            topics = value(group["groups"]["plugin"]["keys"]["topics"])
            yield from [topics] if isinstance(topics, str) else topics


def test_every_display_of_rviz_shows_a_topic_of_the_graph(graph):
    shown = []
    for display in RVIZ["Displays"]:
        if display["Class"] in WITHOUT_TOPIC:
            continue
        topic = display.get("Topic") or display["Description Topic"]
        assert graph[f"/{topic['Value']}"] == {RVIZ_TYPES[display["Class"]]}, display["Name"]
        latched = topic["Value"] == "robot_description"
        assert topic["Durability Policy"] == ("Transient Local" if latched else "Volatile")
        shown.append(topic["Value"])
    assert shown == ["robot_description", "visualizer/plan_path", "visualizer/markers"]


def test_the_goal_tool_of_rviz_speaks_to_the_controller(graph):
    (tool,) = (tool for tool in RVIZ["Tools"] if tool["Class"].endswith("SetGoal"))
    assert graph[f"heard /{tool['Topic']['Value']}"] == {"geometry_msgs/msg/PoseStamped"}


def test_rviz_knows_every_kind_of_marker():
    display = next(d for d in RVIZ["Displays"] if d["Class"].endswith("MarkerArray"))
    source = (CONFIG.parent / "mbrl_ros" / "nodes" / "scene_messages.py").read_text()
    assert set(display["Namespaces"]) == {n for n in display["Namespaces"] if f'"{n}"' in source}
    assert set(display["Namespaces"]) == {
        "candidates", "futures", "goal", "limit_ends", "limits", "plan", "text", "tube",
    }  # fmt: skip


def test_another_robot_gets_the_configuration_in_its_own_frame(tmp_path):
    robot = load_robot("cartpole")
    assert rviz_file(robot, tmp_path) == CONFIG / "rviz" / "cartpole.rviz"
    (tmp_path / "arm.urdf").write_text(robot.urdf.read_text().replace('"world"', '"table"'))
    made = rviz_file(replace(robot, name="arm", urdf=tmp_path / "arm.urdf"), tmp_path)
    manager = yaml.safe_load(made.read_text())["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] == "table"
    assert manager["Displays"] == RVIZ["Displays"] and RVIZ["Global Options"]["Fixed Frame"] == "world"


def test_the_perspective_plots_numbers_of_the_graph(graph):
    for field in plots():
        topic, _, name = field.rpartition("/")
        assert graph[topic] == {"std_msgs/msg/Float64"} and name == "data", field
    needed = ("cost", "spread", "planning_time", "deadline_misses", "observation_age")
    assert {f"/mpc_controller/{name}/data" for name in needed} <= set(plots())
    assert "/model_learner/one_step_error/data" in plots()
    assert graph["/diagnostics"] == {"diagnostic_msgs/msg/DiagnosticArray"}, "for the runtime monitor"


def test_the_perspective_starts_its_plugins():
    manager = PERSPECTIVE["groups"]["pluginmanager"]
    assert value(manager["keys"]["running-plugins"]) == RUNNING
    named = {f"plugin__{name.replace('/', '__')}__{i}" for name, serials in RUNNING.items() for i in serials}
    assert set(manager["groups"]) == named


def curve_topic(curve, graph):
    """The topic that a curve of PlotJuggler is of: the longest one that its name begins with."""
    return max((t for t in graph if curve.startswith(f"{t}/")), key=len, default="")


def test_every_curve_of_plotjuggler_is_of_the_graph(graph):
    streamer = LAYOUT.find("Plugins/plugin[@ID='ROS2 Topic Subscriber']")
    selected = set(streamer.find("selected_topics").get("value").split(";"))
    used = set()
    for curve in LAYOUT.iter("curve"):
        topic = curve_topic(curve.get("name"), graph)
        rest = curve.get("name").removeprefix(f"{topic}/").split("/")
        if graph[topic] == {"std_msgs/msg/Float64"}:
            assert rest == ["data"], curve.get("name")
        else:
            assert graph[topic] == {"sensor_msgs/msg/JointState"}, curve.get("name")
            assert len(rest) == 2 and rest[1] in ("position", "velocity", "effort"), curve.get("name")
            assert topic.endswith("telemetry") or rest[0] in load_robot("cartpole").joints
        used.add(topic)
    assert used == selected
    assert len(list(LAYOUT.iter("Tab"))) == 3


def test_splitters_say_how_many_plots_they_have():
    for splitter in LAYOUT.iter("DockSplitter"):
        assert len(splitter) == int(splitter.get("count")) == len(splitter.get("sizes").split(";"))
