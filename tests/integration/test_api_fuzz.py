"""Whatever is sent, the API answers what its document says, and never that it broke."""

import asyncio
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS

from tests.support.api import ADMIN, ApiHive

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

HIVE = ApiHive()
asyncio.run(HIVE.key())
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", HIVE.front)
# Headers that mean nothing to us are no error of the caller, and a key used again is answered with 422.
SCHEMA.config.generation.allow_extra_parameters = False
SCHEMA.config.checks.positive_data_acceptance.expected_statuses.append("422")

REFUSES_LINE_BY_LINE = {"/v1/tasks/batch"}
"""A batch with a bad line is a good batch: the line has a problem of its own."""


@SCHEMA.hook
def map_body(_context: object, body: Any) -> Any:
    """JSON Schema takes 1.0 for an integer; a strict decoder does not."""
    match body:
        case float() if body.is_integer():
            return int(body)
        case dict():
            return {name: map_body(_context, value) for name, value in body.items()}
        case list():
            return [map_body(_context, value) for value in body]
        case _:
            return body


@SCHEMA.parametrize()
@pytest.mark.filterwarnings("ignore:Skipped test cases with unsupported payload media types")
@settings(max_examples=10, suppress_health_check=list(HealthCheck))
def test_every_answer_is_one_that_the_document_tells(case: schemathesis.Case) -> None:
    lenient = [CHECKS.get_one("negative_data_rejection")] if case.path in REFUSES_LINE_BY_LINE else []
    case.call_and_validate(headers={"Authorization": f"Bearer {ADMIN}"}, excluded_checks=lenient)
