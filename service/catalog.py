"""Which models a deployment serves, and by which names."""

import os
from pathlib import Path

__all__ = ["model_folders"]

_CONFIG = "config.json"


def model_folders(models: str, model: Path) -> dict[str, Path]:
    """The folders of the models to serve, by name; the first is the default.

    Args:
        models: Comma-separated: each a model's folder, `name=folder`, or a folder that holds one folder a model. A
            model without a name is called as its folder.
        model: The only model, where `models` is empty.

    Returns:
        At least one. A folder that holds no model is among them: what is wrong with it is told when it is loaded.

    Raises:
        ValueError: An entry is empty, two models have the same name, or one has a name that fits in no path.
    """
    found: dict[str, Path] = {}
    for name, folder in _entries(models) if models.strip() else [(_name(model), model)]:
        if not name or "/" in name:
            raise ValueError(f"{name!r} is no name for the model in {folder}: write name=folder, without / in the name")
        if name in found:
            raise ValueError(f"two models are called {name} ({found[name]} and {folder}): write name=folder")
        found[name] = folder
    return found


def _entries(models: str) -> list[tuple[str, Path]]:
    entries: list[tuple[str, Path]] = []
    for entry in models.split(","):
        before, equals, after = entry.strip().partition("=")
        place = after.strip() if equals else before
        if not place:
            raise ValueError(
                f"an entry of {models!r} names no folder: write folder, or name=folder, separated by commas"
            )
        folder = Path(place)
        if equals:
            entries.append((before.strip(), folder))
        else:
            held = _models_within(folder)
            entries += [(_name(one), one) for one in held or [folder]]
    return entries


def _models_within(folder: Path) -> list[Path]:
    """The models of a repository, by name; nothing for a folder that is a model itself."""
    if (folder / _CONFIG).exists() or not folder.is_dir():
        return []
    return sorted(one for one in folder.iterdir() if (one / _CONFIG).exists())


def _name(folder: Path) -> str:
    # Not resolved: a link may lead to another folder after a reload, and keeps its own name.
    return Path(os.path.abspath(folder)).name
