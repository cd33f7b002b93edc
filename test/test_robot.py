"""`check --live`, `identify delay` and `robot` on a running robot, which here is the simulator."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger

from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.reporting.summary import read_summary
from mbrl_ros.robots.description import load_robot

DOMAIN = own_domain(__file__)
ACTUATION, SENSING = 0.06, 0.03  # s, what the simulated robot has
QUICK = {"mpc_controller": {"horizon": 5, "cem": {"samples": 16, "rounds": 2, "elites": 4}}}
ENVIRONMENT = {
    "ROS_DOMAIN_ID": str(DOMAIN),
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class Robot:
    """The simulator with delays, running, and a node that watches and operates."""

    def __init__(self, folder: Path) -> None:
        source = load_robot("cartpole_blackdrops").urdf.parent
        shutil.copy(source / "cartpole.urdf", folder)
        values = yaml.safe_load((source / "cartpole_blackdrops.yaml").read_text())
        self.folder, self.file = folder, folder / "robot.yaml"
        self.values = values | {"trial_duration": 2.0, "parameters": QUICK}
        self.write()
        given = {"robot": self.file, "actuation_delay": ACTUATION, "sensing_delay": SENSING}
        words = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mbrl_ros.nodes.pybullet_sim", "--ros-args", *words],
            env=os.environ | ENVIRONMENT,
        )
        self.context = rclpy.Context()
        rclpy.init(context=self.context, args=[], domain_id=DOMAIN)
        self.node = rclpy.create_node("operator", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.commands: list[list[float]] = []
        self.node.create_subscription(
            Float64MultiArray, "effort_controller/commands", lambda m: self.commands.append(list(m.data)), 10
        )
        self.call(SetBool, "pybullet_sim/run", SetBool.Request(data=True))

    def write(self, **changes) -> None:
        """The robot's YAML, with changes."""
        self.file.write_text(yaml.safe_dump(self.values | changes))

    def until(self, done, timeout: float = 60.0) -> bool:
        """Serve the operator's node until `done()`."""
        end = time.monotonic() + timeout
        while not (finished := done()) and time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.05)
        return finished

    def forget(self) -> None:
        """Forget the commands so far, those on their way included."""
        self.until(lambda: False, 0.3)
        self.commands.clear()

    def call(self, kind, name, request):
        """Answer of a service."""
        client = self.node.create_client(kind, name)
        assert self.until(client.service_is_ready), f"no service {name}"
        future = client.call_async(request)
        assert self.until(future.done), f"no answer from {name}"
        return future.result()

    def command(self, *words: str) -> subprocess.Popen:
        """Start a command of the command line."""
        return subprocess.Popen(
            [sys.executable, "-m", "mbrl_ros.cli", *words],
            env=os.environ | ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def output(self, *words: str) -> tuple[int, str]:
        """Exit code and output of a command of the command line."""
        process = self.command(*words)
        said, _ = process.communicate(timeout=120)
        return process.returncode, said

    def close(self) -> None:
        self.node.destroy_node()
        self.context.try_shutdown()
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    running = Robot(tmp_path_factory.mktemp("robot"))
    yield running
    running.close()


def test_the_live_check_passes_and_moves_nothing(robot):
    robot.write(delay={"actuation_s": ACTUATION, "sensing_s": SENSING})
    robot.forget()
    code, said = robot.output("check", str(robot.file), "--live", "--seconds", "2")
    assert code == 0 and "nothing to fix" in said, said
    for row in ("rate", "clock", "joints  ", "velocities", "range"):
        assert f"joint_states (JointState) {row}" in said
    assert "effort_controller/commands (Float64MultiArray)  ok" in said
    robot.until(lambda: False, 0.5)
    assert robot.commands == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sensors": [{"topic": "joints", "type": "JointState"}]}, "nobody publishes it"),
        ({"sensors": [{"topic": "applied_command", "type": "JointState"}]}, "applied_command (JointState)"),
        ({"command_topic": "motor/commands"}, "nobody listens"),
        ({"command_message": "JointState", "command_topic": "effort_controller/commands"}, "its type is std_msgs"),
        ({"control_rate": 50.0}, "below the control rate 50 Hz"),
        ({"position_limit": [2.5, 1.0], "start_position": [0.0, 0.0]}, "pole_hinge at "),
        ({"joints": ["cart_slider", "pole"], "angles": ["pole"]}, "no pole; it has: cart_slider, pole_hinge"),
    ],
)
def test_what_does_not_fit_the_running_robot_is_named(robot, changes, said):
    robot.write(**changes)
    code, text = robot.output("check", str(robot.file), "--live", "--seconds", "1")
    assert code == 1 and said in text, text


def test_a_guard_that_is_disarmed_answers_and_moves_nothing(robot):
    robot.write()
    guard = subprocess.Popen(
        [sys.executable, "-m", "mbrl_ros.nodes.command_guard", "--ros-args", "-p", f"robot:={robot.file}"],
        env=os.environ | ENVIRONMENT,
    )
    try:
        assert robot.until(lambda: robot.node.count_subscribers("command") > 0)
        robot.forget()
        code, said = robot.output("check", str(robot.file), "--live", "--seconds", "1")
        assert code == 0 and "the guard answers: disarmed" in said, said
        assert robot.commands == []
    finally:
        guard.terminate()
        guard.wait(10)


def test_the_delay_is_recovered_within_a_quarter_period_and_written(robot):
    robot.write()
    before = robot.file.read_text()
    words = ("identify", "delay", str(robot.file), "--yes", "--repeats", "3", "--seconds", "2.4")
    for _ in range(4):
        code, said = robot.output(*words)
        if code == 0:
            break
        assert robot.file.read_text() == before, "on a machine that is busy it may refuse, and then writes nothing"
    assert code == 0, said
    delay, quarter = load_robot(str(robot.file)).delay, 0.25 * 0.1
    assert delay is not None and abs(delay.actuation_s - ACTUATION) < quarter, said
    assert abs(delay.sensing_s - SENSING) < quarter, said
    assert robot.file.read_text().startswith(before), "only a line has been added"


def test_nothing_is_moved_where_nobody_can_be_asked(robot):
    robot.forget()
    process = subprocess.run(
        [sys.executable, "-m", "mbrl_ros.cli", "identify", "delay", str(robot.file)],
        env=os.environ | ENVIRONMENT, stdin=subprocess.DEVNULL, check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert process.returncode == 2 and "--yes" in process.stderr
    robot.until(lambda: False, 0.3)
    assert robot.commands == []


def test_a_trial_begins_with_the_operators_word_and_is_learned_from(robot):
    robot.write(delay={"actuation_s": ACTUATION, "sensing_s": SENSING}, trial_duration=6.0)
    shift = None
    for k in range(4):  # on a machine that is busy, the simulator's commands act late and tell nothing
        shift = best_shift(rows_of_a_trial(robot, robot.folder / f"run_{k}"))
        if shift is not None:
            break
    assert shift == 0, "a command acts from its stamp on: neither a period sooner nor later"
    robot.until(lambda: False, 0.3)
    assert robot.commands[-1] == [0.0], "the last word is no effort"


def rows_of_a_trial(robot, run: Path):
    """What is stored of a run of one trial, which the operator starts."""
    robot.call(Trigger, "pybullet_sim/reset", Trigger.Request())
    robot.call(SetBool, "pybullet_sim/run", SetBool.Request(data=True))
    robot.forget()
    process = robot.command(
        "robot", "--params-file", str(robot.file), "--trials", "1", "--no-report", "--output", str(run)
    )
    try:
        client = robot.node.create_client(Trigger, "trial_manager/start")
        assert robot.until(client.service_is_ready, 90.0)
        answers: list[Trigger.Response] = []

        def asked() -> bool:
            """Ask again until the graph is ready."""
            future = client.call_async(Trigger.Request())
            if robot.until(future.done, 10.0):
                answers.append(future.result())
            return bool(answers) and answers[-1].success

        assert robot.until(lambda: process.poll() is not None or (not robot.commands and asked()), 90.0), answers[-1:]
        said, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(10)
    assert process.returncode == 0, said
    (trial,) = read_summary(run).trials
    assert trial.policy == "base" and trial.steps > 0, said
    assert set(trial.flags) <= {"ok", "limited", "late", "timeout"} and trial.flags.get("ok", 0) > 0
    description = load_robot(str(robot.file))
    with TransitionStore(run / "transitions.sqlite", description.name, description.layout) as store:
        rows = store.load()
    assert len(rows) > 0, "what it did is stored"
    return rows


def best_shift(rows) -> int | None:
    """Periods by which commands are to be shifted to explain how the cart's velocity changes; None where that is open.

    The best shift must leave less than half of what any other leaves unexplained.
    """
    unexplained = {}
    for shift in (-1, 0, 1):
        features, changes = [], []
        for trajectory in np.unique(rows.trajectory):
            x, u, x_next = (part[rows.trajectory == trajectory] for part in (rows.x, rows.u, rows.x_next))
            at = np.arange(1, len(x) - 1)
            features.append(np.column_stack([u[at + shift], x[at, 2:], np.ones(len(at))]))
            changes.append(x_next[at, 2] - x[at, 2])
        left = np.linalg.lstsq(np.concatenate(features), np.concatenate(changes), rcond=None)[1]
        unexplained[shift] = float(left[0]) if left.size else np.inf  # fewer equations than unknowns
    best, second = sorted(unexplained, key=unexplained.get)[:2]
    print(f"{len(rows)} transitions; unexplained by shift: {unexplained}")
    return best if unexplained[best] < 0.5 * unexplained[second] else None
