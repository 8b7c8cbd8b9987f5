"""Schemathesis over the whole JSON API: no 5xx, and no answer that the OpenAPI document does not promise.

The fuzzer talks to a node in a process of its own, over TLS.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from openapi_spec_validator import validate
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    missing_required_header,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.kit.authority import Authority
from tests.kit.node import ParleyServer

EXAMPLES = 20
DEEP = 200
LONGEST = 8000
"""Addresses near 8190 bytes are refused before there is a request that could be answered as documented."""
CHECKS = [
    not_a_server_error,
    allow_header_conformance,
    content_type_conformance,
    missing_required_header,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]


class Served:
    """A node with an account that has messages; ``options`` are for requests: its token, whom to trust."""

    def __init__(self, node: ParleyServer) -> None:
        self.node = node
        self.url = node.base_url
        self._trust = str(node.authority.ca_file)
        self._count = 0
        self.options: dict[str, Any] = {"verify": self._trust}

    def post(self, path: str, body: dict[str, Any], **options: Any) -> requests.Response:
        """One JSON request."""
        return requests.post(self.url + path, json=body, timeout=30, verify=self._trust, **options)

    def login(self) -> None:
        """A fresh token; the fuzzer also logs out, changes passwords and deletes accounts."""
        name = {"username": "fuzzer", "password": "secret-fuzzer"}
        answer = self.post("/login", name)
        while answer.status_code != 200:
            self._count += 1
            name["username"] = f"fuzzer{self._count}"
            self.post("/register", name)
            answer = self.post("/login", name)
        self.options = {"verify": self._trust, "headers": {"Authorization": f"Bearer {answer.json()['token']}"}}
        for number in range(3):
            body = {"to": f"bob@{self.node.domain}", "text": f"m{number}", "client_id": f"{self._count}-{number}"}
            assert self.post("/v1/messages", body, headers=self.options["headers"]).ok


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    folder = tmp_path_factory.mktemp("node")
    node = ParleyServer(folder, authority, ["fuzzer", "bob"], extra={"accounts": {"registration": "open"}})
    try:
        asyncio.run(node.start())
        made = Served(node)
        made.login()
        yield made
    finally:
        asyncio.run(node.kill9())


def operations(served: Served) -> Iterator[APIOperation]:
    """Every operation of the served document."""
    for found in schemathesis.openapi.from_url(
        served.url + "/openapi.json", verify=str(served.node.authority.ca_file)
    ).get_all_operations():
        yield found.ok()


def run(operation: APIOperation, mode: GenerationMode, examples: int, check: Callable[[Case], None]) -> None:
    """Try an operation with generated requests of one mode."""

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def attempt(case: Case) -> None:
        check(case)

    attempt()


def takes_anything(operation: APIOperation) -> bool:
    """Whether there is anything in a request that could be wrong."""
    return any(operation.definition.raw.get(name) for name in ("parameters", "requestBody", "security"))


def validated(case: Case, response: Response) -> None:
    """Hold an answer against the document."""
    if len(response.request.url or "") > LONGEST:
        assert response.status_code == 400
        return
    case.validate_response(response, checks=CHECKS)


def test_the_document_is_openapi_3_1(served: Served) -> None:
    document = requests.get(served.url + "/openapi.json", timeout=30, verify=served.options["verify"]).json()
    assert document["openapi"] == "3.1.0"
    validate(document)


@pytest.mark.parametrize(
    "examples",
    [EXAMPLES, pytest.param(DEEP, marks=[pytest.mark.heavy, pytest.mark.timeout(1800)])],
    ids=["short", "deep"],
)
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_undocumented_answer(served: Served, mode: GenerationMode, examples: int) -> None:
    def check(case: Case) -> None:
        response = case.call(base_url=served.url, **served.options)
        if response.status_code == 401:
            served.login()
            response = case.call(base_url=served.url, **served.options)
        validated(case, response)

    tried = 0
    for operation in operations(served):
        if mode is GenerationMode.NEGATIVE and not takes_anything(operation):
            continue
        run(operation, mode, examples, check)
        tried += 1
    assert tried >= 20
    assert served.node.returncode is None
    assert '"event":"request failed"' not in served.node.log_tail(
        10**6
    )  # in a path it may stand: fuzzers read programs


def test_nothing_without_a_token(served: Served) -> None:
    def check(case: Case) -> None:
        response = case.call(base_url=served.url, verify=served.options["verify"])
        validated(case, response)
        assert response.status_code in (400, 401)

    for operation in operations(served):
        if "security" in operation.definition.raw:
            run(operation, GenerationMode.POSITIVE, 5, check)
