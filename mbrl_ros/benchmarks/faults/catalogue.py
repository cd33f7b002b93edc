"""The fault matrix: every fault with what is expected of the graph."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mbrl_ros.benchmarks.faults.actions import (
    Action,
    Busy,
    DiskFull,
    Disturb,
    Flood,
    Kill,
    LatchedBy,
    NotANumber,
    Stop,
    WrongModel,
)
from mbrl_ros.benchmarks.faults.damage import KINDS
from mbrl_ros.benchmarks.faults.disturbances import (
    Delayed,
    Disturbance,
    Duplicated,
    OutOfOrder,
    Shifted,
    Silent,
    TenTimes,
)
from mbrl_ros.benchmarks.faults.live_graph import BESIDE_GRAPH, LINK, is_kinematic
from mbrl_ros.robots.description import RobotDescription

GUARD_PERIODS = 3.0  # from the fault to the safe action of the guard
LINK_PERIODS = 3.5  # of the link watchdog: its timeout of 3 and the quarter between two looks, and some for the way
DRIVE_PERIODS = 5.0  # of the drive's own watchdog: 3 silent ticks, the one that notices, the one that is under way
DELAY = 0.5  # s, ten periods
CONTROL = ("observation", "command")  # without these, and without its sensors, the robot may not move
BESIDE = ("applied_command", "plan", "dynamics_model", "trial")
LATCHED = ("dynamics_model", "trial")
STAMPED = ("applied_command", "plan")
CLOCK_STEP, EDGE_PERIODS = 10.0, 4  # s, control periods: one more than `stale_after` lets pass
PLANNED = ("plan", "mpc_controller/telemetry")  # what the base policy, which moves a stand-in, does not publish
MIDDLE, END = (0.5, 7.0), (9.5, 10.5)  # s after the beginning of a trial of 12 s in which a fault may begin
OTHER_INPUTS = (
    "trial_ready",
    "mpc_controller/model_version",
    "mpc_controller/telemetry",
    "model_learner/telemetry",
    "/diagnostics",
)
FLAGS = "|timeout|stale"  # of the guard, where its words have been said before
SAID = {"command": "finite number(s)|stamp is|invalid|stale"}
# Damage that a topic cannot have: texts have no NaN, and so on. Names without a sample say nothing, either.
FIELDS = {
    "dynamics_model": ("sizes", "numbers"),
    "trial": ("sizes", "names"),
    "trial_ready": ("names",),
    "mpc_controller/model_version": ("numbers",),
    "/diagnostics": ("sizes", "names", "numbers"),
}


@dataclass(frozen=True)
class Fault:
    """One row.

    Attributes:
        name: of the row.
        variant: of the graph, see live_graph.VARIANTS.
        action: what is done.
        periods: control periods within which the safe action must come; 0: none is due.
        lasting: whether the safe action must go on until the fault is over.
        drive: whether it is the drive that goes limp, which shows in the motion and not on the topic.
        said: words, separated by |, one of which must be published: as a flag or in the diagnostics; empty: none.
        seconds: how long the fault lasts.
        window: when in a trial it may begin, in s.
        latched: whether nothing may pass until the operator's reset.
    """

    name: str
    variant: str
    action: Action
    periods: float = 0.0
    lasting: bool = True
    drive: bool = False
    said: str = ""
    seconds: float = 1.5
    window: tuple[float, float] = MIDDLE
    latched: bool = False


def catalogue(robot: RobotDescription) -> list[Fault]:
    """Every fault, those of one variant of the graph side by side."""
    direct = [*kills(), *disks(), *models(), *garbage(robot)]
    relay = [*disturbed(robot), *shifted_stamps(robot), *stops(robot)]
    return [f for f in (*direct, *relay, *behind_the_link(), *onlookers()) if not f.drive or shows_limp_drive(robot)]


def shows_limp_drive(robot: RobotDescription) -> bool:
    """Whether the motion tells a drive without force: the stand-in stands still; the cart-pole's equation is known."""
    return is_kinematic(robot) or robot.task == "cartpole_swingup"


def sensors(robot: RobotDescription) -> list[str]:
    """Topics of the robot's sensors."""
    return [sensor.topic for sensor in robot.sensors]


def needed(robot: RobotDescription) -> list[str]:
    """Topics without which the robot may not move; of several sensors the others go on."""
    return [*(sensors(robot) if len(robot.sensors) == 1 else ()), *CONTROL]


def heard(robot: RobotDescription, *topics: str) -> list[str]:
    """Sensors and topics that this robot's graph has."""
    return [*sensors(robot), *(t for t in topics if not (is_kinematic(robot) and t in PLANNED))]


def kills() -> list[Fault]:
    """Kill -9 of each process."""
    moving = ("state_estimator", "mpc_controller", "pybullet_sim")
    return [
        *(Fault(f"kill {n}", "direct", Kill(n), GUARD_PERIODS, said="no command for" + FLAGS) for n in moving),
        Fault("kill model_learner", "direct", Kill("model_learner")),
        Fault("kill trial_manager", "direct", Kill("trial_manager"), said="overdue", seconds=5.5, window=END),
        Fault("kill command_guard", "direct", Kill("command_guard"), DRIVE_PERIODS, drive=True),
    ]


def disks() -> list[Fault]:
    """The machine's resources run out."""
    return [
        Fault("disk full: model_learner", "direct", DiskFull("model_learner"), said="wait in memory", seconds=3.0),
        Fault(
            "disk full: trial_manager",
            "direct",
            DiskFull("trial_manager"),
            said="trial_manager: state: /|cannot|File too large",
            seconds=6.0,
            window=END,
        ),
        Fault("every core busy", "direct", Busy(), seconds=4.0),
    ]


def models() -> list[Fault]:
    """Models that must not be used."""
    return [
        Fault(f"model: {kind}", "direct", WrongModel("dynamics_model", kind), said="models_rejected")
        for kind in ("damaged", "other robot", "older")
    ]


def garbage(robot: RobotDescription) -> list[Fault]:
    """Damage in every field of every input, beside the genuine messages."""
    return [
        Fault(
            f"{topic}: {kind}",
            "direct",
            Flood(topic, kind),
            GUARD_PERIODS if topic == "command" else 0.0,
            lasting=False,
            said=SAID.get(topic, ""),
        )
        for topic in heard(robot, *CONTROL, *BESIDE, *OTHER_INPUTS)
        for kind in FIELDS.get(topic, KINDS)
    ]


def disturbed(robot: RobotDescription) -> list[Fault]:
    """Each topic silent, late, twice, out of order, too often."""
    dt, found = robot.dt, []
    for topic in heard(robot, *CONTROL, *BESIDE):
        kinds: dict[str, Callable[[], Disturbance]] = {
            "silent": partial(Silent, topic in LATCHED),
            "delayed": partial(Delayed, DELAY),
            "duplicated": partial(Duplicated, dt),
            "out of order": OutOfOrder,
            "ten times": partial(TenTimes, dt),
        }
        for kind, make in kinds.items():
            due = topic in needed(robot) and kind in ("silent", "delayed")
            found.append(
                Fault(
                    f"{topic}: {kind}",
                    "relay",
                    Disturb(topic, make),
                    GUARD_PERIODS if due else 0.0,
                    said="no command for|stamp is" + FLAGS if due else "",
                    seconds=5.0 if topic == "trial" else 1.5,
                    window=END if topic == "trial" else MIDDLE,
                )
            )
    return found


def shifted_stamps(robot: RobotDescription) -> list[Fault]:
    """Clocks that do not agree: stamps that are ahead or behind."""
    edge, due = EDGE_PERIODS * robot.dt, needed(robot)
    return [
        Fault(
            f"{topic}: stamps {shift:+g} s",
            "relay",
            Disturb(topic, partial(Shifted, shift)),
            GUARD_PERIODS if topic in due else 0.0,
            lasting=abs(shift) > edge,  # that is about what `stale_after` lets pass where commands come late
            said="stamp is|no command for" + FLAGS if topic in due else "",
        )
        for topic in heard(robot, *CONTROL, *STAMPED)
        for shift in (CLOCK_STEP, -CLOCK_STEP, edge, -edge)
    ]


def stops(robot: RobotDescription) -> list[Fault]:
    """What latches a stop."""
    only_nan = LatchedBy(Disturb("command", partial(NotANumber, robot.command_interface)))
    return [
        Fault("stop service", "relay", Stop(), GUARD_PERIODS, said="stopped", latched=True),
        Fault("command: nothing but nan", "relay", only_nan, GUARD_PERIODS, said="stopped", latched=True),
    ]


def behind_the_link() -> list[Fault]:
    """With the link watchdog between guard and actuators."""
    said = "safe action: the guard is silent|the guard is silent"
    return [
        Fault("kill command_guard, link watchdog", "link", Kill("command_guard"), LINK_PERIODS, said=said),
        Fault(f"kill {LINK}", "link", Kill(LINK), DRIVE_PERIODS, drive=True),
        *(
            Fault(f"guarded_commands: {kind}", "link", Flood("guarded_commands", kind), said="refused", seconds=3.0)
            for kind in ("nan", "infinity", "sizes")
        ),
    ]


def onlookers() -> list[Fault]:
    """Kill -9 of what stands beside the graph: the robot goes on as if nothing had been."""
    return [Fault(f"kill {name}", "beside", Kill(name), seconds=3.0) for name in BESIDE_GRAPH]
