"""Requests drawn from the OpenAPI document by a tool that knows only it: no server error, no odd answer.

The long form (`make faults`) draws forty times as many.
"""

import json
import os

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import APIOperation, Case, GenerationMode

from support.desk import Desk

ENGINES = ("sqlite",)
"""What is attacked is the reading of bodies; databases have no part in it."""

EXAMPLES = 400 if os.environ.get("BURSAR_TEST_LONG") == "1" else 10
QUIET = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

pytestmark = pytest.mark.long


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_drawn_request_meets_a_server_error(desk: Desk, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_dict(desk.get("/openapi.json").json())
    drawn = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        drawn += _draw(desk, operation, mode)
    assert drawn > EXAMPLES * 5
    assert desk.violations() == ()


def _draw(desk: Desk, operation: APIOperation, mode: GenerationMode) -> int:
    """Send some requests of one operation; return how many there were."""
    if operation.path == "/metrics":
        return 0
    documented = {int(status) for status in operation.definition.raw["responses"] if status.isdigit()}
    statuses: list[int] = []

    @QUIET
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Case) -> None:
        request = case.as_transport_kwargs(base_url="http://bursar")
        headers = {
            name: value for name, value in request.pop("headers").items() if name.lower() != "authorization"
        }
        options = {
            name: request[name] for name in ("params", "json", "content") if request.get(name) is not None
        }
        if request.get("data") is not None:
            options["content"] = request["data"]
        answer = desk.send(case.method, request["url"], headers=headers, **options)
        # 501: what needs a payment provider says that there is none.
        assert answer.status_code < 500 or answer.status_code == 501, (case.method, request, answer.text)
        assert answer.status_code in documented or answer.status_code >= 400, (
            case.method,
            request,
            answer.text,
        )
        if answer.status_code >= 400:
            assert isinstance(json.loads(answer.content), dict)
        statuses.append(answer.status_code)

    try:
        send()
    except Exception as error:
        if "Unsatisfiable" in type(error).__name__:
            return 0  # an operation without parameters has no wrong ones
        raise
    return len(statuses)
