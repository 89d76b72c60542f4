"""How the log is written: for people, or one JSON document a line. Only what is named here gets into it."""

import copy
import json
import logging
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal

import uvicorn.config

__all__ = ["JsonFormatter", "LogFormat", "current_request", "fields", "log_config"]

LogFormat = Literal["json", "text"]

current_request: Final[ContextVar[Mapping[str, Any] | None]] = ContextVar("current_request", default=None)
"""State of the request that is being handled, which comes to have its `request_id` and `trace_id`."""

_FIELDS: Final = "pcdm_fields"


def fields(**values: str | float | None) -> dict[str, Any]:
    """What a record has besides its message, as the `extra` of a call of a logger."""
    return {_FIELDS: values}


class JsonFormatter(logging.Formatter):
    """One line for each record, whatever it holds.

    A library may hang anything on a record: only what was given by `fields` is written.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as a JSON document without a line break."""
        request = current_request.get() or {}
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        document = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request.get("request_id"),
            "trace_id": request.get("trace_id"),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document)


def log_config(form: LogFormat) -> dict[str, Any]:
    """What `logging.config.dictConfig` takes: everything on standard error, in one form.

    Other packages are heard from a warning on. Requests are logged by the service itself, by route and without their
    query, so the server's own lines about them are left out.
    """
    config: dict[str, Any] = copy.deepcopy(uvicorn.config.LOGGING_CONFIG)
    own = {name: {"level": "INFO"} for name in ("pcdm_core", "service")}
    if form == "json":
        config["formatters"] = {"default": {"()": JsonFormatter}}
    config["handlers"] = {"default": config["handlers"]["default"]}
    config["root"] = {"level": "WARNING", "handlers": ["default"]}
    config["loggers"] = own | {
        "uvicorn": {"level": "INFO", "handlers": [], "propagate": True},
        "uvicorn.access": {"level": "WARNING", "handlers": [], "propagate": False},
    }
    return config
