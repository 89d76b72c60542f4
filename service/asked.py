"""What a request may ask of a model, whichever way it is put."""

from pcdm_core.scoring import Fidelity, FidelityName, named_fidelity
from service.problems import ProblemError
from service.served_model import ServedModel

__all__ = ["admit"]


def admit(model: ServedModel, fidelity: FidelityName, *, images: int, most: int, until: float) -> Fidelity:
    """The settings of a fidelity of the model, if so many images may be scored at them now, and until then.

    Raises:
        ProblemError: The 422 that names those fidelities that it has, or the 413 for more than `most` images.
        OverloadedError: Too much work waits already, or too much for an answer in time.
    """
    try:
        settings = named_fidelity(model.scorer.fidelities, fidelity, model=model.name)
    except ValueError as error:
        raise ProblemError(422, "no-such-fidelity", str(error)) from error
    if images > most:
        detail = f"{images} images are more than the limit of {most} in one request"
        raise ProblemError(413, "too-many-images", detail)
    model.batcher.check_room(images, settings, until)
    return settings
