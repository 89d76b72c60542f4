"""The HTTP face of a scorer: uploads in, scores out. Nothing here knows of networks."""

from service.app import create_app
from service.settings import Settings

__all__ = ["Settings", "create_app"]
