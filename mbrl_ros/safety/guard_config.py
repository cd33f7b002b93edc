"""Settings of the command guard and of the link watchdog. Periods are control periods."""

from dataclasses import dataclass

from mbrl_ros.config import option, validate

SAFE_ACTIONS = {
    "auto": "what the interface suggests: zero for effort, velocity and twist, hold for position",
    "zero": "no effort, no velocity",
    "damp": "effort -d * velocity of the joint",
    "hold": "the position measured when the intervention began",
    "feedback": "-K (x - reference) with a gain of your own",
}
STATE_ACTIONS = {
    "none": "nothing: the trial manager ends the trial",
    "safe": "the safe action while the state is beyond a limit",
    "stop": "the safe action and a latched stop",
}


@dataclass(frozen=True)
class LimitConfig:
    """How much of the robot's limits may be used, and what the safe action is."""

    position_margin: float = option(
        0.0, "distance kept from the position limits", unit="m or rad", low=0.0, high=1000.0, dynamic=True
    )
    velocity_margin: float = option(
        0.0, "share of the velocity limits that is left free", low=0.0, high=0.99, dynamic=True
    )
    effort_margin: float = option(0.0, "share of the effort limits that is left free", low=0.0, high=0.99, dynamic=True)
    command_rate: tuple[float, ...] = option(
        (0.0,),
        "largest change of the command per second; one for all or one an actuator; 0 is none",
        unit="1/s of the command's unit",
        low=0.0,
        high=1e9,
        dynamic=True,
    )
    command_jerk: tuple[float, ...] = option(
        (0.0,),
        "largest change of the command's rate per second; one for all or one an actuator; 0 is none",
        unit="1/s^2 of the command's unit",
        low=0.0,
        high=1e12,
        dynamic=True,
    )
    rate_limit: float = option(
        2.0,
        "largest change from one command to the next as a multiple of half the command's range; 2 is any",
        low=1e-3,
        high=2.0,
        dynamic=True,
    )
    safe_action: str = option("auto", "what is sent when nothing else may be", choices=tuple(SAFE_ACTIONS))
    damping: float = option(0.0, "d of the safe action damp", unit="N s/m or N m s/rad", low=0.0, high=1e6)
    feedback_gain: tuple[float, ...] = option(
        (0.0,), "K of the safe action feedback, row by row: one row an actuator, positions, then velocities"
    )
    feedback_reference: tuple[float, ...] = option(
        (0.0,), "reference of the safe action feedback: positions, then velocities; one number for all"
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class GuardConfig(LimitConfig):
    """Settings of the guard."""

    timeout: float = option(2.0, "silence after which the controller has failed", unit="periods", low=1.0, high=1000.0)
    late_tolerance: float = option(
        -0.1,
        "how far past its stamp a command is still in time; negative leaves time for the way to the actuators",
        unit="periods",
        low=-1000.0,
        high=1.0,
    )
    stale_after: float = option(
        3.0, "distance of a stamp from now beyond which a message is refused", unit="periods", low=1.0, high=1000.0
    )
    invalid_limit: int = option(5, "invalid commands in a row that latch a stop", low=1, high=1000)
    state_action: str = option("none", "what a state beyond the limits leads to", choices=tuple(STATE_ACTIONS))
    observation_timeout: float = option(
        0.0, "age of the observation that prevents arming and is a failure; 0 is any", unit="periods", low=0.0, high=1e3
    )
    arm_commands: int = option(0, "good commands in a row that must have come before arming", low=0, high=1000)
    heartbeat_timeout: float = option(
        0.0, "silence of the heartbeat that disarms; 0 needs no heartbeat", unit="s", low=0.0, high=3600.0
    )
    plan_periods: int = option(
        0, "first rung after a failure: periods in which the rest of the last plan is used", low=0, high=1000
    )
    hold_periods: int = option(0, "second rung: periods in which the last command is held", low=0, high=1000)
    disarm_after: int = option(
        0, "last rung: periods from the failure until the guard disarms; 0 is never", low=0, high=100000
    )
