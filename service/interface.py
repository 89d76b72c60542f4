"""What OpenAPI says of the application."""

from typing import Any

from fastapi import FastAPI

__all__ = ["tell_problems_alone"]


def tell_problems_alone(app: FastAPI) -> None:
    """Leave out the answer that FastAPI describes at every route with a parameter, and that is never given here.

    Where a request can be a misfit the route itself describes the 422, as a problem.
    """
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = describe()
            for operations in document["paths"].values():
                for operation in operations.values():
                    misfit = operation["responses"].get("422", {})
                    if "application/json" in misfit.get("content", {}):
                        del operation["responses"]["422"]
            for name in ("HTTPValidationError", "ValidationError"):
                document["components"]["schemas"].pop(name, None)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
