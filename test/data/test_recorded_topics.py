"""What is recorded: of every robot its sensors, each topic once, with the namespace, and nothing that moves it."""

from dataclasses import replace
from pathlib import Path

import pytest

import mbrl_ros
from mbrl_ros.data.bag_export import TYPES
from mbrl_ros.data.recorded_topics import RecordedTopic, full_name, recorded_topics, sensor_topics
from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.robots.description import load_robot

EXAMPLES = Path(mbrl_ros.__file__).parents[1] / "config" / "robots" / "examples"
NEEDED = {  # what `mbrl_ros replay` cannot do without, of any robot
    "/observation",
    "/command",
    "/applied_command",
    "/trial",
    "/mpc_controller/telemetry",
    "/model_learner/telemetry",
    "/dynamics_model",
    "/parameter_events",
    "/plan",
    "/robot_description",
    "/diagnostics",
}


def topics(robot, config=None, namespace="", lockstep=False, model_topic="dynamics_model"):
    found = recorded_topics(robot, config or FilterConfig(), model_topic, namespace, lockstep)
    assert len({t.name for t in found}) == len(found), "each once"
    return {t.name: t for t in found}


@pytest.mark.parametrize("name", ["cartpole", *(str(path) for path in sorted(EXAMPLES.glob("*.yaml")))])
def test_all_that_a_replay_needs_is_there_of_every_robot_and_of_a_known_type(name):
    robot = load_robot(name)
    found = topics(robot)
    assert found.keys() >= NEEDED
    assert all(t.type in TYPES.types for t in found.values())
    assert full_name(robot.output_topic, "") not in found, "playing a bag must not move a robot"
    for sensor in robot.sensors:
        assert found[full_name(sensor.topic, "")].type.endswith(f"/{sensor.type}")


def test_sensors_are_those_of_the_parameters_where_these_say_some():
    robot = load_robot("cartpole")
    config = replace(FilterConfig(), joint_topics="left, ~/right")
    assert list(sensor_topics(robot, config)) == ["left", "~/right"]
    found = topics(robot, config, namespace="lab/one")
    assert {"/lab/one/left", "/lab/one/state_estimator/right"} <= found.keys()


def test_names_have_the_namespace_but_global_ones_have_none():
    found = topics(load_robot("cartpole"), namespace="/lab/", model_topic="/fleet/dynamics_model")
    assert {"/lab/observation", "/fleet/dynamics_model", "/diagnostics", "/parameter_events"} <= found.keys()
    assert "/lab/dynamics_model" not in found


def test_sensors_are_taken_as_they_come_and_in_lockstep_nothing_is_lost():
    robot = load_robot("cartpole")
    real, lockstep = topics(robot), topics(robot, lockstep=True)
    assert real["/joint_states"] == RecordedTopic("/joint_states", "sensor_msgs/msg/JointState", False, False)
    assert (lockstep["/joint_states"].reliable, lockstep["/joint_states"].latched) == (True, True)
    assert not real["/command"].latched and lockstep["/command"].latched
    assert all(real[name].latched for name in ("/trial", "/dynamics_model", "/robot_description"))
