"""A running graph in lockstep: stop, step, save, load, refit, reset, and a goal that moves while the robot does."""

import contextlib
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from mbrl_ros.control.snapshot import newest_start
from mbrl_ros.control.start_model import read_start
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.nodes.conversions import from_scalars, status_values
from mbrl_ros.nodes.pipeline_node import LATCHED
from mbrl_ros.reporting.run_folder import TRANSITIONS, load_trial, trial_indices
from mbrl_ros.reporting.summary import read_summary
from mbrl_ros.robots.description import load_robot

ROBOT = load_robot("cartpole")
QUICK = {
    "mpc_controller": {"horizon": 8, "cem": {"samples": 16, "rounds": 2, "elites": 4}},
    "model_learner": {"refit_every": 15, "gaussian_process": {"max_data": 40, "iterations": 5, "refit_iterations": 2}},
    "trial_manager": {"trials": 100, "stop_after_solved": 100},
}
WORDS = "waiting for trial_manager/start or step"
DOMAIN = own_domain(__file__)
ENVIRONMENT = {
    "ROS_DOMAIN_ID": str(DOMAIN),
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class Run:
    """A run that begins paused, and an operator beside it."""

    def __init__(self, folder):
        params = folder / "params.yaml"
        params.write_text(yaml.safe_dump({name: {"ros__parameters": values} for name, values in QUICK.items()}))
        self.folder = folder / "run"
        self.process = self.command("sim", "--lockstep", "--paused", "--no-report", "--seed", "3",
                                    "--params-file", params, "--output", self.folder)  # fmt: skip
        self.context = rclpy.Context()
        rclpy.init(context=self.context, args=[], domain_id=DOMAIN)
        self.node = rclpy.create_node("operator", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.told, self.goals, self.clients = {}, [], {}
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.on_diagnostics, 50)
        self.node.create_subscription(
            JointState, "mpc_controller/goal", lambda m: self.goals.append(from_scalars(m)), LATCHED
        )
        self.pose = self.node.create_publisher(PoseStamped, "goal", 10)
        self.joints = self.node.create_publisher(JointState, "joint_goal", 10)

    def command(self, *words):
        return subprocess.Popen(
            [sys.executable, "-m", "mbrl_ros.cli", *map(str, words)],
            env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def on_diagnostics(self, message):
        self.told |= {status.name: status for status in message.status}

    def until(self, done, timeout=300.0):  # however slow this machine is
        end = time.monotonic() + timeout
        while not done():
            assert time.monotonic() < end, {name: status.message for name, status in self.told.items()}
            assert self.process.poll() is None, self.process.stdout.read()
            self.executor.spin_once(timeout_sec=0.02)

    def call(self, kind, name, request):
        client = self.clients.setdefault(name, self.node.create_client(kind, name))
        self.until(client.service_is_ready)
        future = client.call_async(request)
        self.until(future.done)
        return future.result()

    def ask(self, name):
        answer = self.call(Trigger, name, Trigger.Request())
        return answer.success, answer.message

    def set(self, node, **values):
        wishes = [Parameter(name.replace("__", "."), value=value).to_parameter_msg() for name, value in values.items()]
        return self.call(SetParameters, f"{node}/set_parameters", SetParameters.Request(parameters=wishes)).results

    def get(self, node, name):
        answer = self.call(GetParameters, f"{node}/get_parameters", GetParameters.Request(names=[name]))
        return answer.values[0].double_value

    def doing(self):
        return self.told["trial_manager: state"].message if "trial_manager: state" in self.told else ""

    def refused(self):
        return status_values(self.told["mpc_controller: state"]).get("last_refused", "")

    def step(self):
        """Let one trial run and wait until the next one waits; returns its number."""
        before = trial_indices(self.folder)
        done, said = self.ask("trial_manager/step")
        assert done, said
        self.until(lambda: len(trial_indices(self.folder)) > len(before) and self.doing().endswith(WORDS))
        assert trial_indices(self.folder) == [*before, len(before)], "one trial and no more"
        return len(before)

    def waits(self):
        self.until(lambda: self.doing().endswith(WORDS))

    def stored(self, path=None):
        with TransitionStore(path or self.folder / TRANSITIONS, ROBOT.name, ROBOT.layout) as store:
            return len(store)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    it = Run(tmp_path_factory.mktemp("run_time"))
    yield it
    it.process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        it.process.communicate(timeout=30)
    it.executor.shutdown()
    it.node.destroy_node()
    it.context.try_shutdown()


def test_one_run_from_a_step_to_a_reset(run):
    run.waits()
    assert run.doing() == f"trial 0: {WORDS}"
    assert run.ask("model_learner/refit") == (False, "there is nothing to learn from yet")
    assert run.ask("model_learner/save")[0] is False
    assert run.step() == 0 and run.step() == 1
    assert [t.policy for t in read_summary(run.folder).trials] == ["base", "mpc"]

    done, said = run.ask("model_learner/save")
    assert done and said.endswith("saved/001/model.safetensors"), said
    saved = run.folder / "saved" / "001" / "model.safetensors"
    start = read_start(saved, ROBOT, "gaussian_process")
    count = sum(t.steps for t in read_summary(run.folder).trials)
    assert len(start.data) == run.stored() == count > 60
    assert sorted(p.name for p in saved.parent.iterdir()) == ["model.safetensors", "model.sqlite"]

    version = start.header.version
    done, said = run.ask("model_learner/refit")
    assert done and said == f"{count} transitions are being fitted; the next model is {version + 1}"
    run.until(lambda: status_values(run.told["mpc_controller: planning"])["model_version"] == str(version + 1))

    assert run.ask("trial_manager/start")[0]
    run.until(lambda: run.doing().startswith("trial 2: mpc"))
    assert run.ask("trial_manager/step")[0] is False, "it is running"
    done, said = run.ask("trial_manager/reset")
    assert not done and "stop first" in said
    done, said = run.ask("trial_manager/stop")
    assert done
    run.waits()
    stopped = read_summary(run.folder).trials[-1]
    if stopped.ended_early:  # in lockstep a trial may be over before the word has come
        assert stopped.ended_early == "stopped by request" and stopped.steps < 60 and not stopped.solved
    stored, trials = run.stored(), len(trial_indices(run.folder))

    done, said = run.ask("trial_manager/reset")
    assert done and "set_aside/001" in said, said
    assert run.stored(run.folder / "set_aside" / "001" / TRANSITIONS) == stored, "nothing is lost"
    assert run.stored() == 0
    assert run.ask("trial_manager/start")[0]
    run.until(lambda: len(trial_indices(run.folder)) > trials + 1)
    assert run.ask("trial_manager/stop")[0]
    run.waits()
    policies = [t.policy for t in read_summary(run.folder).trials[trials:]]
    assert policies[0] == "base" and set(policies[1:]) == {"mpc"}, "it begins anew"

    assert run.set("model_learner", start_model=str(saved.with_name("none.safetensors")))[0].successful
    done, said = run.ask("model_learner/load")
    assert not done and "none.safetensors cannot be read" in said
    asked = run.command("model", "load", saved)
    out, _ = asked.communicate(timeout=60)
    assert newest_start(run.folder).read_bytes() == saved.read_bytes(), "a resumed run starts from it"
    loaded = re.search(rf"model (\d+) is {saved}, with {count} transitions", out)
    assert asked.returncode == 0 and loaded, out
    run.until(lambda: status_values(run.told["mpc_controller: planning"])["model_version"] == loaded[1])


def test_the_robot_goes_where_the_goal_is_and_the_score_follows(run):
    run.waits()
    run.until(lambda: len(run.goals) > 0)
    assert run.goals[-1] == {"cart_slider/position": 0.0, "pole_hinge/position": 0.0}
    easy = {"task__upright_weight": 0.0, "task__position_weight": 5.0, "horizon": 12, "cem__samples": 32}
    assert all(result.successful for result in run.set("mpc_controller", **easy))
    message = PoseStamped()
    message.pose.position.x = 1.25
    run.until(lambda: run.pose.get_subscription_count() > 0)
    run.pose.publish(message)
    run.until(lambda: run.goals[-1]["cart_slider/position"] == 1.25)
    run.until(lambda: run.get("trial_manager", "task.goal_position") == 1.25)
    run.until(lambda: "slider/position 1.25" in status_values(run.told["mpc_controller: planning"])["goal"])
    after = load_trial(run.folder, run.step())
    assert after.x[-10:, 0].mean() > 0.5, "the cart is brought there"
    x = after.x[5]
    tip = (x[0] - 1.25 + 0.5 * np.sin(x[1])) ** 2 + (0.5 * (np.cos(x[1]) - 1)) ** 2
    expected = 1 - np.exp(-0.5 * tip / 0.25**2) + 5.0 * (x[0] - 1.25) ** 2
    expected += 0.003 * (x[2] ** 2 + x[3] ** 2)
    assert after.cost[5] == pytest.approx(expected), "the score is for the new goal and weights"
    message.pose.position.x = -1.25
    run.pose.publish(message)
    run.until(lambda: run.get("trial_manager", "task.goal_position") == -1.25)
    assert load_trial(run.folder, run.step()).x[-10:, 0].mean() < -0.5


def test_what_cannot_be_a_goal_is_refused_with_the_reason_and_the_goal_stays(run):
    run.until(lambda: len(run.goals) > 0 and run.joints.get_subscription_count() > 0)
    before = run.goals[-1]
    for message, said in (
        (JointState(name=["cart_slider"], position=[9.0]), "9 is not allowed; expected a number in [-2.5, 2.5]"),
        (JointState(name=["cart_slider"], position=[float("nan")]), "cart_slider/position nan is not allowed"),
        (JointState(name=["cart"], position=[0.0]), "'cart' is unknown"),
        (JointState(), "it is empty"),
    ):  # fmt: skip
        run.joints.publish(message)
        run.until(lambda s=said: s in run.refused())
    elsewhere = PoseStamped()
    elsewhere.header.frame_id = "map"
    run.pose.publish(elsewhere)
    run.until(lambda: "frame_id 'map'" in run.refused())
    assert run.goals[-1] == before
    (result,) = run.set("trial_manager", task__goal_position=0.5)
    assert not result.successful and "it follows the controller's" in result.reason
    run.joints.publish(JointState(name=["cart_slider"], position=[-0.5]))
    run.until(lambda: run.goals[-1]["cart_slider/position"] == -0.5)
