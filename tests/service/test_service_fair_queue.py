"""Who runs next, without any model, thread or clock."""

from hypothesis import given
from hypothesis import strategies as st

from service.fair_queue import FairQueue


def queue_of(**owners: list[str]) -> FairQueue[str, int]:
    queue: FairQueue[str, int] = FairQueue()
    for owner, buckets in owners.items():
        queue.add(owner, ((bucket, index) for index, bucket in enumerate(buckets)))
    return queue


def test_an_empty_queue_gives_an_empty_batch() -> None:
    assert queue_of().take(4) == []


def test_one_owner_is_served_in_order() -> None:
    queue = queue_of(a=["x"] * 5)
    assert queue.take(3) == [("a", 0), ("a", 1), ("a", 2)]
    assert queue.take(3) == [("a", 3), ("a", 4)]
    assert len(queue) == 0


def test_owners_share_a_batch_evenly_and_the_rest_goes_to_who_has_more() -> None:
    batch = queue_of(big=["x"] * 100, small=["x"]).take(8)
    assert [owner for owner, _ in batch] == ["big", "small", *["big"] * 6]


def test_a_batch_holds_one_bucket() -> None:
    queue = queue_of(a=["x", "y", "x"], b=["y"])
    assert queue.take(8) == [("a", 0), ("a", 2)]
    assert queue.take(8) == [("b", 0), ("a", 1)]


def test_who_arrives_while_a_batch_runs_is_ahead_of_its_leader() -> None:
    queue = queue_of(big=["x"] * 100)
    queue.take(8)
    queue.add("small", [("y", 0)])
    assert queue.take(8) == [("small", 0)]


def test_newcomers_do_not_starve_an_old_owner() -> None:
    queue = queue_of(old=["x"] * 2)
    queue.take(1)
    for arrival in range(3):
        queue.add(f"new{arrival}", [("y", 0), ("y", 1)])
    assert "old" in {owner for _ in range(4) for owner, _ in queue.take(1)}


def test_a_discarded_owner_is_gone_even_if_it_led() -> None:
    queue = queue_of(a=["x"] * 4, b=["x"])
    queue.take(1)
    queue.discard("a")
    queue.discard("unknown")
    assert queue.take(8) == [("b", 0)]
    assert queue.take(8) == []


@given(st.lists(st.lists(st.sampled_from("xyz"), min_size=1, max_size=12), max_size=6), st.integers(1, 5))
def test_everything_is_served_once_and_nobody_waits_longer_than_a_round(owners: list[list[str]], limit: int) -> None:
    queue = queue_of(**{str(owner): buckets for owner, buckets in enumerate(owners)})
    served: list[tuple[str, int]] = []
    waiting_since = {str(owner): 0 for owner in range(len(owners))}
    turn = 0
    while batch := queue.take(limit):
        turn += 1
        assert len(batch) <= limit
        assert len({owners[int(owner)][index] for owner, index in batch}) == 1
        served += batch
        for owner, _ in batch:
            waiting_since[owner] = turn
        left = {owner for owner in waiting_since if sum(o == owner for o, _ in served) < len(owners[int(owner)])}
        assert all(turn - waiting_since[owner] < len(owners) for owner in left)
    assert sorted(served) == sorted((str(o), i) for o, buckets in enumerate(owners) for i in range(len(buckets)))
