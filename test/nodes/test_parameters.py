"""Parameters of a live node: described, with ranges, checked as a whole, and in force from the next tick on."""

import os

import numpy as np
import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.parameter import Parameter

from mbrl_ros.nodes.mpc_controller import MpcController


@pytest.fixture(scope="module")
def controller():
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    arguments = ["--ros-args", "-p", "horizon:=9", "-p", "task.width:=0.5"]
    rclpy.init(args=arguments, domain_id=own_domain(__file__))
    node = MpcController()
    node.bring_up()
    yield node
    node.destroy_node()
    rclpy.shutdown()


def set_parameters(node, **values):
    changes = [Parameter(name.replace("__", "."), value=value) for name, value in values.items()]
    return node.set_parameters_atomically(changes)


def upright_cost(node):
    task = node.controller.problem.task
    return float(task.running_cost(np.array([0.3, 0.0, 0.0, 0.0]), np.zeros(1)))


def test_overrides_reach_the_problem(controller):
    assert controller.controller.problem.horizon == 9
    assert controller.groups["task"].width == 0.5


def test_every_parameter_is_described_and_numbers_have_ranges(controller):
    described = controller.describe_parameter("task.width")
    assert described.description.endswith("[m]")
    assert (described.floating_point_range[0].from_value, described.floating_point_range[0].to_value) == (0.01, 10.0)
    assert controller.describe_parameter("horizon").integer_range[0].to_value == 1000


def test_a_dynamic_parameter_changes_the_cost_of_the_next_plan(controller):
    before = upright_cost(controller)
    assert set_parameters(controller, task__width=0.1).successful
    assert upright_cost(controller) > before
    refused = set_parameters(controller, risk__measure="worst_case")
    assert not refused.successful and "propagation 'mean'" in refused.reason
    assert set_parameters(controller, risk__measure="worst_case", propagation="ts1").successful
    assert controller.controller.problem.dynamics.propagation == "ts1"
    assert controller.controller.problem.risk(np.array([[1.0], [3.0]])) == 3.0


def test_a_model_adapted_since_is_planned_with_as_the_parameters_now_say(controller, monkeypatch):
    fitted = controller.controller.problem.dynamics.with_propagation("mean")
    monkeypatch.setattr(controller.adapter, "take", lambda pairs: fitted)
    assert set_parameters(controller, propagation="ts_inf").successful
    controller.adapt([])
    assert controller.controller.problem.dynamics.propagation == "ts_inf"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"task__width": 99.0}, "width"),
        ({"task__width": "wide"}, "width: 'wide'"),
        ({"risk__measure": "bold"}, "one of: risk_neutral, worst_case, cvar, mean_plus_std"),
        ({"task__width": 0.3, "risk__alpha": -1.0}, "alpha"),
        ({"mode": "open_loop"}, "read-only"),
        (
            {"task__goal_position": 2.6},
            "goal: cart_slider/position 2.6 is not allowed; expected a number in [-2.5, 2.5]",
        ),
    ],
)
def test_what_is_not_allowed_is_refused_with_the_reason_and_changes_nothing(controller, values, said):
    before = controller.groups["task"], controller.groups["risk"], controller.controller.problem
    result = set_parameters(controller, **values)
    assert not result.successful
    assert said in result.reason
    assert (controller.groups["task"], controller.groups["risk"], controller.controller.problem) == before
