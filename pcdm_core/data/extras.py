"""Optional packages, loaded when first needed."""

import importlib
from typing import Any

__all__ = ["load_extra"]


def load_extra(module: str, what: str) -> Any:
    """Import a module of the `data` extra.

    Args:
        module: What to import.
        what: What it is needed for, as the beginning of a sentence.

    Raises:
        ModuleNotFoundError: The module is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        message = f'{what} needs the package {package}; install it with: pip install "pcdm[data]"'
        raise ModuleNotFoundError(message, name=package) from error
