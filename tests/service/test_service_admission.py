"""How much may wait, and when to come again, by a clock that the test moves."""

import contextlib
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_doubles import Clock

from service.admission import Admission, DrainRate, OverloadedError, Reserve


def rate_of(*batches: tuple[float, float], memory: float = 1e9) -> DrainRate:
    """A rate that has seen batches of (seconds, cost)."""
    rate = DrainRate(memory=memory)
    for seconds, cost in batches:
        rate.learn("bucket", cost, seconds)
    return rate


def refusal(admission: Admission, cost: float) -> int:
    with pytest.raises(OverloadedError) as caught:
        admission.admit(cost)
    return caught.value.retry_after


def test_the_rate_is_of_the_time_at_work() -> None:
    assert rate_of((1, 10), (3, 10)).seconds(10) == pytest.approx(2)


def test_a_batch_that_finishes_nothing_counts_by_its_time() -> None:
    assert rate_of((1, 10), (1, 0)).seconds(10) == pytest.approx(2)


def test_the_time_of_a_worker_that_died_says_nothing() -> None:
    rate = DrainRate()
    for seconds, lost in ((1, False), (20, True)):
        rate.learn("bucket", 0 if lost else 10, seconds, lost=lost)
    assert rate.seconds(10) == pytest.approx(1)


def test_recent_work_weighs_more() -> None:
    rate = rate_of(*[(1, 1)] * 50, *[(1, 10)] * 20, memory=5)
    assert rate.seconds(10) == pytest.approx(1, rel=0.2)


def test_small_batches_count_until_there_are_others() -> None:
    rate = DrainRate()
    foretold = []
    for cost, small in ((1, True), (10, False), (1, True)):
        rate.learn("bucket", cost, 1, small=small)
        foretold.append(rate.seconds(10))
    assert foretold == pytest.approx([10, 1, 1])


def test_what_a_bucket_takes_counts_by_its_share_of_the_work() -> None:
    rate = DrainRate(memory=1e9)
    for _ in range(2):
        rate.learn("dear", 10, 2)
    for seconds in (1, 5):
        rate.learn("cheap", 1, seconds)
    assert rate.seconds(11) == pytest.approx(2 + 3)


def test_small_batches_of_one_bucket_count_beside_others_of_another() -> None:
    """A request by itself has both; were only the latter known, one that comes next would seem to be too late."""
    rate = DrainRate()
    for _ in range(20):
        rate.learn("dear", 10, 2, small=True)
        rate.learn("cheap", 1, 1)
    assert rate.seconds(11) == pytest.approx(3, rel=0.05)


def test_what_small_batches_do_counts_even_where_their_time_does_not() -> None:
    rate = DrainRate()
    rate.learn("dear", 100, 10)
    for _ in range(50):
        rate.learn("dear", 10, 2, small=True)
        rate.learn("cheap", 1, 1)
    assert rate.seconds(11) == pytest.approx(1 + 1, rel=0.1)


def test_workers_that_are_there_share_what_is_to_be_done() -> None:
    there = 2
    rate = DrainRate(lambda: there)
    rate.learn("bucket", 10, 5)
    assert (rate.seconds(10), rate.cost(5), rate.of_one(5)) == (2.5, 20, 10)
    there = 0  # one will come back
    assert (rate.seconds(10), rate.cost(5), rate.of_one(5)) == (5, 10, 10)


def test_nothing_is_foretold_before_anything_was_measured() -> None:
    assert rate_of().seconds(10) == 0


def test_nothing_is_foretold_where_the_clock_did_not_move() -> None:
    rate = rate_of((0.0, 5))
    assert (rate.seconds(1), rate.cost(1)) == (0, math.inf)


def test_cost_is_admitted_up_to_the_limit() -> None:
    admission = Admission(10, rate_of(), Clock())
    admission.admit(6)
    admission.admit(4)
    assert refusal(admission, 0.1) == 1
    assert admission.backlog == 10


def test_what_is_finished_or_released_makes_room() -> None:
    admission = Admission(10, rate_of(), Clock())
    one, two = admission.admit(6), admission.admit(4)
    one.finish(2)
    admission.admit(2)
    admission.release(two)
    admission.release(two)
    admission.admit(4)
    assert admission.backlog == 10


@pytest.mark.parametrize(("cost", "seconds"), [(1, 1), (5, 3), (100, 5)])
def test_a_refused_request_hears_when_there_will_be_room(cost: float, seconds: int) -> None:
    admission = Admission(10, rate_of((1, 2)), Clock())
    admission.admit(10)
    assert refusal(admission, cost) == seconds


def test_nobody_is_sent_away_for_ever() -> None:
    admission = Admission(10, rate_of((1000, 0.001)), Clock())
    admission.admit(10)
    assert refusal(admission, 1) == 300


def test_a_request_of_more_than_the_limit_is_taken_alone() -> None:
    admission = Admission(10, rate_of(), Clock())
    large = admission.admit(100)
    assert refusal(admission, 1) == 1
    admission.release(large)
    small = admission.admit(1)
    assert refusal(admission, 100) == 1
    admission.release(small)
    admission.admit(100)


@pytest.mark.parametrize(("ahead", "admitted"), [(0, True), (3, True), (4, True), (5, False), (50, False)])
def test_what_would_be_answered_too_late_is_refused(ahead: float, admitted: bool) -> None:
    admission = Admission(1000, rate_of((1, 2)), Clock(), reserve=0)  # in 3 s so much as costs 6
    if admitted:
        admission.admit(2, ahead=ahead, within=3)
    else:
        with pytest.raises(OverloadedError):
            admission.admit(2, ahead=ahead, within=3)
    assert admission.backlog == (2 if admitted else 0)


def test_it_hears_when_it_would_be_in_time() -> None:
    admission = Admission(1000, rate_of((1, 2)), Clock(), reserve=0)
    with pytest.raises(OverloadedError) as caught:
        admission.check(2, ahead=24, within=3)
    assert caught.value.retry_after == 10


def test_a_request_that_nobody_is_ahead_of_is_taken_however_long_it_may_take() -> None:
    Admission(1000, rate_of((1, 2)), Clock(), reserve=0).admit(100, ahead=0, within=0.001)


def test_no_deadline_is_missed_before_anything_was_measured() -> None:
    Admission(1000, rate_of(), Clock(), reserve=0).admit(1, ahead=500, within=0.001)


WITHIN = 0.01
"""Seconds that requests have: so few that nothing is forgotten meanwhile."""


def served(
    admission: Admission, clock: Clock, seconds: float, *, ahead: float | None = None, finished: bool = True
) -> None:
    """One request that ends after so many seconds; if not told otherwise, as much is before it as may be."""
    ticket = admission.admit(2, ahead=most_ahead(admission) if ahead is None else ahead, within=WITHIN)
    clock.now += seconds
    if finished:
        ticket.finish(2)
    admission.release(ticket)


def most_ahead(admission: Admission) -> int:
    """Most cost before a request of cost 2 that is taken."""
    ahead = 0
    while True:
        try:
            admission.check(2, ahead=ahead, within=WITHIN)
        except OverloadedError:
            return ahead - 1
        ahead += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    """Of which the rate is 20 in the time of a request."""
    return Admission(1000, rate_of((1, 2000)), clock, reserve=0)


@pytest.fixture
def wary(admission: Admission, clock: Clock) -> Admission:
    """One that has seen late requests, and keeps back a fifth of the time: 4 of cost."""
    for _ in range(4):
        served(admission, clock, WITHIN)
    assert most_ahead(admission) == 14
    return admission


def test_all_of_the_time_is_used_while_nobody_is_late(admission: Admission, clock: Clock) -> None:
    for _ in range(100):
        served(admission, clock, 0.98 * WITHIN)
    assert most_ahead(admission) == 18


def test_time_is_kept_back_after_requests_were_given_up(admission: Admission, clock: Clock) -> None:
    for _ in range(4):
        served(admission, clock, WITHIN, finished=False)
    assert most_ahead(admission) == 14


@pytest.mark.parametrize(("reserve", "ahead"), [(0.1, 16), (0.2, 14)])
def test_some_time_is_kept_back_though_nobody_is_late(clock: Clock, reserve: float, ahead: int) -> None:
    admission = Admission(1000, rate_of((1, 2000)), clock, reserve=reserve)
    for _ in range(100):
        served(admission, clock, 0.0)
    assert most_ahead(admission) == ahead
    for _ in range(4):
        served(admission, clock, WITHIN)
    assert most_ahead(admission) == ahead - 4


def test_those_who_are_late_together_are_late_for_one_cause(admission: Admission, clock: Clock) -> None:
    for _ in range(2):
        tickets = [admission.admit(2, ahead=most_ahead(admission), within=WITHIN) for _ in range(8)]
        clock.now += WITHIN
        for ticket in tickets:
            admission.release(ticket)
    assert most_ahead(admission) == 16


def test_it_is_used_again_when_they_are_in_time(wary: Admission, clock: Clock) -> None:
    for _ in range(2100):
        served(wary, clock, 0.0)
    assert most_ahead(wary) == 18


def test_it_is_used_again_when_nothing_is_heard_for_minutes(wary: Admission, clock: Clock) -> None:
    clock.now += 60
    assert most_ahead(wary) == 16
    clock.now += 540
    assert most_ahead(wary) == 17


def test_at_most_half_of_the_time_is_kept_back(admission: Admission, clock: Clock) -> None:
    for _ in range(100):
        served(admission, clock, 0.3)
    assert most_ahead(admission) == 8


@given(seed=st.integers(0, 2**32), spread=st.floats(0.05, 0.4))
def test_few_are_late_however_long_work_takes(seed: int, spread: float) -> None:
    """Each takes as long as was left to it, or up to `spread` longer or shorter: one in 500 is late in the long run."""
    delays, reserve, late = random.Random(seed), Reserve(Clock()), 0
    for _ in range(4000):
        one = reserve.left(1) * (1 + delays.uniform(-spread, spread)) > 1
        reserve.learn(one, 0)
        late += one
    assert late <= 4000 / 500 + 0.5 / 0.05 + 1


def test_a_request_that_was_given_up_early_says_nothing(wary: Admission, clock: Clock) -> None:
    for _ in range(2100):
        served(wary, clock, 0.0, finished=False)
    assert most_ahead(wary) == 14


@pytest.mark.parametrize("ahead", [0, 8])
def test_a_request_that_would_be_taken_whatever_is_kept_back_says_nothing(
    admission: Admission, clock: Clock, ahead: float
) -> None:
    for _ in range(100):
        served(admission, clock, 1, ahead=ahead)
    assert most_ahead(admission) == 18


def test_a_lone_request_of_less_time_than_its_own_work_takes_says_nothing(admission: Admission, clock: Clock) -> None:
    for _ in range(100):
        ticket = admission.admit(30, within=WITHIN)
        clock.now += WITHIN
        admission.release(ticket)
    assert most_ahead(admission) == 18


def test_a_request_of_before_anything_was_measured_says_nothing(clock: Clock) -> None:
    admission = Admission(1000, rate_of(), clock, reserve=0)
    for _ in range(100):
        served(admission, clock, 60, ahead=500)
    assert admission._reserve.left(10) == 10


def test_a_request_without_a_deadline_says_nothing(wary: Admission) -> None:
    for _ in range(2100):
        ticket = wary.admit(2, ahead=18)
        ticket.finish(2)
        wary.release(ticket)
    assert most_ahead(wary) == 14


def test_a_request_in_time_says_so_whatever_its_units_cost(wary: Admission) -> None:
    for _ in range(2100):
        ticket = wary.admit(1, ahead=13, within=WITHIN)
        for _ in range(10):
            ticket.finish(0.1)  # ten times that, one after the other, is not quite 1
        wary.release(ticket)
    assert most_ahead(wary) == 18


def test_a_request_with_more_to_do_than_was_planned_says_nothing(admission: Admission, clock: Clock) -> None:
    for _ in range(100):
        ticket = admission.admit(2, ahead=18, within=WITHIN)
        clock.now += 60
        ticket.prolong()
        ticket.finish(2)
        admission.release(ticket)
    assert most_ahead(admission) == 18


@pytest.mark.parametrize(("needed", "refused"), [(0.0065, False), (0.007, True)])
def test_who_waits_is_refused_when_too_little_is_left_of_its_time(clock: Clock, needed: float, refused: bool) -> None:
    admission = Admission(1000, rate_of((1, 2000)), clock, reserve=0.1)
    ticket = admission.admit(2, ahead=5, within=WITHIN)
    clock.now += 0.0028
    with pytest.raises(OverloadedError) if refused else contextlib.nullcontext():
        admission.check_still(ticket, needed)


def test_who_is_refused_after_a_while_hears_how_late_it_would_be(admission: Admission, clock: Clock) -> None:
    ticket = admission.admit(2, ahead=5, within=WITHIN)
    clock.now += 2.5
    with pytest.raises(OverloadedError) as caught:
        admission.check_still(ticket, 0.0)
    assert caught.value.retry_after == 3


def test_who_was_refused_after_a_while_says_nothing(admission: Admission, clock: Clock) -> None:
    ticket = admission.admit(2, ahead=most_ahead(admission), within=WITHIN)
    clock.now += 0.9 * WITHIN
    with pytest.raises(OverloadedError):
        admission.check_still(ticket, WITHIN)
    admission.release(ticket)
    assert most_ahead(admission) == 18
