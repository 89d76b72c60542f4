"""What a request may ask of a model, whichever way it is put."""

from dataclasses import dataclass

from pcdm_core.scoring import Fidelity, FidelityName, named_detector, named_fidelity
from service.problems import ProblemError
from service.served_model import ServedModel, ServedScorer

__all__ = ["Asked", "admit"]


@dataclass(frozen=True)
class Asked:
    """What to compute, and who judges.

    Attributes:
        scorer: The model's, with the detector that was asked for.
        fidelity: Settings of the likelihood.
    """

    scorer: ServedScorer
    fidelity: Fidelity


def admit(
    model: ServedModel,
    fidelity: FidelityName,
    detector: str | None,
    *,
    images: int,
    most: int,
    until: float,
    room_for: int = 0,
) -> Asked:
    """What is asked for by these names, if so many images may be scored in that way now, and until then.

    Args:
        model: Of the request.
        fidelity: Name of one.
        detector: Name of one that the model is calibrated with; None for its default.
        images: In the request.
        most: In any request.
        until: When the answer should be ready, by the event loop's clock.
        room_for: Images for which there was room a moment ago: it is not asked again for them.

    Raises:
        ProblemError: The 422 that names the fidelities, or detectors, that it has, or the 413 for more than `most`
            images.
        OverloadedError: Too much work waits already, or too much for an answer in time.
    """
    scorer = model.scorer if detector is None else _judge(model, detector)
    try:
        settings = named_fidelity(scorer.fidelities, fidelity, model=model.name)
    except ValueError as error:
        raise ProblemError(422, "no-such-fidelity", str(error)) from error
    if images > most:
        detail = f"{images} images are more than the limit of {most} in one request"
        raise ProblemError(413, "too-many-images", detail)
    if images > room_for:
        model.batcher.check_room(images, settings, until, scorer)
    return Asked(scorer, settings)


def _judge(model: ServedModel, detector: str) -> ServedScorer:
    try:
        return named_detector(model.detectors, detector, model=model.name)
    except ValueError as error:
        raise ProblemError(422, "no-such-detector", str(error)) from error
