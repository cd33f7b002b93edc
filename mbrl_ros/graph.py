"""The one description of the graph: which nodes there are, how each is configured and what they share.

Read by the command line (`bringup`), by ``launch/sim.launch.py`` and by the nodes themselves, so that the
three cannot drift apart. Imports no ROS: parameters are validated before any node starts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mbrl_ros.config import build, option, validate
from mbrl_ros.control.change_detection import ChangeConfig
from mbrl_ros.control.controller import MODES
from mbrl_ros.errors import ConfigError, UnknownNameError, lookup
from mbrl_ros.estimation.joint_filter import FilterConfig
from mbrl_ros.models import DEFAULT_MODEL, model_class
from mbrl_ros.models.last_layer import AdaptationConfig
from mbrl_ros.models.propagation import PROPAGATIONS
from mbrl_ros.planners import planner_class
from mbrl_ros.planners.risk import RiskConfig
from mbrl_ros.policies.smooth_random import SmoothRandomConfig
from mbrl_ros.robots.description import load_robot
from mbrl_ros.safety.guard import GuardConfig
from mbrl_ros.safety.link_watchdog import LinkConfig
from mbrl_ros.tasks import TASKS

NO_BOUND = 1e9  # of commands and their rates: no more can be stated, and what is beyond bounds nothing


@dataclass(frozen=True)
class SharedConfig:
    """Parameters that every node has, with one value for all."""

    robot: str = option("cartpole", "robot: a name from config/robots or the path of its YAML")
    seed: int = option(0, "seed of every random generator", low=0, high=2**31 - 1)
    lockstep: bool = option(False, "deterministic and as fast as it goes, instead of real time")
    output: str = option("", "run folder; empty keeps nothing")
    autostart: bool = option(True, "managed nodes configure and activate themselves; else they wait to be told")

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class SimConfig(SharedConfig):
    """The simulator that stands in for the hardware."""

    gui: bool = option(False, "show the PyBullet window")
    watchdog_ticks: int = option(3, "ticks without a command after which the drive goes limp", low=1, high=1000)
    payload_after: float = option(
        0.0, "motion after which the robot changes, by payload_factor; 0 is never", unit="s", low=0.0, high=1e9
    )
    payload_factor: float = option(
        2.0, "what mass and inertia of the last joint's link are multiplied with", low=0.01, high=100.0
    )
    start_time: float = option(0.0, "lockstep: first reading of the clock", unit="s", low=0.0, high=1e9)
    actuation_delay: float = option(
        0.0,
        "time from a command until it acts; 0: it acts from the next tick on",
        unit="s",
        low=0.0,
        high=1.0,
    )
    sensing_delay: float = option(
        0.0,
        "time from a measurement until it is published, with its true stamp; in lockstep whole periods",
        unit="s",
        low=0.0,
        high=1.0,
    )
    step_timeout: float = option(30.0, "lockstep: longest wait for the other nodes", unit="s", low=0.1, high=3600.0)


@dataclass(frozen=True)
class ControllerConfig(SharedConfig):
    """The model-predictive controller."""

    planner: str = option("cem", "planning method")
    model: str = option(DEFAULT_MODEL, "kind of dynamics model")
    horizon: int = option(16, "planning horizon in control periods", low=1, high=1000, dynamic=True)
    particles: int = option(5, "sampled futures of each candidate", low=1, high=1000, dynamic=True)
    sample_noise: bool = option(False, "draw the model's aleatoric noise in every particle", dynamic=True)
    propagation: str = option(
        "mean", "how uncertainty is carried through time", choices=tuple(PROPAGATIONS), dynamic=True
    )
    state_limits: str = option(
        "none", "how planners are kept within the robot's position limits", choices=("none", "penalty", "barrier")
    )
    limit_share: float = option(0.9, "share of the position limits that may be used", low=0.01, high=1.0, dynamic=True)
    mode: str = option("mpc", "mpc plans again and again, the other modes once a trial", choices=tuple(MODES))
    replan_every: int = option(1, "mpc: control periods from one plan to the next", low=1, high=1000)
    budget: float = option(0.6, "planning time as a share of the control period", low=0.01, high=1.0, dynamic=True)
    model_topic: str = option("dynamics_model", "where models come from; that of a fleet's learner for a fleet")
    command_rate: tuple[float, ...] = option(
        (0.0,),
        "largest change of the command per second that is planned for; one for all or one an actuator; 0 is any",
        unit="1/s of the command's unit",
        low=0.0,
        high=NO_BOUND,
        dynamic=True,
    )
    command_low: tuple[float, ...] = option(
        (-NO_BOUND,),
        "lowest command that is planned, where the robot's limit is not higher; one for all or one an actuator",
        unit="the command's unit",
        low=-NO_BOUND,
        high=NO_BOUND,
        dynamic=True,
    )
    command_high: tuple[float, ...] = option(
        (NO_BOUND,),
        "highest command that is planned, where the robot's limit is not lower; one for all or one an actuator",
        unit="the command's unit",
        low=-NO_BOUND,
        high=NO_BOUND,
        dynamic=True,
    )
    hold_commands: bool = option(
        False, "send each command so that it acts at its stamp, by the robot's stated delay; not in lockstep"
    )
    goal_link: str = option("", "an arm: link that a pose as a goal is of; empty: that which the last joint moves")
    goal_point: tuple[float, ...] = option(
        (0.0, 0.0, 0.0), "the point in the frame of `goal_link`; without a link, the far end of the last one", unit="m"
    )
    threads: int = option(1, "threads that share the particles of a plan; the plan stays the same", low=1, high=64)


@dataclass(frozen=True)
class LearnerConfig(SharedConfig):
    """The model learner."""

    model: str = option(DEFAULT_MODEL, "kind of dynamics model")
    start_model: str = option(
        "", "model file to start from, or to take up with ~/load; empty starts with none", dynamic=True
    )
    fleet: str = option("", "namespaces of the robots to learn from, separated by commas; empty: its own")
    refit_every: int = option(
        5, "new transitions after which the model is refitted during a trial", low=1, high=10000, dynamic=True
    )
    error_horizon: int = option(16, "periods over which error and coverage are measured", low=1, high=1000)
    calibrate: bool = option(
        False, "widen or narrow predictions to what the last trials' motion says of them", dynamic=True
    )


@dataclass(frozen=True)
class TrialConfig(SharedConfig):
    """The trial manager."""

    trials: int = option(12, "largest number of trials", low=1, high=10000, dynamic=True)
    base_trials: int = option(1, "trials with the base policy at the start of a run without data", low=0, high=10000)
    stop_after_solved: int = option(2, "solved trials in a row that end the run", low=1, high=10000, dynamic=True)
    planner: str = option("cem", "planning method, for the record")
    model: str = option(DEFAULT_MODEL, "kind of dynamics model, for the record")
    command: str = option("", "command line of the run, for the record")
    remote_learner: bool = option(False, "the learner is started elsewhere; trials go on when it is lost")
    start_timeout: float = option(60.0, "longest wait for the graph to be ready", unit="s", low=1.0, high=3600.0)
    operator: bool = option(False, "no simulator: each trial begins when ~/start is called")
    paused: bool = option(False, "the first trial waits for ~/start or ~/step, too")
    arm_timeout: float = option(
        30.0, "with an operator: how long arming is tried before the trial waits again", unit="s", low=0.1, high=3600.0
    )


@dataclass(frozen=True)
class ManagerConfig(SharedConfig):
    """What takes the managed nodes up and down."""

    managed: str = option(
        "state_estimator,model_learner,mpc_controller,command_guard",
        "managed nodes in the order of activation, separated by commas; /fleet/model_learner is one of that namespace",
    )


@dataclass(frozen=True)
class ViewConfig(SharedConfig):
    """What shows the robot and what it believes; no part of control."""

    rate: float = option(10.0, "pictures a second", unit="Hz", low=0.1, high=60.0, dynamic=True)
    particles: int = option(10, "sampled futures of the plan", low=1, high=200, dynamic=True)
    candidates: bool = option(True, "show what the planner has tried", dynamic=True)
    link: str = option("", "link of the point of interest; empty: the far end of the one that the last joint moves")
    point: tuple[float, ...] = option((0.0, 0.0, 0.0), "the point in the frame of `link`", unit="m")
    model_topic: str = option("dynamics_model", "where models come from, as for the controller")


@dataclass(frozen=True)
class WebViewConfig(ViewConfig):
    """The view as a web page."""

    host: str = option("127.0.0.1", "address to serve at; 0.0.0.0 opens it to other machines")
    port: int = option(8080, "port to serve at", low=1, high=65535)


@dataclass(frozen=True)
class RecorderConfig(SharedConfig):
    """What records a run; no part of control."""

    bag: str = option("", "folder of the bag, which must not exist; empty: bag, or bag_2 ..., in the run folder")
    storage: str = option(
        "auto",
        "what writes the bag: ros2 bag record or the package rosbags; auto: ros2 bag record where it is installed",
        choices=("auto", "rosbag2", "rosbags"),
    )
    buffer_mb: float = option(64.0, "what may wait to be written; with rosbags", unit="MB", low=0.001, high=100_000.0)
    flush_period: float = option(
        1.0,
        "time after which what was written survives the end of the process; with rosbags",
        unit="s",
        low=0.01,
        high=3600.0,
    )
    model_topic: str = option("dynamics_model", "where models come from, as for the controller")


@dataclass(frozen=True)
class LinkNodeConfig(SharedConfig, LinkConfig):
    """The watchdog on the robot's side of the link."""


@dataclass(frozen=True)
class NodeSpec:
    """A node: its name, its own parameters and the groups of parameters below it.

    Attributes:
        name: node name, also the module in `mbrl_ros.nodes` and the executable.
        config: dataclass of its own parameters.
        groups: which groups it has (``task``, ``planner``, ``model``, ``policy``, ``filter``, ``guard`` ...).
    """

    name: str
    config: type[SharedConfig]
    groups: tuple[str, ...] = ()


GRAPH = (
    NodeSpec("pybullet_sim", SimConfig),
    NodeSpec("state_estimator", SharedConfig, ("filter",)),
    NodeSpec("model_learner", LearnerConfig, ("model", "change")),
    NodeSpec("mpc_controller", ControllerConfig, ("planner", "task", "policy", "risk", "adaptation")),
    NodeSpec("command_guard", SharedConfig, ("guard",)),
    NodeSpec("trial_manager", TrialConfig, ("task",)),
)
MANAGED = ("state_estimator", "model_learner", "mpc_controller", "command_guard")  # in the order of activation
SIMULATOR = "pybullet_sim"
LEARNER = "model_learner"
ROBOT_GRAPH = tuple(spec for spec in GRAPH if spec.name != SIMULATOR)  # on a real robot
MANAGER = NodeSpec("lifecycle_manager", ManagerConfig)  # beside the graph where the nodes do not start by themselves
VISUALIZER = NodeSpec("visualizer", ViewConfig)  # beside the graph, where somebody wants to see
WEB_VIEW = NodeSpec("web_view", WebViewConfig)
VIEWERS = (VISUALIZER, WEB_VIEW)
RECORDER = NodeSpec("recorder", RecorderConfig, ("filter",))  # beside the graph, where a run is to be replayed later
LINK = NodeSpec("link_watchdog", LinkNodeConfig)  # on a real robot, between the guard and the actuators
NODES = {spec.name: spec for spec in (*GRAPH, MANAGER, *VIEWERS, RECORDER, LINK)}
ROS_PARAMETERS = ("use_sim_time",)  # every ROS node has it; not ours to check


def nodes_to_start(parameters: Mapping[str, Mapping[str, Any]], nodes: Sequence[NodeSpec] = GRAPH) -> list[NodeSpec]:
    """Those of `nodes` that one computer starts: without the learner where that is started elsewhere."""
    remote = parameters["trial_manager"]["remote_learner"]
    return [spec for spec in nodes if not (remote and spec.name == LEARNER)]


def group_classes(spec: NodeSpec, config: Any) -> dict[str, type]:
    """Parameter prefix -> configuration class of each group of a node; ``cem`` for the planner CEM, and so on."""
    result: dict[str, type] = {}
    for group in spec.groups:
        if group == "planner":
            result[config.planner] = planner_class(config.planner).config_class
        elif group == "model":
            result[config.model] = model_class(config.model).config_class
        elif group == "task":
            result["task"] = lookup(TASKS, "task", load_robot(config.robot).task).config_class
        else:
            result[group] = {
                "filter": FilterConfig,
                "guard": GuardConfig,
                "policy": SmoothRandomConfig,
                "risk": RiskConfig,
                "adaptation": AdaptationConfig,
                "change": ChangeConfig,
            }[group]
    return result


def configure(spec: NodeSpec, values: Mapping[str, Any], where: str = "") -> tuple[Any, dict[str, Any]]:
    """Build a node's configuration and its groups from flat values such as ``{"planner": "cem", "cem.rounds": 3}``.

    Raises:
        ConfigError: unknown key, wrong type, value out of range or unknown name.
    """
    own = {key: value for key, value in values.items() if "." not in key}
    config = build(spec.config, own, where)
    try:
        classes = group_classes(spec, config)
    except UnknownNameError as error:
        raise ConfigError(f"{where}: {error}" if where else str(error)) from None
    grouped: dict[str, dict[str, Any]] = {prefix: {} for prefix in classes}
    for key, value in values.items():
        prefix, _, name = key.partition(".")
        if not name:
            continue
        if prefix not in grouped:
            known = ", ".join(sorted(classes)) or "none"
            raise ConfigError(f"{where}: unknown key '{key}'; groups of {spec.name}: {known}")
        grouped[prefix][name] = value
    groups: dict[str, Any] = {
        prefix: build(cls, grouped[prefix], f"{where} {prefix}".strip()) for prefix, cls in classes.items()
    }
    return config, groups


def node_parameters(shared: Mapping[str, Any], overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Flat parameters of every node: what is shared, where the node knows it, then its own overrides."""
    result = {}
    for spec in GRAPH:
        known = {*spec.config.__dataclass_fields__, *ROS_PARAMETERS}
        result[spec.name] = {k: v for k, v in shared.items() if k in known} | dict(overrides.get(spec.name, {}))
    return result
