"""Parameters of the graph on a real robot, and what `mbrl_ros check` says of a YAML."""

import re
from pathlib import Path

import pytest
import yaml

from mbrl_ros.bringup import node_arguments
from mbrl_ros.cli import main
from mbrl_ros.commands.check import findings
from mbrl_ros.commands.robot import add_link, robot_parameters, start_service
from mbrl_ros.errors import ConfigError
from mbrl_ros.graph import NODES, ROS_PARAMETERS, configure
from mbrl_ros.robots.description import load_robot
from mbrl_ros.robots.findings import FIX, OK, WARN
from mbrl_ros.safety.arming import Moment
from mbrl_ros.safety.guard import Guard
from mbrl_ros.safety.guard_config import GuardConfig
from mbrl_ros.safety.limits import limits_of
from mbrl_ros.safety.safe_action import SafeAction

EXAMPLES = Path(__file__).resolve().parents[2] / "config" / "robots" / "examples"


@pytest.fixture
def arm(tmp_path):
    """Writes the arm's YAML with changes, beside its URDF."""
    values = yaml.safe_load((EXAMPLES / "arm.yaml").read_text())
    (tmp_path / "arm.urdf").write_text((EXAMPLES / "arm.urdf").read_text())

    def write(**changes) -> Path:
        path = tmp_path / "arm.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in (values | changes).items() if v is not None}))
        return path

    return write


def params_file(folder: Path, **nodes) -> Path:
    path = folder / "params.yaml"
    content = {("/**" if name == "every" else name): {"ros__parameters": values} for name, values in nodes.items()}
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_robots_yaml_is_enough_and_safe_defaults_hold(arm):
    parameters = robot_parameters({}, arm())
    assert "pybullet_sim" not in parameters
    guard = parameters["command_guard"]
    assert (guard["guard.observation_timeout"], guard["guard.state_action"]) == (3.0, "stop")
    assert guard["guard.position_margin"] == pytest.approx(0.02 * 2.2)
    assert guard["guard.velocity_margin"] == 0.6, "the YAML's own"
    plain = robot_parameters({}, arm(parameters=None))["command_guard"]
    assert plain["guard.velocity_margin"] == 0.1, "it moves slower than what is too fast"
    assert guard["guard.stale_after"] == 4.0
    assert parameters["state_estimator"]["filter.rate"] == 20.0
    assert parameters["trial_manager"]["operator"] is True
    assert parameters["mpc_controller"]["policy.std"] == 0.25, "the YAML's own"
    assert parameters["trial_manager"]["task.goal"] == parameters["mpc_controller"]["task.goal"] == [0.8, 1.2, 0.0, 0.0]


def test_a_long_delay_makes_the_guard_take_commands_that_are_as_far_ahead(arm):
    path = arm(delay={"actuation_s": 0.2, "sensing_s": 0.06})
    guard = robot_parameters({}, path)["command_guard"]
    assert load_robot(str(path)).delay_ticks(lockstep=False) == 7
    assert (guard["guard.stale_after"], guard["guard.observation_timeout"]) == (9.0, 4.0)


def test_commands_act_at_their_stamps_where_the_delay_is_stated(arm):
    """0.03 s of 0.05 s: sent 0.6 periods before its stamp; a fifth of a period after that it is late."""
    parameters = robot_parameters({}, arm())
    assert parameters["mpc_controller"]["hold_commands"] is True
    assert parameters["command_guard"]["guard.late_tolerance"] == pytest.approx(0.2 - 0.6)
    slow = robot_parameters({}, arm(delay={"actuation_s": 0.2, "sensing_s": 0.0}))["command_guard"]
    assert slow["guard.late_tolerance"] == pytest.approx(0.2 - 4.0), "it is sent 4 periods before"
    unknown = robot_parameters({}, arm(delay=None))
    assert unknown["mpc_controller"]["hold_commands"] is False
    assert unknown["command_guard"]["guard.late_tolerance"] == -0.1


def test_what_is_planned_is_as_fast_as_the_guard_lets_commands_change(arm, tmp_path):
    assert robot_parameters({}, arm())["mpc_controller"]["command_rate"] == pytest.approx([0.4, 0.4])
    narrower = {"guard": {"velocity_margin": 0.5, "command_rate": [0.2, 0.0]}}
    path = params_file(tmp_path, every={"robot": str(arm())}, command_guard=narrower)
    assert robot_parameters({}, path)["mpc_controller"]["command_rate"] == pytest.approx([0.2, 0.5])
    path = params_file(tmp_path, every={"robot": str(arm())}, mpc_controller={"command_rate": [0.3]})
    assert robot_parameters({}, path)["mpc_controller"]["command_rate"] == [0.3], "what is said holds"
    joint = robot_parameters({}, EXAMPLES / "joint.yaml")["mpc_controller"]["command_rate"]
    assert joint == [0.0], "an effort may change at once"


def test_what_is_planned_is_what_the_guard_lets_pass(arm):
    """A velocity of 1 is 0.4 with a margin of 0.6: what lies beyond would be planned and never done."""
    planned = robot_parameters({}, arm())["mpc_controller"]
    margin = 0.02 * 2.2
    assert planned["command_low"] == pytest.approx([-1.5 + margin, 0.2 + margin])
    assert planned["command_high"] == pytest.approx([1.5 - margin, 2.4 - margin])
    driven = robot_parameters({}, arm(command_interface="velocity", command_topic="c"))["mpc_controller"]
    assert driven["command_low"] == [-0.4, -0.4] and driven["command_high"] == [0.4, 0.4]
    for at, told in (({"command_high": [0.3]}, [0.3]), ({"command_high": [0.3, 9.0]}, [0.3, 9.0])):
        path = arm(command_interface="velocity", command_topic="c", parameters={"mpc_controller": at})
        assert robot_parameters({}, path)["mpc_controller"]["command_high"] == told, "what is said holds"


def test_a_rate_beyond_all_bounds_is_any_rate(arm):
    """Exporters of URDFs write velocity="1e10" where they know none; the controller refused it as a command_rate."""
    path = arm(velocity_limit=None, command_rate=[0.5, 2e9], parameters=None)
    urdf = path.parent / "arm.urdf"
    urdf.write_text(re.sub('velocity="[^"]*"', 'velocity="1e10"', urdf.read_text()))
    parameters = robot_parameters({}, path)["mpc_controller"]
    assert parameters["command_rate"] == [0.5, 0.0]
    configure(NODES["mpc_controller"], {k: v for k, v in parameters.items() if k not in ROS_PARAMETERS})


def test_options_win_over_the_file_and_the_file_over_the_yaml(arm, tmp_path):
    path = params_file(
        tmp_path,
        every={"robot": str(arm()), "seed": 3},
        mpc_controller={"policy": {"std": 0.1}},
        command_guard={"guard": {"state_action": "safe"}},
    )
    parameters = robot_parameters({"seed": 4}, path)
    assert parameters["mpc_controller"]["policy.std"] == 0.1
    assert parameters["command_guard"]["guard.state_action"] == "safe"
    assert parameters["command_guard"]["seed"] == 4
    assert parameters["command_guard"]["guard.position_margin"] > 0, "the other defaults still hold"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parameters": {"mpc_control": {}}}, "unknown node 'mpc_control'; choose from: state_estimator"),
        ({"parameters": {"mpc_controller": {"horizont": 3}}}, "unknown key 'horizont'"),
        ({"parameters": {"mpc_controller": {"lockstep": True}}}, "lockstep: true is not allowed on a real robot"),
    ],
)
def test_bad_parameters_in_the_yaml_are_named(arm, change, said):
    with pytest.raises(ConfigError, match=said):
        robot_parameters({}, arm(**change))


def test_nothing_moves_without_a_robot_named(tmp_path):
    with pytest.raises(ConfigError, match="robot: there is none"):
        robot_parameters({}, params_file(tmp_path, every={"seed": 1}))
    with pytest.raises(ConfigError, match="robot: there is none"):
        robot_parameters({}, None)


def test_the_link_watchdog_stands_between_the_guard_and_the_actuators(arm, tmp_path):
    path = arm()
    parameters = robot_parameters({"robot": str(path)}, None)
    file = tmp_path / "link.yaml"
    file.write_text("link_watchdog:\n  ros__parameters:\n    timeout: 5.0\n")
    link, remappings = add_link(parameters, file)
    robot = load_robot(str(path))
    assert link.name == "link_watchdog" and remappings == {"command_guard": [(robot.output_topic, "guarded_commands")]}
    said = parameters["link_watchdog"]
    assert said["timeout"] == 5.0 and said["robot"] == str(path) and said["autostart"]
    words = node_arguments(tmp_path, "", "info", remappings["command_guard"])
    assert words[words.index(f"{robot.output_topic}:=guarded_commands") - 1] == "-r"


def test_the_start_service_is_in_the_namespace():
    assert start_service("") == "/trial_manager/start"
    assert start_service("/left/arm") == "/left/arm/trial_manager/start"


def verdicts(path: Path) -> dict[str, tuple[str, str]]:
    return {row.what: (row.verdict, row.detail) for row in findings(path)[1]}


@pytest.mark.parametrize(
    ("change", "row", "verdict", "said"),
    [
        ({"control_rate": "fast"}, "description", FIX, "control_rate: 'fast'"),
        ({"urdf": "none.urdf"}, "urdf", FIX, "cannot be read"),
        ({"joints": ["shoulder", "elbov"], "actuators": ["shoulder"], "position_limit": [1.0, 1.0]}, "urdf joints", FIX,
         "no movable joint 'elbov'; the URDF has: shoulder, elbow"),
        ({"position_limit": [3.0, [0.2, 2.4]]}, "limits of the urdf", WARN, "shoulder: position_limit up to 3"),
        ({"velocity_limit": [9.0, 1.0]}, "limits of the urdf", WARN, "velocity_limit 9, the URDF's is 1.5"),
        ({"control_rate": 2000.0}, "rates", FIX, "expected 1 to 500"),
        ({"trial_duration": 0.2}, "rates", FIX, "4 periods"),
        ({"delay": None}, "delay", WARN, "mbrl_ros identify delay"),
        ({"task": "dance"}, "task", FIX, "unknown task 'dance'"),
        ({"task": "cartpole_swingup", "parameters": None, "joints": ["shoulder"], "actuators": ["shoulder"],
          "position_limit": [1.0], "velocity_limit": [1.0], "start_position": [0.0]}, "task", FIX, "not for 2 states"),
        ({"parameters": {"mpc_controller": {"task": {"goal": [1.0, 2.0]}}}}, "task", FIX, "expected one number, or 4"),
        ({"start_position": [2.49, 0.6], "position_limit": [2.5, [0.2, 2.4]]}, "start", FIX, "shoulder at 2.49"),
        ({"urdf": None, "velocity_limit": None}, "command rate", FIX, "set command_rate"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_in_the_table(arm, change, row, verdict, said):
    found = verdicts(arm(**change))
    assert found[row][0] == verdict and said in found[row][1]


def test_the_exit_code_says_whether_something_must_be_fixed(arm, capsys):
    assert main(["check", str(arm())]) == 0
    assert main(["check", str(arm(task="dance"))]) == 1
    assert "1 to fix" not in capsys.readouterr().out.splitlines()[0]
    assert main(["check", "none.yaml"]) == 2
    assert main(["check", str(arm()), "--live", "--seconds", "0"]) == 2


def test_every_problem_of_a_description_has_a_row(arm):
    rows = findings(arm(control_rate="fast", trial_duration="long"))[1]
    assert [row.verdict for row in rows] == [FIX, FIX]
    assert all(row.verdict == OK for row in findings(arm())[1])


def test_a_file_that_is_nested_without_end_is_a_mistake_and_no_traceback(tmp_path, capsys):
    path = tmp_path / "robot.yaml"
    path.write_text("joints: " + 5_000 * "{a: ")
    for words in (("check", str(path)), ("robot", "--params-file", str(path))):
        assert main([*words]) in (1, 2)
        said = capsys.readouterr()
        assert "not YAML" in said.out + said.err


def test_a_command_that_was_sent_too_late_to_act_at_its_stamp_is_not_learned_from(arm):
    """0.2 s of 0.05 s: 2 periods before its stamp a command can only act 2 periods after it."""
    values = robot_parameters({}, arm(delay={"actuation_s": 0.2, "sensing_s": 0.0}))["command_guard"]
    settings = GuardConfig(
        late_tolerance=values["guard.late_tolerance"], stale_after=values["guard.stale_after"], velocity_margin=0.1
    )
    period_ns, flags = 50_000_000, []
    for ahead in (4.04, 3.85, 3.75, 2.0):
        robot = load_robot(str(arm()))
        limits = limits_of(robot, settings)
        guard = Guard(settings, limits, SafeAction(settings, limits, robot.angles), robot.dt)
        now = Moment(10**12, 10**18)
        guard.observe(now, now.wall_ns, [0.0, 0.6], [0.0, 0.0])
        assert guard.arm(now)[0]
        flags.append(guard.command(now, now.wall_ns + round(ahead * period_ns), [0.0, 0.6]).flag)
    assert flags == ["ok", "ok", "late", "late"]
