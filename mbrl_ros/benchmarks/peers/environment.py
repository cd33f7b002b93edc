"""The peers' environments: made once from PyPI, under the user's cache, never where our own packages live."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mbrl_ros.errors import MissingDependencyError

NOT_ON_PYPI = {"anassinator/ilqr": "not on PyPI; it needs Theano, which is no longer maintained"}


@dataclass(frozen=True)
class Group:
    """Peers that share an environment.

    Attributes:
        script: the driver in this folder.
        requirements: what pip installs.
        without_dependencies: what pip installs after that, alone, since its own pins are out of date.
    """

    script: str
    requirements: tuple[str, ...]
    without_dependencies: tuple[str, ...] = ()


GROUPS = {
    "torch": Group(
        "torch_peers.py",
        (
            "torch==2.13.0",
            "pytorch-icem==0.1.0",
            "pytorch-mppi==0.9.1",
            "mpc==0.0.6",
            "hydra-core==1.3.2",
            "gymnasium==1.4.0",
            "matplotlib",
            "termcolor",
            "tqdm",
        ),
        ("mbrl==0.2.0",),
    ),
    "crocoddyl": Group("crocoddyl_peers.py", ("crocoddyl==3.2.1",)),
}


def folder(group: Group) -> Path:
    """Where the group's environment lies: a change of requirements or of Python makes a new one."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = repr((group.requirements, group.without_dependencies, sys.version_info[:2]))
    return cache / "mbrl_ros" / f"peers-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def ensure(group: Group) -> Path:
    """The environment's python, installed where it is missing.

    Raises:
        MissingDependencyError: pip could not install it; says why.
    """
    path = folder(group)
    python, ready = path / "bin" / "python", path / ".ready"
    if ready.exists():
        return python
    print(
        f"installing {', '.join(group.requirements + group.without_dependencies)} into {path}",
        file=sys.stderr,
        flush=True,
    )
    shutil.rmtree(path, ignore_errors=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([sys.executable, "-m", "venv", str(path)])
    run([*install, *group.requirements])
    if group.without_dependencies:
        run([*install, "--no-deps", *group.without_dependencies])
    ready.touch()
    return python


def run(command: list[str]) -> None:
    """Run to the end, or raise MissingDependencyError with the last thing it said was wrong."""
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        lines = [line for line in (finished.stdout + finished.stderr).splitlines() if line.strip()]
        errors = [line for line in lines if "ERROR" in line] or lines or ["no message"]
        raise MissingDependencyError(errors[-1].strip())
