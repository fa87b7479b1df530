"""schemathesis against the engine in-process: nothing that its own document allows ends in a crash or an answer that it does not tell.

OPENAPI_EXAMPLES sets how many requests each operation gets; few and always the same ones by default.
"""

import os
from typing import Any

import hypothesis
import schemathesis
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from engine.routes import schema
from tests.unit.engine.whole_engine import BEARER, whole_engine

EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "8"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    ignored_auth,
]
SETTINGS = hypothesis.settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)


APP = whole_engine()
DOCUMENT = schemathesis.openapi.from_asgi("/schema", APP, headers=BEARER)


def test_the_document_names_every_door() -> None:
    doors = {
        (method, schema.public(route.path))
        for route in APP.routes
        for method in getattr(route, "methods", ())
        if method not in ("OPTIONS", "HEAD")
    }
    told = {(method.upper(), path) for path, item in DOCUMENT.raw_schema["paths"].items() for method in item}
    assert told == doors


@DOCUMENT.parametrize()
@SETTINGS
def test_the_engine_answers_as_its_document_says(case: Case[Any]) -> None:
    case.call_and_validate(headers=BEARER, checks=CHECKS)
