"""What a request may ask of a model, whichever way it is put."""

from pcdm_core.scoring import Fidelity, FidelityName, named_fidelity
from service.problems import ProblemError
from service.served_model import ServedModel

__all__ = ["asked_fidelity", "refuse_many"]


def asked_fidelity(model: ServedModel, name: FidelityName) -> Fidelity:
    """The settings of a fidelity of the model.

    Raises:
        ProblemError: The 422 that names those that it has.
    """
    try:
        return named_fidelity(model.scorer.fidelities, name, model=model.name)
    except ValueError as error:
        raise ProblemError(422, "no-such-fidelity", str(error)) from error


def refuse_many(images: int, most: int) -> None:
    """Raise the 413 for more images than one request may have.

    Raises:
        ProblemError: That.
    """
    if images > most:
        detail = f"{images} images are more than the limit of {most} in one request"
        raise ProblemError(413, "too-many-images", detail)
