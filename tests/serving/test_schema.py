"""The server keeps to its own schema, whether what it is asked does or not; by schemathesis."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

OPERATIONS = [
    ("POST", "/predict"),
    ("POST", "/predict/file"),
    ("POST", "/explain"),
    ("GET", "/models"),
    ("GET", "/health"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def api(client):
    return schemathesis.openapi.from_url(str(client.base_url.join("/openapi.json")))


def test_every_operation_of_the_schema_is_tested(api):
    found = [(operation.ok().method.upper(), operation.ok().path) for operation in api.get_all_operations()]
    assert sorted(found) == sorted(OPERATIONS)


MODES = [
    (*operation, mode)
    for operation in OPERATIONS
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if operation[0] == "POST" or mode == GenerationMode.POSITIVE  # the others take nothing that could be wrong
]


@pytest.mark.parametrize(("method", "path", "mode"), MODES)
def test_answers_fit_the_schema(api, method, path, mode):
    @given(case=api[path][method].as_strategy(generation_mode=mode))
    @settings(max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def ask(case):
        # Which targets, units and kinds of files there are is not in the schema: 400 says so.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    ask()
