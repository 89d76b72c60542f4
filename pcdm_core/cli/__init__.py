"""The `pcdm` command."""

from __future__ import annotations

from pcdm_core.cli.main import app

__all__ = ["app"]
