"""The faults themselves: each begins and ends on a scene, the live graph with all that can break it."""

import copy
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from mbrl_ros.benchmarks.faults.damage import damaged
from mbrl_ros.benchmarks.faults.disturbances import Disturbance, Passed
from mbrl_ros.benchmarks.faults.live_graph import LiveGraph
from mbrl_ros.errors import MbrlError
from mbrl_ros.models.serialization import from_bytes, to_bytes
from mbrl_ros.robots.command_messages import COMMAND_FIELDS

SMALL_FILE = 1024  # bytes a process may write to a file when its disk is full
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
BUSY = "while True: pass"


@dataclass
class Scene:
    """The live graph and what breaks it; `relay`, `stranger` and `operator` are nodes of this process."""

    graph: LiveGraph
    relay: Any
    stranger: Any
    operator: Any


class Action(Protocol):
    """What is done to the graph."""

    def begin(self, scene: Scene) -> None:
        """The fault happens."""

    def end(self, scene: Scene) -> None:
        """The fault is gone; what it has killed is started again."""


@dataclass
class Kill:
    """Kill -9 of a process; at the end it is started again."""

    node: str

    def begin(self, scene: Scene) -> None:
        """See Action."""
        scene.graph.kill(self.node)

    def end(self, scene: Scene) -> None:
        """See Action."""
        scene.graph.restart(self.node)


@dataclass
class Disturb:
    """A topic is disturbed by the relay."""

    topic: str
    make: Callable[[], Disturbance]

    def begin(self, scene: Scene) -> None:
        """See Action."""
        scene.relay.disturb(self.topic, self.make())

    def end(self, scene: Scene) -> None:
        """See Action."""
        scene.relay.heal(self.topic)


@dataclass
class Flood:
    """Damaged messages of one kind beside the genuine ones of a topic."""

    topic: str
    kind: str

    def messages(self, scene: Scene) -> list[Any]:
        """What is published, in turns."""
        return damaged(self.genuine(scene), self.kind)

    def genuine(self, scene: Scene) -> Any:
        """The newest genuine message."""
        if self.topic not in scene.stranger.samples:
            raise MbrlError(f"nothing was heard on {self.topic}")
        return scene.stranger.samples[self.topic]

    def begin(self, scene: Scene) -> None:
        """See Action."""
        scene.stranger.begin(self.topic, self.messages(scene), fresh=self.kind != "numbers")

    def end(self, scene: Scene) -> None:
        """See Action; invalid commands in a row may have latched a stop."""
        scene.stranger.end()
        if self.topic == "command":
            scene.operator.call("reset")


@dataclass
class WrongModel(Flood):
    """A model that must not be used: ``damaged``, ``other robot`` or ``older``."""

    def messages(self, scene: Scene) -> list[Any]:
        """See Flood."""
        genuine, robot = self.genuine(scene), scene.graph.robot
        data = bytearray(genuine.data)
        if self.kind == "damaged":
            data[len(data) // 2] ^= 1
            return [type(genuine)(data=data)]
        model, header = from_bytes(bytes(data), robot.name, robot.layout)
        other = self.kind == "other robot"
        version = header.version + 1 if other else header.version - 1
        return [type(genuine)(data=to_bytes(model, version, header.data_size, "another" if other else robot.name))]


@dataclass
class NotANumber:
    """A link on which every command of an interface turns into NaN."""

    interface: str

    def take(self, message: Any, now: float) -> Passed:
        """See Disturbance."""
        wrong = copy.deepcopy(message)
        field = COMMAND_FIELDS[self.interface]
        setattr(wrong, field, [float("nan")] * len(getattr(message, field)))
        return [(now, wrong)]

    def end(self, now: float) -> Passed:
        """See Disturbance."""
        return []


@dataclass
class Stop:
    """The operator's stop; at the end `~/reset`."""

    def begin(self, scene: Scene) -> None:
        """See Action."""
        scene.operator.call("stop")

    def end(self, scene: Scene) -> None:
        """See Action."""
        scene.operator.call("reset")


@dataclass
class LatchedBy:
    """A fault that latches a stop; once it is gone the operator calls `~/reset`."""

    fault: Action

    def begin(self, scene: Scene) -> None:
        """See Action."""
        self.fault.begin(scene)

    def end(self, scene: Scene) -> None:
        """See Action."""
        self.fault.end(scene)
        scene.operator.call("reset")


@dataclass
class DiskFull:
    """A process may not write to its files any more (RLIMIT_FSIZE), as on a full disk."""

    node: str

    def begin(self, scene: Scene) -> None:
        """See Action."""
        resource.prlimit(scene.graph.pid(self.node), resource.RLIMIT_FSIZE, (SMALL_FILE, resource.RLIM_INFINITY))

    def end(self, scene: Scene) -> None:
        """See Action."""
        resource.prlimit(scene.graph.pid(self.node), resource.RLIMIT_FSIZE, UNLIMITED)


@dataclass
class Busy:
    """As many endless loops as there are cores, each of the nodes' own priority."""

    processes: list[subprocess.Popen] = field(default_factory=list)

    def begin(self, scene: Scene) -> None:
        """See Action."""
        self.processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in os.sched_getaffinity(0)]

    def end(self, scene: Scene) -> None:
        """See Action."""
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
            process.wait()
        self.processes = []


def wait_for(done: Callable[[], bool], timeout: float) -> bool:
    """Look every 10 ms; False on timeout."""
    end = time.monotonic() + timeout
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
