"""A recorded run in lockstep, real processes: its replay agrees to the last bit, and what is changed is found."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from ros_domain import own_domain

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rosbags.rosbag2 import StoragePlugin, Writer

from mbrl_ros.cli import main
from mbrl_ros.data.bag_export import BAG_VERSION, TYPES
from mbrl_ros.data.bag_reader import opened
from mbrl_ros.data.recorded_topics import recorded_topics
from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.reporting.run_folder import load_trial, model_versions
from mbrl_ros.robots.description import load_robot

QUICK = {  # small enough for a test; what it learns does not matter here
    "mpc_controller": {"horizon": 8, "cem": {"samples": 16, "rounds": 2, "elites": 4}},
    "model_learner": {"refit_every": 15, "gaussian_process": {"max_data": 40, "iterations": 5, "refit_iterations": 2}},
    "trial_manager": {"trials": 2},
}
STEPS = 61  # observations of a trial


def start(folder, case):
    """A recorded run in lockstep."""
    params = folder / "params.yaml"
    params.write_text(yaml.safe_dump({name: {"ros__parameters": values} for name, values in QUICK.items()}))
    environment = dict(os.environ) | {
        "ROS_DOMAIN_ID": str(own_domain(__file__, case)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
    options = ["--lockstep", "--seed", "5", "--record", "--no-report", "--params-file", params]
    command = [sys.executable, "-m", "mbrl_ros.cli", "sim", "--output", folder / "run", *options]
    return subprocess.Popen(
        [str(word) for word in command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a recorded run."""
    folder = tmp_path_factory.mktemp("recorded")
    process = start(folder, 0)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "recorder" not in said, (folder / "run" / "logs" / "recorder.log").read_text()
    return folder / "run"


def replay(capsys, tmp_path, bag, *arguments):
    """Exit code, what was printed, and the figures."""
    out = tmp_path / "out.json"
    code = main(["replay", str(bag), "--json", str(out), *arguments])
    return code, capsys.readouterr().out, json.loads(out.read_text())


def rewritten(source, target, keep):
    """A copy of a bag with the messages for which `keep(topic, number)` holds."""
    with opened(source) as reader, Writer(target, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP) as writer:
        made, count = {}, {}
        for connection, time, data in reader.messages():
            topic = connection.topic
            count[topic] = count.get(topic, -1) + 1
            if keep(topic, count[topic]):
                if topic not in made:
                    made[topic] = writer.add_connection(topic, connection.msgtype, typestore=TYPES)
                writer.write(made[topic], time, data)
    shutil.copy(source / "parameters.yaml", target)
    return target


def test_the_bag_has_every_topic_and_every_message(run):
    with opened(run / "bag") as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
    expected = recorded_topics(load_robot("cartpole"), FilterConfig(), "dynamics_model", "", lockstep=True)
    assert counts.keys() == {t.name for t in expected}
    for name in ("joint_states", "observation", "command", "applied_command"):
        assert counts[f"/{name}"] == 2 * STEPS, name
    assert counts["/plan"] == counts["/mpc_controller/telemetry"] == STEPS
    assert counts["/dynamics_model"] == len(model_versions(run))
    assert counts["/robot_description"] == 1 and counts["/diagnostics"] > 0
    assert (run / "bag" / "parameters.yaml").read_bytes() == (run / "parameters.yaml").read_bytes()


def test_replay_of_a_lockstep_run_agrees_exactly(run, capsys, tmp_path):
    code, said, figures = replay(capsys, tmp_path, run)
    assert code == 0 and said.endswith("agrees\n"), said
    estimator, learner, planner = (figures["parts"][part] for part in ("estimator", "learner", "planner"))
    assert estimator["differences"]["compared"] == estimator["recorded"] == 2 * STEPS
    assert planner["differences"]["compared"] == 2 * STEPS and planner["planned"] == STEPS and not planner["cut"]
    for part in (estimator, planner):
        assert max(part["differences"]["largest"]) == 0.0
    assert learner["transitions"] == learner["stored"] == 2 * (STEPS - 1)
    assert [pair["version"] for pair in learner["models"]] == model_versions(run)
    assert all(abs(pair["error"] - pair["replayed_error"]) <= 1e-9 for pair in learner["models"])
    assert all(0 < pair["error"] < 1 for pair in learner["models"])


def test_in_a_process_of_its_own_even_the_models_are_the_same_to_the_last_bit(run, tmp_path):
    command = [sys.executable, "-m", "mbrl_ros.cli", "replay", str(run), "--only", "learner"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    count = len(model_versions(run))
    assert f"models: {count}, {count} of them identical, 0 differ" in ended.stdout


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ("estimator.filter.acceleration_density=200.0", "estimator"),
        ("learner.gaussian_process.max_data=39", "learner"),
        ("planner.seed=6", "planner"),
        ("planner.horizon=7", "planner"),
        ("planner.planner=mppi", "planner"),
        ("planner.cem.elites=5", "planner"),
    ],
)
def test_a_wrong_parameter_is_found_in_its_part_and_only_there(run, capsys, tmp_path, change, part):
    code, said, figures = replay(capsys, tmp_path, run, "--set", change)
    assert code == 1 and "differs" in said
    assert {name for name, found in figures["parts"].items() if not found["agrees"]} == {part}
    if part == "learner":
        assert len([m for m in figures["parts"][part]["models"] if m["error"] != m["replayed_error"]]) >= 4
    else:
        differences = figures["parts"][part]["differences"]
        assert differences["beyond"] == sorted(differences["beyond"]) and max(differences["first"].values()) > 0
        assert f"the first at {1e-9 * differences['beyond'][0]:.3f} s" in said


def test_a_parameter_file_is_another_way_to_ask_what_if(run, capsys, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({"mpc_controller": {"ros__parameters": {"cem.smoothing": 0.5}}}))
    code, _, figures = replay(capsys, tmp_path, run, "--params-file", str(other), "--only", "planner")
    assert code == 1 and figures["changes"] == {"mpc_controller": {"cem.smoothing": 0.5}}
    same = replay(capsys, tmp_path, run, "--params-file", str(run / "parameters.yaml"), "--only", "planner")
    assert same[0] == 0


def test_a_wider_tolerance_lets_a_difference_pass(run, capsys, tmp_path):
    arguments = ("--only", "estimator", "--set", "estimator.filter.acceleration_density=200.0")
    assert replay(capsys, tmp_path, run, *arguments)[0] == 1
    assert replay(capsys, tmp_path, run, *arguments, "--tolerance", "0.1")[0] == 0


@pytest.mark.parametrize(
    ("topic", "lost"),
    [
        ("/joint_states", {"estimator"}),
        ("/mpc_controller/telemetry", {"planner"}),
        ("/applied_command", {"learner"}),
        ("/dynamics_model", {"learner", "planner"}),
    ],
)
def test_a_missing_topic_is_named_and_the_rest_is_replayed(run, capsys, tmp_path, topic, lost):
    bag = rewritten(run / "bag", tmp_path / "bag", lambda name, _: name != topic)
    code, said, figures = replay(capsys, tmp_path, bag)
    assert code == 1 and set(figures["not_recorded"]) == lost
    for part in lost:
        assert f"{part}: cannot be replayed: {topic} was not recorded" in said
    assert set(figures["parts"]) == {"estimator", "learner", "planner"} - lost
    assert all(found["agrees"] for found in figures["parts"].values())
    assert main(["replay", str(bag), "--only", *lost]) == 2
    assert f"cannot be replayed: {topic} was not recorded" in capsys.readouterr().err


def test_lost_messages_are_found(run, capsys, tmp_path):
    holes = {"/observation": (70,), "/joint_states": (20,), "/applied_command": (30,)}
    bag = rewritten(run / "bag", tmp_path / "bag", lambda topic, number: number not in holes.get(topic, ()))
    shutil.copy(run / "transitions.sqlite", tmp_path)
    code, _, figures = replay(capsys, tmp_path, bag)
    estimator, learner, planner = (figures["parts"][part] for part in ("estimator", "learner", "planner"))
    assert code == 1
    assert (len(estimator["missing"]), len(estimator["extra"])) == (1, 1)
    assert (len(learner["missing"]), learner["transitions"], learner["stored"]) == (3, 117, 120)
    assert len(planner["lost"]) == 1


def test_a_run_that_was_killed_is_replayed_from_what_can_be_recovered(run, capsys, tmp_path):
    bag = tmp_path / "bag"
    shutil.copytree(run / "bag", bag)
    (bag / "metadata.yaml").unlink()
    size = (bag / "bag.mcap").stat().st_size
    os.truncate(bag / "bag.mcap", size - size // 6)
    assert main(["replay", str(bag)]) == 2
    assert "mbrl_ros bag recover" in capsys.readouterr().err
    assert main(["bag", "recover", str(bag), str(tmp_path / "saved")]) == 0
    code, _, figures = replay(capsys, tmp_path, tmp_path / "saved", "--only", "estimator", "planner")
    assert code == 0
    assert STEPS < figures["parts"]["estimator"]["recorded"] < 2 * STEPS


def process_of(node, folder):
    """Process number of a node of the run in `folder`, by its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode().split("\0")
            if f"mbrl_ros.nodes.{node}" in words and str(folder / "parameters.yaml") in words:
                return int(path.parent.name)
    return None


def test_a_killed_recorder_is_not_missed_and_what_it_wrote_is_replayed(capsys, tmp_path):
    process, trial = start(tmp_path, 1), tmp_path / "run" / "trials" / "trial_000.npz"
    end = time.monotonic() + 120
    while not trial.exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    time.sleep(1.2)  # longer than the flush period
    os.kill(process_of("recorder", tmp_path / "run"), signal.SIGKILL)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0 and len(load_trial(tmp_path / "run", 1)) == STEPS, said
    assert "recorder has ended (killed by SIGKILL); the run goes on without it" in said
    bag = tmp_path / "run" / "bag"
    assert main(["replay", str(bag)]) == 2 and "mbrl_ros bag recover" in capsys.readouterr().err
    assert main(["bag", "recover", str(bag), str(tmp_path / "run" / "saved")]) == 0
    code, said, figures = replay(capsys, tmp_path, tmp_path / "run" / "saved")
    assert code == 0, said
    assert figures["parts"]["learner"]["transitions"] >= STEPS - 1, "the first trial is whole"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "planner.seed=-1"], "seed: -1 is not allowed"),
        (["--set", "planner.cem.sample=3"], "unknown key 'sample'"),
        (["--set", "planner.mppi.samples=3"], "unknown key 'mppi.samples'"),
        (["--set", "seed=3"], "expected PART.KEY=VALUE with PART one of: estimator, learner, planner"),
        (["--set", "learner.refit_every=3"], "has no effect: a replay takes it from the recording"),
        (["--set", "planner.robot=pendulum"], "give it with --robot, for all parts"),
        (["--robot", "nobody"], "unknown robot 'nobody'; choose one of:"),
        (["--namespace", "lab"], "nothing of a graph in '/lab'; it has"),
        (["--tolerance", "-1"], "tolerance: -1.0 is not allowed"),
        (["--params-file", "none.yaml"], "none.yaml: No such file"),
    ],
)
def test_a_mistake_is_a_message(run, capsys, arguments, message):
    assert main(["replay", str(run), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_what_is_no_bag_or_says_too_little_is_a_message(run, capsys, tmp_path):
    (tmp_path / "bare").mkdir()
    shutil.copy(run / "bag" / "bag.mcap", tmp_path / "bare")
    (tmp_path / "unrecorded").mkdir()
    shutil.copy(run / "parameters.yaml", tmp_path / "unrecorded")
    for path, message in (
        ("none", "no such bag"),
        ("bare", "no parameters.yaml in it or beside it; --robot and --params-file say what it is of"),
        ("unrecorded", "was not recorded (--record, or record:=true)"),
    ):
        assert main(["replay", str(tmp_path / path)]) == 2
        assert message in capsys.readouterr().err


def test_changed_bytes_are_a_message_and_never_a_crash(run, capsys, tmp_path):
    data = (run / "bag" / "bag.mcap").read_bytes()
    shutil.copytree(run / "bag", tmp_path / "bag")
    codes = set()
    for place in range(9, len(data), len(data) // 25):
        changed = bytearray(data)
        changed[place : place + 40] = bytes(40)
        (tmp_path / "bag" / "bag.mcap").write_bytes(bytes(changed))
        codes.add(main(["replay", str(tmp_path / "bag"), "--only", "estimator"]))
        capsys.readouterr()
    assert codes <= {0, 1, 2} and 2 in codes
