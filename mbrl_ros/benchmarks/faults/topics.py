"""Which topics the relay can stand in, and what they are called in front of it. No ROS."""

RELAYED = {  # topic -> the node that publishes it
    "joint_states": "pybullet_sim",
    "observation": "state_estimator",
    "command": "mpc_controller",
    "applied_command": "command_guard",
    "dynamics_model": "model_learner",
    "plan": "mpc_controller",
    "trial": "trial_manager",
}


def original(topic: str) -> str:
    """Name of a topic in front of the relay."""
    return f"{topic}/original"


def relayed_by(owner: str) -> list[str]:
    """Topics of a node that the relay stands in."""
    return [topic for topic, node in RELAYED.items() if node == owner]
