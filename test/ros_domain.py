"""A ROS domain for each test file, held by no other test process on this machine."""

import fcntl
import tempfile
from functools import cache
from pathlib import Path

DOMAINS = range(1, 101)  # above 101 ports of Linux's ephemeral range are used
HELD = []  # open lock files, until the process ends


@cache
def own_domain(*user: object) -> int:
    """The domain of `user`, such as a test file's name; the same one whenever it is asked for again."""
    for domain in DOMAINS:
        lock = (Path(tempfile.gettempdir()) / f"mbrl_ros_test_domain_{domain}.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        HELD.append(lock)
        return domain
    raise RuntimeError(f"no ROS domain is left for {user}: other tests hold all of {DOMAINS}")
