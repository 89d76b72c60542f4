"""The one error that says why an image is refused."""

__all__ = ["ImageError"]


class ImageError(ValueError):
    """An image is refused for a defined reason.

    Attributes:
        name: The file or source the image came from, as the user knows it.
        reason: A short stable slug, safe to branch on (`"truncated"`, `"animated"`, ...); the full list is in
            `pcdm_core.data.decode` and `pcdm_core.data.preprocess`.
        detail: The sentence for a reader, without the name.
    """

    def __init__(self, name: str, reason: str, detail: str) -> None:
        super().__init__(name, reason, detail)
        self.name = name
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}"
