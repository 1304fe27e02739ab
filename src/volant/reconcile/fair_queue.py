"""Whose turn it is: keys are served in turns over projects, and within a project over owners."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

import msgspec

from volant.store.contract import Key

PATIENT_TURN = 8
"""Every so many turns begin with those that are in no hurry, so that they wait long but not for ever."""


class Place(msgspec.Struct, frozen=True):
    """Where a key stands in line. ``owner`` is the uid of what it goes with, so that a deployment of a thousand takes turns with
    a single VM. What is ``ending`` has a line of its own beside its project's others, and no rate."""

    project: str
    owner: str = ""
    ending: bool = False
    patient: bool = False


_Lane = tuple[str, bool]
_Owners = OrderedDict[str, OrderedDict[Key, None]]


class FairQueue:
    """Every operation costs the same however many wait; ``pop`` looks at most once at each project that waits."""

    def __init__(self) -> None:
        self._hurried: OrderedDict[_Lane, _Owners] = OrderedDict()
        self._patient: OrderedDict[_Lane, _Owners] = OrderedDict()
        self._places: dict[Key, Place] = {}
        self._depths: dict[str, int] = {}
        self._turn = 0

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    def push(self, key: Key, place: Place) -> None:
        """Put ``key`` in line. One that is there keeps its place, unless the new one is in more of a hurry or ends."""
        old = self._places.get(key)
        if old is not None:
            # It is in no less of a hurry, and ends no less, for being asked for again in another way.
            place = Place(place.project, place.owner, old.ending or place.ending, old.patient and place.patient)
            if (place.ending, place.patient) == (old.ending, old.patient):
                return
            self.remove(key)
        self._places[key] = place
        self._depths[place.project] = self._depths.get(place.project, 0) + 1
        lanes = self._patient if place.patient else self._hurried
        lanes.setdefault((place.project, place.ending), OrderedDict()).setdefault(place.owner, OrderedDict())[key] = None

    def remove(self, key: Key) -> None:
        place = self._places.pop(key)
        lanes = self._patient if place.patient else self._hurried
        lane = (place.project, place.ending)
        owners = lanes[lane]
        del owners[place.owner][key]
        if not owners[place.owner]:
            del owners[place.owner]
        if not owners:
            del lanes[lane]
        self._depths[place.project] -= 1
        if not self._depths[place.project]:
            del self._depths[place.project]

    def pop(self, may: Callable[[str], bool]) -> tuple[Key, Place] | None:
        """The next key, of a project that ``may`` or that ends; None when there is none."""
        is_patient_turn = (self._turn + 1) % PATIENT_TURN == 0
        for lanes in (self._patient, self._hurried) if is_patient_turn else (self._hurried, self._patient):
            for _ in range(len(lanes)):
                lane, owners = next(iter(lanes.items()))
                lanes.move_to_end(lane)
                if not lane[1] and not may(lane[0]):
                    continue
                owner, keys = next(iter(owners.items()))
                owners.move_to_end(owner)
                key = next(iter(keys))
                place = self._places[key]
                self.remove(key)
                self._turn += 1
                return key, place
        return None

    def place_of(self, key: Key) -> Place | None:
        return self._places.get(key)

    def held_projects(self) -> Iterator[str]:
        """The projects that wait with something that is not ending."""
        for lanes in (self._hurried, self._patient):
            for project, is_ending in lanes:
                if not is_ending:
                    yield project

    def depths(self) -> dict[str, int]:
        """How many wait of each project."""
        return self._depths

    def keys(self) -> Iterator[Key]:
        """Lane by lane, and the hurried before the others: not quite the order in which they will be served."""
        for lanes in (self._hurried, self._patient):
            for owners in lanes.values():
                for keys in owners.values():
                    yield from keys
