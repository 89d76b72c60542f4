"""Who runs next, without any model, thread or clock."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.fair_queue import FairQueue


def queue_of(limit: int, max_cost: float = 1000, **owners: list[str]) -> FairQueue[str, int]:
    """Items of cost 1, each in the bucket that is named."""
    queue: FairQueue[str, int] = FairQueue(max_items=limit, max_cost=max_cost)
    for owner, buckets in owners.items():
        for index, bucket in enumerate(buckets):
            queue.add(owner, bucket, index, 1)
    return queue


def owners_of(batch: list[tuple[str, int]]) -> list[str]:
    return [owner for owner, _ in batch]


def test_an_empty_queue_gives_an_empty_batch() -> None:
    assert queue_of(4).take() == []


def test_one_owner_is_served_in_order() -> None:
    queue = queue_of(3, a=["x"] * 5)
    assert queue.take() == [("a", 0), ("a", 1), ("a", 2)]
    assert queue.take() == [("a", 3), ("a", 4)]
    assert len(queue) == 0


def test_who_wants_least_leads_and_the_others_fill_up() -> None:
    assert owners_of(queue_of(8, big=["x"] * 100, small=["x"]).take()) == ["small", *["big"] * 7]


def test_owners_who_want_equally_much_are_served_in_the_order_in_which_they_came() -> None:
    queue = queue_of(2, a=["x"] * 4)
    queue.take()
    for owner in "bc":
        for item in range(4):
            queue.add(owner, "x", item, 1)
    assert [owners_of(queue.take()) for _ in range(5)] == [["a"] * 2, *[["b"] * 2] * 2, *[["c"] * 2] * 2]


def test_a_request_of_many_batches_delays_a_small_one_by_one_at_most() -> None:
    queue = queue_of(4, max_cost=4, big=["x"] * 100)
    for turn in range(20):
        queue.take()
        queue.add(f"small{turn}", "y", 0, 1)
        queue.add(f"small{turn}", "y", 1, 1)
        assert [f"small{turn}"] * 2 in (owners_of(queue.take()), owners_of(queue.take()))


def test_what_would_run_before_a_newcomer_is_known() -> None:
    queue = queue_of(2, max_cost=2, big=["x"] * 100, small=["x"], other=["y"] * 2)
    # Of the big owner one portion; of the newcomer's equals all.
    assert [queue.ahead_of(cost) for cost in (0.5, 1, 2, 1000)] == [0, 1, 5, 103]


def test_what_waits_is_counted_by_bucket_of_one_owner_or_of_all() -> None:
    queue = queue_of(2, a=["x", "x", "x", "y"], b=["y"])
    assert queue.owners == ["a", "b"]
    assert (queue.counts("a"), queue.counts()) == ({"x": 3, "y": 1}, {"x": 3, "y": 2})
    assert owners_of(queue.take()) == ["b", "a"]
    assert (queue.owners, queue.counts()) == (["a"], {"x": 3})


def test_a_batch_holds_one_bucket() -> None:
    queue = queue_of(8, a=["x", "y", "x"], b=["y"])
    assert queue.take() == [("b", 0), ("a", 1)]
    assert queue.take() == [("a", 0), ("a", 2)]


@pytest.mark.parametrize(
    ("waiting", "sizes"), [(3, [3, 0]), (11, [11, 0]), (12, [6, 6]), (20, [10, 10]), (80, [32, 32])]
)
def test_what_waits_is_shared_so_that_all_are_done_at_once_unless_a_share_is_small(
    waiting: int, sizes: list[int]
) -> None:
    queue = queue_of(32, a=["x"] * waiting)
    first = queue.take(takers=2)
    assert [len(first), len(queue.take(takers=2, running=len(first)))] == sizes


@pytest.mark.parametrize(("waiting", "size"), [(10, 20), (19, 32), (22, 23), (40, 32)])
def test_what_several_owners_wait_for_is_parted_only_into_most_of_a_batch_where_there_is_other_work(
    waiting: int, size: int
) -> None:
    assert len(queue_of(32, a=["x"] * waiting + ["y"], b=["x"] * waiting).take(takers=2)) == size


def test_what_several_owners_wait_for_is_shared_where_there_is_no_other_work() -> None:
    assert len(queue_of(32, a=["x"] * 10, b=["x"] * 10).take(takers=2)) == 10


def test_what_one_owner_waits_for_is_shared_whatever_else_waits() -> None:
    assert len(queue_of(32, a=["x"] * 20 + ["y"]).take(takers=2)) == 11


def test_most_of_a_batch_may_be_so_by_its_cost() -> None:
    queue: FairQueue[str, int] = FairQueue(max_items=32, max_cost=32)
    for owner in "ab":
        for item in range(12):
            queue.add(owner, "x", item, 1.8)
    queue.add("a", "y", 12, 1)
    assert len(queue.take(takers=2)) == 13


def test_what_others_still_have_to_do_is_their_part_of_the_work() -> None:
    assert len(queue_of(32, a=["x"] * 16).take(takers=3, running=11)) == 9


def test_what_waits_in_another_bucket_is_for_the_other_takers() -> None:
    assert len(queue_of(32, a=["x"] * 10, b=["y"] * 20).take(takers=2)) == 10


def test_a_batch_that_others_have_a_share_of_is_not_full() -> None:
    queue = queue_of(32, a=["x"] * 20)
    queue.take(takers=2)
    assert not queue.full
    queue = queue_of(32, a=["x"] * 80)
    queue.take(takers=2)
    assert queue.full


def test_a_leader_begins_with_the_bucket_in_which_it_has_most_to_do() -> None:
    queue = queue_of(8, a=["x", "y", "x", "y", "y"])
    assert [queue.take(), queue.take()] == [[("a", 1), ("a", 3), ("a", 4)], [("a", 0), ("a", 2)]]
    queue.add("b", "x", 0, 2)
    queue.add("b", "y", 1, 3)
    assert [queue.take(), queue.take()] == [[("b", 1)], [("b", 0)]]


def test_an_owner_is_not_parted_where_the_batch_is_nearly_full_without_it() -> None:
    queue = queue_of(8, a=["x"] * 3, b=["x"] * 3, c=["x"] * 3)
    assert [owners_of(queue.take()) for _ in range(2)] == [["a"] * 3 + ["b"] * 3, ["c"] * 3]


def test_an_owner_is_parted_where_the_batch_would_be_half_empty_without_it() -> None:
    assert owners_of(queue_of(8, a=["x"] * 5, b=["x"] * 5).take()) == ["a"] * 5 + ["b"] * 3


def test_an_owner_with_more_than_a_batch_fills_what_is_nearly_full() -> None:
    queue = queue_of(100, a=["x"] * 6, b=["x"] * 20)
    assert owners_of(queue.take(lambda _: 8)) == ["a"] * 6 + ["b"] * 2


def test_an_owner_is_not_parted_where_its_batch_would_cost_too_much() -> None:
    queue = queue_of(100, max_cost=8, a=["x"] * 3, b=["x"] * 3, c=["x"] * 3)
    assert owners_of(queue.take()) == ["a"] * 3 + ["b"] * 3
    assert queue.full


def test_a_batch_ends_where_it_would_cost_too_much() -> None:
    queue = queue_of(8, max_cost=2.5, a=["x"] * 5)
    assert [len(queue.take()) for _ in range(4)] == [2, 2, 1, 0]


def test_an_item_that_costs_more_than_a_batch_may_runs_alone() -> None:
    queue = queue_of(8, max_cost=2)
    for item in range(2):
        queue.add("a", "x", item, 18)
    assert [queue.take(), queue.take()] == [[("a", 0)], [("a", 1)]]


def test_who_arrives_while_a_batch_runs_is_ahead_of_its_leader() -> None:
    queue = queue_of(8, big=["x"] * 100)
    queue.take()
    queue.add("small", "y", 0, 1)
    assert queue.take() == [("small", 0)]


def test_a_cheap_owner_has_all_its_turns_before_the_next_of_a_dear_one() -> None:
    queue = queue_of(8, max_cost=40)
    for item in range(100):
        queue.add("dear", "x", item, 18)
    queue.take()
    for item, bucket in enumerate("abcd"):
        queue.add("cheap", bucket, item, 6)
    assert [owners_of(queue.take())[0] for _ in range(6)] == ["cheap"] * 4 + ["dear"] * 2


def test_owners_of_dear_and_of_cheap_items_get_the_same_share() -> None:
    queue = queue_of(8, max_cost=40)
    for item in range(1000):
        queue.add("dear", "x", item, 18)
        queue.add("cheap", "y", item, 1)
    served = {"dear": 0, "cheap": 0}
    for _ in range(100):
        for owner in owners_of(queue.take()):
            served[owner] += {"dear": 18, "cheap": 1}[owner]
    assert served["dear"] == pytest.approx(served["cheap"], abs=80)


@pytest.mark.parametrize("cost", [1, 0.1, 30])
def test_newcomers_do_not_starve_an_old_owner(cost: float) -> None:
    queue = queue_of(1, max_cost=40, old=["x"] * 3)
    queue.take()
    spent = 0.0
    while True:
        queue.add(f"new{spent}", "y", 0, cost)
        if owners_of(queue.take()) == ["old"]:
            break
        spent += cost
        assert spent < 200


def test_room_that_was_given_away_costs_one_batch_at_most() -> None:
    queue = queue_of(8, max_cost=8)
    for item in range(1000):
        queue.add("big", "x", item, 1)
        queue.add("big", "z", item, 1)
    for turn in range(50):  # each with room for seven of the big owner's
        queue.add(f"small{turn}", "x", 0, 1)
        queue.take()
    passed_over = 0
    while "big" not in owners_of(feed(queue)):
        passed_over += 1
    assert passed_over <= 2


def feed(queue: FairQueue[str, int]) -> list[tuple[str, int]]:
    """The next batch, while another owner never has too little to do."""
    for item in range(8):
        queue.add("steady", "y", item, 1)
    return queue.take()


def test_a_discarded_owner_is_gone_even_if_it_led() -> None:
    queue = queue_of(8, a=["x"] * 4, b=["x"])
    queue.add("c", "x", 0, 1)
    queue.discard("a")
    queue.discard("unknown")
    assert owners_of(queue.take()) == ["b", "c"]
    queue.discard("b")
    assert queue.take() == []


Items = list[tuple[str, int]]


@given(
    st.lists(st.lists(st.tuples(st.sampled_from("xyz"), st.integers(1, 9)), min_size=1, max_size=12), max_size=5),
    st.integers(1, 5),
    st.integers(1, 20),
)
def test_everything_is_served_once_in_batches_that_may_be(owners: list[Items], limit: int, max_cost: int) -> None:
    queue = filled(owners, limit, max_cost)
    served: list[tuple[int, int]] = []
    while batch := queue.take():
        assert len(batch) <= limit
        assert sum(owners[owner][index][1] for owner, index in batch) <= max_cost or len(batch) == 1
        assert len({owners[owner][index][0] for owner, index in batch}) == 1
        served += batch
    assert sorted(served) == [(owner, index) for owner, items in enumerate(owners) for index in range(len(items))]


@given(
    st.lists(st.lists(st.tuples(st.sampled_from("xyz"), st.integers(1, 9)), min_size=1, max_size=12), max_size=5),
    st.integers(1, 5),
)
def test_nobody_waits_longer_than_by_even_shares(owners: list[Items], limit: int) -> None:
    # Where each has one portion: before an owner is done, only those run who want no more than it does.
    max_cost = 12 * 9
    queue = filled(owners, limit, max_cost)
    batches: list[set[int]] = []
    while batch := queue.take():
        batches.append({owner for owner, _ in batch})
    wants = [sum(cost for _, cost in items) for items in owners]
    alone = [batches_alone(items, limit) for items in owners]
    for owner in range(len(owners)):
        done = max(turn for turn, inside in enumerate(batches, start=1) if owner in inside)
        assert done <= sum(alone[other] for other in range(len(owners)) if wants[other] <= wants[owner])


def filled(owners: list[Items], limit: int, max_cost: int) -> FairQueue[int, int]:
    queue: FairQueue[int, int] = FairQueue(max_items=limit, max_cost=max_cost)
    for owner, items in enumerate(owners):
        for index, (bucket, cost) in enumerate(items):
            queue.add(owner, bucket, index, cost)
    return queue


def batches_alone(items: Items, limit: int) -> int:
    """Batches of an owner who has the queue for itself, where cost is no limit."""
    return sum(math.ceil(count / limit) for count in Counter(bucket for bucket, _ in items).values())
