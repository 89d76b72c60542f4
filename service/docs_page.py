"""The page of the interface: Swagger UI from an installed package, so that no browser asks a stranger for scripts."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Final

import fastapi_offline
from fastapi import FastAPI
from fastapi.exceptions import HTTPException
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response

__all__ = ["install_docs_page"]

_FOLDER: Final = Path(fastapi_offline.__file__).parent / "static"
_TYPES: Final = {
    "favicon.png": "image/png",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}
_INLINE_SCRIPT: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def install_docs_page(app: FastAPI) -> None:
    """Serve `/docs`, and what it loads below it."""
    # Relative to the page, wherever a proxy puts it.
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon.png",
    )
    policy = _policy(bytes(page.body))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page.body, headers={"Content-Security-Policy": policy})

    @app.get("/docs/{name}", include_in_schema=False)
    def part(name: str) -> Response:
        if name not in _TYPES:
            raise HTTPException(404, "Not Found")
        return Response((_FOLDER / name).read_bytes(), media_type=_TYPES[name])


def _policy(page: bytes) -> str:
    """Allow what the page is made of: files from here, the one script within it, and styles that the scripts set."""
    hashes = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in _INLINE_SCRIPT.findall(page)]
    scripts = " ".join(["'self'", *(f"'sha256-{digest}'" for digest in hashes)])
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
