"""How processes speak to each other: on this computer only, and not through shared memory, unless the user says so.

A process that is killed in the midst of a message can leave a lock in Fast DDS's shared memory, and others then wait
for a second (docs/faults.md). ``FASTDDS_BUILTIN_TRANSPORTS`` alone does not keep them from it: where ROS is limited to
this computer, rmw_fastrtps adds shared memory whatever that variable says. So a profile takes the limit's place there.
"""

from collections.abc import Mapping

from mbrl_ros.resources import share_directory

RANGE, THIS_COMPUTER, NO_RANGE = "ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST", "SYSTEM_DEFAULT"
TRANSPORTS, UDP = "FASTDDS_BUILTIN_TRANSPORTS", "UDPv4"
PROFILES = "FASTRTPS_DEFAULT_PROFILES_FILE"  # of Fast DDS
STATIC_PEERS = "ROS_STATIC_PEERS"


def over_udp(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that keep a process from shared memory; none where the user has chosen transports or a profile."""
    if environment.get(TRANSPORTS, UDP) != UDP or PROFILES in environment:
        return {}
    if environment.get(RANGE) != THIS_COMPUTER:
        return {TRANSPORTS: UDP}
    if environment.get(STATIC_PEERS):  # only rmw_fastrtps can add them
        return {}
    return {TRANSPORTS: UDP, RANGE: NO_RANGE, PROFILES: str(share_directory() / "config" / "dds" / "local_udp.xml")}


def dds_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with our defaults for what the user has left open."""
    limited = {RANGE: THIS_COMPUTER} | dict(environment)
    return limited | over_udp(limited)
