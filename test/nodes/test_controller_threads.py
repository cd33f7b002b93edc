"""The controller's `threads` reaches the models it is sent."""

import numpy as np
import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from std_msgs.msg import UInt8MultiArray

from mbrl_ros.models.probabilistic_ensemble import EnsembleConfig, ProbabilisticEnsemble
from mbrl_ros.models.serialization import to_bytes
from mbrl_ros.nodes.mpc_controller import MpcController


@pytest.mark.parametrize("threads", [1, 2])
def test_a_model_is_used_with_as_many_threads_as_configured(threads, monkeypatch):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    parameters = ["-p", "lockstep:=true", "-p", f"threads:={threads}"]
    rclpy.init(args=["--ros-args", *parameters], domain_id=own_domain(__file__))
    node = MpcController()
    try:
        node.bring_up()
        size = EnsembleConfig(members=2, width=4)
        model = ProbabilisticEnsemble.example(node.robot.layout, size, np.random.default_rng(0))
        node.on_model(UInt8MultiArray(data=to_bytes(model, 1, 10, "cartpole")))
        assert node.controller.problem.dynamics.threads == threads
    finally:
        node.destroy_node()
        rclpy.shutdown()
