"""Which topics the relay can stand in, and what they are called in front of it. No ROS."""

from mbrl_ros.graph import SIMULATOR
from mbrl_ros.robots.description import RobotDescription

BETWEEN_NODES = {  # topic -> the node that publishes it
    "observation": "state_estimator",
    "command": "mpc_controller",
    "applied_command": "command_guard",
    "dynamics_model": "model_learner",
    "plan": "mpc_controller",
    "trial": "trial_manager",
}


def relayed(robot: RobotDescription) -> dict[str, str]:
    """Topics of a robot's graph, its sensors' first, and the node that publishes each."""
    return {sensor.topic: SIMULATOR for sensor in robot.sensors} | BETWEEN_NODES


def original(topic: str) -> str:
    """Name of a topic in front of the relay."""
    return f"{topic}/original"


def relayed_by(owner: str, robot: RobotDescription) -> list[str]:
    """Topics of a node that the relay stands in."""
    return [topic for topic, node in relayed(robot).items() if node == owner]
