"""What a change of a deployment is said to make of its VMs."""

from __future__ import annotations

from volant.core.deployment import Strategy
from volant.core.rollout_preview import Preview, ReplicaNow, preview_change

ROLLING = Strategy(max_surge=1)


def there(*indices: int, old: tuple[int, ...] = ()) -> list[ReplicaNow]:
    return [ReplicaNow(name=f"web-{index}", current=index not in old) for index in indices]


def test_a_new_one_is_made() -> None:
    assert preview_change("web", [], 2, True, ROLLING) == Preview(created=("web-0", "web-1"))


def test_scaling_touches_nothing_else() -> None:
    up = preview_change("web", there(0, 2), 4, False, ROLLING)
    assert (up.created, up.kept, up.removed, up.replaced) == (("web-1", "web-3"), ("web-0", "web-2"), (), ())
    down = preview_change("web", there(0, 1, 10), 1, False, ROLLING)
    assert (down.kept, down.removed) == (("web-0",), ("web-1", "web-10"))


def test_another_description_replaces_all_under_their_names() -> None:
    preview = preview_change("web", there(0, 1), 2, True, ROLLING)
    assert preview == Preview(replaced=("web-0", "web-1"), passing=("web-2",))
    assert preview_change("web", there(0, 1), 2, True, Strategy(type="recreate")) == Preview(replaced=("web-0", "web-1"))


def test_another_description_and_number_at_once() -> None:
    preview = preview_change("web", there(0, 1, 2), 2, True, Strategy(max_surge=0, max_unavailable=1))
    assert (preview.replaced, preview.removed, preview.passing) == (("web-0", "web-1"), ("web-2",), ())
    assert preview_change("web", there(0), 2, True, ROLLING).created == ("web-1",)


def test_blue_green_makes_a_set_beside_the_other() -> None:
    preview = preview_change("web", there(0, 2), 2, True, Strategy(type="blue-green"))
    assert (preview.created, preview.removed) == (("web-1", "web-3"), ("web-0", "web-2"))


def test_a_rollout_that_is_under_way_goes_on() -> None:
    preview = preview_change("web", there(0, 1, 2, old=(0,)), 2, False, ROLLING)
    assert (preview.replaced, preview.kept, preview.removed) == (("web-0",), ("web-1",), ("web-2",))


def test_other_names_are_passed_over() -> None:
    assert preview_change("web", [ReplicaNow(name="web-x"), ReplicaNow(name="other-0")], 0, False, ROLLING) == Preview()
