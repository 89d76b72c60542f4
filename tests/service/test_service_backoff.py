"""Delays between restarts, by a clock that the test moves."""

from service_doubles import Clock

from service.backoff import Backoff


def test_delays_double_up_to_the_longest() -> None:
    backoff = Backoff(Clock(), first=0.5, most=3)
    assert [backoff.failed() for _ in range(5)] == [0.5, 1, 2, 3, 3]


def test_who_lasted_begins_anew() -> None:
    clock = Clock()
    backoff = Backoff(clock, first=1, lasting=10)
    assert backoff.failed() == 1
    backoff.up()
    clock.now += 10
    assert backoff.failed() == 1


def test_who_was_up_for_a_short_time_is_not_forgiven() -> None:
    clock = Clock()
    backoff = Backoff(clock, first=1, lasting=10)
    for delay in (1, 2, 4):
        backoff.up()
        clock.now += 9
        assert backoff.failed() == delay


def test_time_spent_down_does_not_count_as_lasting() -> None:
    clock = Clock()
    backoff = Backoff(clock, first=1, lasting=10)
    backoff.up()
    assert backoff.failed() == 1
    clock.now += 100
    assert backoff.failed() == 2
