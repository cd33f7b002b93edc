"""What the guard has heard of the rest of the graph, and what of it speaks against arming."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mbrl_ros.safety.guard_config import GuardConfig
from mbrl_ros.safety.limits import Limits

NANOSECONDS = 1e9


class Moment(NamedTuple):
    """Now, by two clocks: silence is measured by the one that nobody sets, stamps are compared with the other."""

    monotonic_ns: int
    wall_ns: int


@dataclass
class Heard:
    """When each stream was last heard of, monotonic ns, and what it said. None is never.

    Attributes:
        command: last good command.
        commands: good commands in a row.
        command_problem: what was wrong with the last command, empty where nothing.
        observation: last observation that was measured.
        state: its positions (n,) and velocities (n,).
        observation_lag: wall time less its stamp when it came, ns.
        heartbeat: last heartbeat.
    """

    command: int | None = None
    commands: int = 0
    command_problem: str = ""
    observation: int | None = None
    state: tuple[np.ndarray, np.ndarray] | None = None
    observation_lag: int = 0
    heartbeat: int | None = None


def periods_since(then_ns: int | None, now: Moment, dt_ns: int) -> float:
    """Control periods since `then_ns`; inf where that was never. A clock that runs back is silence, too."""
    return np.inf if then_ns is None else abs(now.monotonic_ns - then_ns) / dt_ns


def heartbeat_silent(config: GuardConfig, heard: Heard, now: Moment) -> str:
    """Why the heartbeat is missing; empty where it is there or not needed."""
    if config.heartbeat_timeout == 0:
        return ""
    if heard.heartbeat is None:
        return "no heartbeat yet"
    silence = (now.monotonic_ns - heard.heartbeat) / NANOSECONDS
    allowed = config.heartbeat_timeout
    return f"no heartbeat for {silence:.2f} s; allowed are {allowed:g} s" if silence > allowed else ""


def observation_silent(config: GuardConfig, heard: Heard, now: Moment, dt_ns: int) -> str:
    """Why the observation is missing; empty where it is fresh or need not be."""
    if config.observation_timeout == 0:
        return ""
    if heard.observation is None:
        return "no observation yet"
    age = periods_since(heard.observation, now, dt_ns) + max(heard.observation_lag, 0) / dt_ns
    allowed = config.observation_timeout
    return f"the last measured observation is {age:.1f} periods old; allowed are {allowed:g}" if age > allowed else ""


def obstacles(config: GuardConfig, limits: Limits, heard: Heard, now: Moment, dt_ns: int) -> list[str]:
    """Everything that speaks against arming now."""
    found = [observation_silent(config, heard, now, dt_ns), heartbeat_silent(config, heard, now)]
    found.append(_commands_missing(config, heard, now, dt_ns))
    if periods_since(heard.observation, now, dt_ns) <= max(config.observation_timeout, config.stale_after):
        found.append(_clocks_disagree(config, heard, dt_ns))
        if heard.state is not None and config.state_action != "none":
            found.append(limits.beyond(*heard.state))
    return [reason for reason in found if reason]


def _commands_missing(config: GuardConfig, heard: Heard, now: Moment, dt_ns: int) -> str:
    """Why the controller is not warmed up; empty where it is or need not be."""
    if config.arm_commands == 0:
        return ""
    problem = f" ({heard.command_problem})" if heard.command_problem else ""
    silence = periods_since(heard.command, now, dt_ns)
    if silence > config.timeout:
        since = "yet" if heard.command is None else f"for {silence:.1f} periods"
        return f"no good command {since}{problem}"
    if heard.commands < config.arm_commands:
        return f"only {heard.commands} good commands in a row, expected {config.arm_commands}{problem}"
    return ""


def _clocks_disagree(config: GuardConfig, heard: Heard, dt_ns: int) -> str:
    """Why the observation's stamp cannot be right; empty where it can."""
    lag = heard.observation_lag / dt_ns
    if abs(lag) <= config.stale_after:
        return ""
    return f"the observation's stamp is {abs(lag):.1f} periods {'old' if lag > 0 else 'ahead'}; do the clocks agree?"
