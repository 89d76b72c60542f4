"""Requests that are judged together: whose scores are whose, and whose failure is whose."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from service_doubles import ONE_CALL, SteeredScorer, images_of, tiny_scorer

from pcdm_core.scoring import Score, Unit, UnitResult
from service.combiner import Combiner


class Counting(SteeredScorer):
    """Refuses an image of 13, and notes how many images came at once, and in which thread."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []
        self.threads: set[int] = set()

    def combine(self, units: Sequence[Unit], results: Sequence[UnitResult]) -> list[Score]:
        self.calls.append(len({unit.index for unit in units}))
        self.threads.add(threading.get_ident())
        if any(result.values[0] == 13 for result in results):
            raise FloatingPointError("unlucky on purpose")
        return super().combine(units, results)


def finished(scorer: SteeredScorer, *values: int) -> tuple[list[Unit], list[UnitResult]]:
    return scorer.plan(images_of(*values), ONE_CALL), [UnitResult(np.array([float(value)])) for value in values]


def bits(scores: list[Score]) -> list[float]:
    return [score.bits_per_dim for score in scores]


async def test_requests_of_one_turn_share_a_call_and_each_gets_its_own() -> None:
    scorer = Counting()
    combiner = Combiner(scorer)
    answers = await asyncio.gather(*(combiner.combine(*finished(scorer, *own)) for own in ([1], [2, 3], [4])))
    assert [bits(answer) for answer in answers] == [[1], [2, 3], [4]]
    assert scorer.calls == [4]
    assert scorer.threads == {threading.get_ident()}


async def test_many_images_do_not_hold_the_event_loop() -> None:
    scorer = Counting()
    combiner = Combiner(scorer)
    assert bits(await combiner.combine(*finished(scorer, *range(20, 40)))) == list(range(20, 40))
    assert threading.get_ident() not in scorer.threads


@pytest.mark.parametrize("more", [1, 20])
async def test_a_plan_that_fails_fails_alone(more: int) -> None:
    scorer = Counting()
    combiner = Combiner(scorer)
    sound = [[index] for index in range(20, 20 + more)]
    plans = [*sound, [7, 13], [9]]
    *good, bad, last = await asyncio.gather(
        *(combiner.combine(*finished(scorer, *own)) for own in plans), return_exceptions=True
    )
    assert isinstance(bad, FloatingPointError)
    assert [bits(one) for one in [*good, last] if not isinstance(one, BaseException)] == [*sound, [9]]


async def test_who_no_longer_waits_is_left_out() -> None:
    scorer = Counting()
    combiner = Combiner(scorer)
    gone, stays = (asyncio.create_task(combiner.combine(*finished(scorer, value))) for value in (1, 2))
    await asyncio.sleep(0)
    gone.cancel()
    assert bits(await stays) == [2]
    assert scorer.calls == [1]


async def test_a_wrong_number_of_scores_is_told() -> None:
    scorer = SteeredScorer()
    scorer.combine = lambda units, results: []  # type: ignore[method-assign]  # noqa: ARG005
    with pytest.raises(RuntimeError, match="0 scores for 1 images"):
        await Combiner(scorer).combine(*finished(scorer, 1))


async def test_what_is_combined_together_is_what_each_is_alone() -> None:
    scorer = tiny_scorer()
    random = np.random.default_rng(0)
    plans = [
        scorer.plan(random.integers(256, size=(count, 3, 8, 8), dtype=np.uint8), ONE_CALL) for count in (1, 3, 1, 2)
    ]
    done = [(units, [scorer.run([unit])[0] for unit in units]) for units in plans]
    combiner = Combiner(scorer)
    together = await asyncio.gather(*(combiner.combine(*one) for one in done))
    alone = [scorer.combine(*one) for one in done]
    assert [[score.terms for score in scores] for scores in together] == [
        [score.terms for score in scores] for scores in alone
    ]
