"""Which transports a process is told to use, and whose word counts."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from mbrl_ros.transport import PROFILES, RANGE, STATIC_PEERS, TRANSPORTS, dds_environment, over_udp


def test_what_is_left_open_is_this_computer_over_udp():
    got = dds_environment({"HOME": "/x"})
    assert got[TRANSPORTS] == "UDPv4" and got[RANGE] == "SYSTEM_DEFAULT" and got["HOME"] == "/x"
    root = ElementTree.parse(Path(got[PROFILES])).getroot()
    assert [e.text for e in root.iter() if e.tag.endswith("}type")] == ["UDPv4"]
    assert [e.text for e in root.iter() if e.tag.endswith("}useBuiltinTransports")] == ["false"]
    assert dds_environment(got) == got, "children inherit it as it is"


def test_processes_that_start_together_find_each_other_within_a_second():
    root = ElementTree.parse(Path(dds_environment({})[PROFILES])).getroot()
    values = {e.tag.split("}")[1]: e.text for e in root.iter()}
    assert float(values["sec"]) <= 1.0, "s between announcements"
    assert float(values["nanosec"]) * int(values["count"]) >= 3e9, "the longest start of a node is 3 s (torch)"


@pytest.mark.parametrize(
    "given", [{TRANSPORTS: "DEFAULT"}, {TRANSPORTS: "SHM", RANGE: "SUBNET"}, {PROFILES: "own.xml"}, {PROFILES: ""}]
)
def test_the_users_word_counts(given):
    assert over_udp(given) == {}
    assert dds_environment(given) == {RANGE: "LOCALHOST"} | given


def test_beyond_this_computer_the_variable_is_enough():
    assert over_udp({RANGE: "SUBNET"}) == over_udp({}) == {TRANSPORTS: "UDPv4"}
    assert over_udp({RANGE: "LOCALHOST", STATIC_PEERS: "10.0.0.2"}) == {}
