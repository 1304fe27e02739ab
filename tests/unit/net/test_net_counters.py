"""What is read out of the kernel's counters."""

from __future__ import annotations

from volant.net.traffic import parse_counters

LISTING = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 5000      50    0    0    0     0          0         0     5000      50    0    0    0     0       0          0
vt-0123456789ab: 1234567890 17    0    0    0     0          0         0     4000      40    0    0    0     0       0          0
vt-a:123 4 0    0    0     0          0         0     4000      40    0    0    0     0       0          0
  vbr0: 7000      70    0    0    0     0          0         0     8000      80    0    0    0     0       0          0
"""


def test_the_packets_that_taps_received_are_counted_and_other_interfaces_are_passed_over() -> None:
    assert dict(parse_counters(LISTING)) == {"vt-0123456789ab": 17, "vt-a": 4}
