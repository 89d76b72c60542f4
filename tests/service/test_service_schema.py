"""What schemathesis makes of the description of the interface, asked of the application in this process."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.python import asgi
from schemathesis.specs.openapi.checks import positive_data_acceptance
from service_doubles import in_thread, tiny_scorer

from service import Settings, create_app

EXAMPLES = 20


@pytest.fixture
def interface() -> Iterator[Any]:
    """The description of a running application, by which cases find their way to it."""
    app: Any = create_app(Settings(max_batch=8), load=lambda _: tiny_scorer(), launch=in_thread)
    with asgi.get_client(app) as client:
        while client.get("http://testserver/readyz").status_code != 200:
            time.sleep(0.002)
        yield schemathesis.openapi.from_asgi("/openapi.json", app)
    asgi.shutdown_lifespans()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_gets_an_answer_that_is_not_described(interface: Any, mode: GenerationMode) -> None:
    operations = [result.ok() for result in interface.get_all_operations()]
    assert {operation.label for operation in operations} >= {"GET /healthz", "GET /readyz", "POST /score"}
    for operation in operations:
        if mode == GenerationMode.NEGATIVE and not operation.body:
            continue  # there is nothing about it that could be wrong

        @settings(max_examples=EXAMPLES, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            # Bytes may fit the description, and yet be no image.
            case.call_and_validate(excluded_checks=[positive_data_acceptance])

        ask()
