"""Schemathesis over the whole JSON API: no 5xx, and no answer that the OpenAPI document does not promise.

The application is served over loopback by a thread of its own with real services; the fuzzer talks HTTP to it.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

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
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.kit.json_server import json_server

EXAMPLES = 20
LONGEST = 8000
"""Addresses near 8190 bytes are refused before there is a request that could be answered as documented."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]


class Served:
    """A JSON server in a thread; ``headers`` carry the access token of an account that has messages."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ready: queue.Queue[tuple[str, str]] = queue.Queue()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True)

    def start(self) -> None:
        self._thread.start()
        self.url, token = self._ready.get(timeout=30)
        self.headers = {"Authorization": f"Bearer {token}"}

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(30)

    def login(self) -> None:
        """A fresh token; the fuzzer also logs out, changes passwords and deletes accounts."""
        name = {"username": "fuzzer", "password": "password"}
        answer = requests.post(self.url + "/login", json=name, timeout=10)
        if answer.status_code != 200:
            self._count = getattr(self, "_count", 0) + 1
            name["username"] = f"fuzzer{self._count}"
            requests.post(self.url + "/register", json=name, timeout=10)
            answer = requests.post(self.url + "/login", json=name, timeout=10)
        self.headers = {"Authorization": f"Bearer {answer.json()['token']}"}

    async def _run(self) -> None:
        async with json_server(self._path) as server:
            await server.token("bob")
            token = await server.token("fuzzer")
            for number in range(5):
                await server.send("fuzzer", "bob@a.example", f"m{number}", f"c{number}")
                await server.send("bob", "fuzzer@a.example", f"m{number}", f"c{number}")
            self._ready.put((server.url, token))
            await self._end.wait()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Served(tmp_path_factory.mktemp("fuzz") / "data" / "parley.db")
    made.start()
    yield made
    made.stop()


def operations(served: Served) -> Iterator[APIOperation]:
    """Every operation of the served document."""
    for found in schemathesis.openapi.from_url(served.url + "/openapi.json").get_all_operations():
        yield found.ok()


def run(operation: APIOperation, mode: GenerationMode, examples: int, check: Callable[[Case], None]) -> None:
    """Try an operation with generated requests of one mode."""

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def attempt(case: Case) -> None:
        check(case)

    attempt()


def validated(case: Case, response: Response) -> None:
    """Hold an answer against the document."""
    if len(response.request.url or "") > LONGEST:
        assert response.status_code == 400
        return
    case.validate_response(response, checks=CHECKS)


def test_the_document_is_openapi_3_1(served: Served) -> None:
    document = requests.get(served.url + "/openapi.json", timeout=10).json()
    assert document["openapi"] == "3.1.0"
    validate(document)


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_undocumented_answer(served: Served, mode: GenerationMode) -> None:
    def check(case: Case) -> None:
        response = case.call(base_url=served.url, headers=served.headers)
        if response.status_code == 401:
            served.login()
            response = case.call(base_url=served.url, headers=served.headers)
        validated(case, response)

    tried = 0
    for operation in operations(served):
        run(operation, mode, EXAMPLES, check)
        tried += 1
    assert tried >= 20


def test_nothing_without_a_token(served: Served) -> None:
    def check(case: Case) -> None:
        response = case.call(base_url=served.url)
        validated(case, response)
        assert response.status_code in (400, 401)

    for operation in operations(served):
        if "security" in operation.definition.raw:
            run(operation, GenerationMode.POSITIVE, 5, check)
