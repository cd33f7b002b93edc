"""ament_python build of mbrl_ros."""

from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

NODES = ["pybullet_sim", "state_estimator", "model_learner", "mpc_controller", "command_guard", "trial_manager"]
ROBOT_SIDE = ["link_watchdog"]  # no part of the graph; runs on the robot's computer
BESIDE = ["lifecycle_manager"]  # where the nodes do not start by themselves
VIEWERS = ["visualizer", "web_view"]  # where somebody wants to see
RECORDER = ["recorder"]  # where a run is to be replayed later


def tree(root: str) -> list[tuple[str, list[str]]]:
    """Data files below `root`, folder by folder, for share/mbrl_ros."""
    folders = sorted({p.parent for p in Path(root).rglob("*") if p.is_file() and "__pycache__" not in p.parts})
    return [(f"share/mbrl_ros/{folder}", [str(p) for p in folder.iterdir() if p.is_file()]) for folder in folders]


setup(
    name="mbrl_ros",
    version="0.1.0",
    packages=find_packages(include=["mbrl_ros", "mbrl_ros.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/mbrl_ros"]),
        ("share/mbrl_ros", ["package.xml", *glob("requirements*.txt")]),
        *tree("launch"),
        *tree("config"),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="The mbrl_ros authors",
    maintainer_email="maintainers@mbrl-ros.invalid",
    description="A robot learns its own dynamics while it moves and controls itself by planning through them.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "mbrl_ros = mbrl_ros.cli:main",
            *(f"{node} = mbrl_ros.nodes.{node}:main" for node in [*NODES, *ROBOT_SIDE, *BESIDE, *VIEWERS, *RECORDER]),
        ]
    },
)
