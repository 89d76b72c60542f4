"""What every answer tells a browser not to do."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["SECURITY_HEADERS"]

# No page at all: whatever an attacker gets a browser to open from here loads nothing and is framed by nobody.
_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

SECURITY_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Cache-Control": "no-store",
        "Content-Security-Policy": _POLICY,
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
)
"""Headers of every answer that does not choose others itself. What is said of somebody's pictures, no cache keeps."""
