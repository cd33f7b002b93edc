"""The import rule of docs/architecture.md, held by parsing every file."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "mbrl_ros"
FILES = sorted(ROOT.rglob("*.py"))
ROS = {"rclpy", "launch", "launch_ros", "builtin_interfaces", "diagnostic_msgs", "rcl_interfaces", "rosgraph_msgs"}
ROS |= {"sensor_msgs", "std_msgs", "std_srvs", "trajectory_msgs", "geometry_msgs", "nav_msgs", "visualization_msgs"}

# Each layer may import itself and the layers before it.
LAYERS = (
    ("types", "errors", "config", "resources", "registry"),
    ("models", "tasks", "robots", "policies", "data", "estimation", "safety"),
    ("planners",),
    ("reporting", "control", "visualisation"),
    (
        "graph",
        "params_file",
        "transport",
        "bringup",
        "recording",
        "replay",
        "terminal",
        "warm_up",
        "parameter_tables",
        "benchmarks",
        "nodes",
        "session",
        "commands",
        "cli",
    ),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def imports(path: Path) -> list[str]:
    """Full names of all modules that a file imports, anywhere in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append(node.module)
    return found


def layer_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if part == "__init__":
        return
    assert part in RANK, f"{part} has no place in the layers"
    for module in imports(path):
        if module.startswith("mbrl_ros.") and layer_of(module) != part:
            assert RANK[layer_of(module)] <= RANK[part], f"{part} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_and_foreign_packages_stay_where_they_belong(path):
    name = str(path.relative_to(ROOT))
    roots = {module.split(".")[0] for module in imports(path)}
    if not name.startswith("nodes/"):
        assert not roots & ROS, "only nodes/ imports ROS"
    if name not in ("robots/pybullet_plant.py",):
        assert "pybullet" not in roots, "only the PyBullet backend imports pybullet"
    if name != "visualisation/web_page.py":
        assert "viser" not in roots, "only the web page imports viser"
    if name.startswith("benchmarks/peers/"):
        return  # run by the Python of the peers' own environment
    if not (name.startswith("models/") and name.endswith("_training.py")):
        assert "torch" not in roots, "only training imports torch"
    if name.startswith(("planners/", "safety/", "nodes/command_guard")):
        assert not {m for m in imports(path) if m.startswith("mbrl_ros.models.") and "layout" not in m}, (
            "a protocol, never a model"
        )


def test_the_guard_loads_neither_torch_nor_a_compiler():
    heavy = ("torch", "numba", "pybullet", "scipy")
    code = f"import sys, mbrl_ros.nodes.command_guard; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
