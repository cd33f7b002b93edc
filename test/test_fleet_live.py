"""Two simulated robots and one learner, in processes of their own; the learner is killed and comes back."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from ros_domain import own_domain

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from mbrl_ros.data.store_format import read_store
from mbrl_ros.reporting.run_folder import TRANSITIONS, load_trial, model_versions, trial_indices

QUICK = {  # small enough for a busy machine; what it learns does not matter here
    "mpc_controller": {"horizon": 6, "cem": {"samples": 8, "rounds": 1, "elites": 4}},
    "model_learner": {"refit_every": 15, "gaussian_process": {"max_data": 40, "iterations": 5, "refit_iterations": 2}},
    "trial_manager": {"trials": 100, "stop_after_solved": 100},
}
ROBOTS = ("a", "b")
LONG = 180.0  # s


class Fleet:
    """The processes of the test."""

    def __init__(self, folder):
        self.folder = folder
        domain = str(own_domain(__file__))
        self.environment = dict(os.environ) | {"ROS_DOMAIN_ID": domain, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        self.params = folder / "params.yaml"
        content = {name: {"ros__parameters": values} for name, values in QUICK.items()}
        content["/**/model_learner"] = content.pop("model_learner")
        self.params.write_text(yaml.safe_dump(content))
        self.processes = []

    def start(self, name, *words):
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", *words], stdout=log, stderr=log, env=self.environment)
        self.processes.append(process)
        return process

    def start_learner(self):
        given = ("fleet:=/a,/b", f"output:={self.folder / 'fleet'}")
        arguments = [word for value in given for word in ("-p", value)]
        ros = ("--ros-args", "-r", "__ns:=/fleet", "--params-file", str(self.params), *arguments)
        return self.start("learner", "mbrl_ros.nodes.model_learner", *ros)

    def start_robot(self, name, params):
        given = ("--namespace", name, "--remote-learner", "--model-topic", "/fleet/dynamics_model", "--no-report")
        where = ("--output", str(self.folder / name), "--params-file", str(params))
        return self.start(name, "mbrl_ros.cli", "sim", "--seed", str(ROBOTS.index(name)), *given, *where)

    def versions(self):
        return model_versions(self.folder / "fleet")

    def wait(self, happened):
        end = time.monotonic() + LONG
        while not happened():
            assert time.monotonic() < end, self.logs()
            time.sleep(0.1)

    def logs(self):
        return "\n".join(path.read_text() for path in self.folder.glob("*.log"))

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            process.wait(20)


@pytest.fixture
def fleet(tmp_path):
    made = Fleet(tmp_path)
    yield made
    made.close()


def used(folder):
    """Versions that the trials of a robot used."""
    return {v for k in trial_indices(folder) for v in load_trial(folder, k).model_version.tolist()} - {0}


def stored_rows(fleet):
    """What the learner has stored of all robots."""
    return read_store(fleet.folder / "fleet" / TRANSITIONS)[2]


def test_robots_share_a_model_and_go_on_when_the_learner_is_lost_and_comes_back(fleet):
    robots_file = fleet.folder / "robots.yaml"
    robots = {name: {"ros__parameters": QUICK[name]} for name in ("mpc_controller", "trial_manager")}
    robots_file.write_text(yaml.safe_dump(robots))
    learner = fleet.start_learner()
    robots = {name: fleet.start_robot(name, robots_file) for name in ROBOTS}
    folders = {name: fleet.folder / name for name in ROBOTS}
    fleet.wait(lambda: all(used(folder) for folder in folders.values()))
    learner.send_signal(signal.SIGKILL)
    learner.wait()
    before, stored = fleet.versions(), len(stored_rows(fleet))
    done = {name: len(trial_indices(folder)) for name, folder in folders.items()}
    fleet.wait(lambda: all(len(trial_indices(folder)) > done[name] for name, folder in folders.items()))
    assert fleet.versions() == before, "nobody learns, and both robots have moved on"
    fleet.start_learner()
    fleet.wait(lambda: all(max(used(folder)) > before[-1] + 1 for folder in folders.values()))
    fleet.wait(lambda: len(rows := stored_rows(fleet)) > stored and {r.trajectory % 2 for r in rows} == {0, 1})
    for robot in robots.values():
        robot.send_signal(signal.SIGINT)
    for robot in robots.values():
        assert robot.wait(LONG) == 130, fleet.logs()
    assert fleet.versions()[: len(before)] == before and fleet.versions()[-1] > before[-1]
    assert set.union(*map(used, folders.values())) <= {*fleet.versions()}
    assert "Traceback" not in fleet.logs()
