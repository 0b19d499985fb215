"""Requests drawn from the service's own OpenAPI document: ten thousand, and no server error.

    python benchmarks/fuzz_service.py [--requests 10000]

Starts `isthmus serve` on a copy of a small world's model, since some of the requests change it, and
prints how often each "METHOD path status" was answered. Then as many filters, sound and unsound,
are asked of the same service: each must be answered or refused with a reason.
"""

from __future__ import annotations

import argparse
import http.client
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def drawing(examples: int) -> settings:
    """So many examples, each new, however long they take."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def fuzz(schema: Any, examples: int, start: int = 0) -> Counter[str]:
    """Send so many requests to every operation, sound ones and unsound ones in turn.

    Args:
        schema: of schemathesis, loaded from the service.
        examples: most requests to each operation and kind.
        start: seed.

    Returns:
        How often each "METHOD path status" was answered. The first answer that is a server error,
        or that the document does not promise, is raised.
    """
    seen: Counter[str] = Counter()
    kinds = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    for found in schema.get_all_operations():
        operation = found.ok()
        for kind in kinds:

            @seed(start)
            @drawing(examples)
            @given(case=operation.as_strategy(generation_mode=kind))
            def ask(case: Any) -> None:
                answer = case.call_and_validate(checks=CHECKS)
                name = f"{case.method.upper()} {case.path} {answer.status_code}"
                seen[name] += 1

            try:
                ask()
            except schemathesis.errors.InvalidSchema:
                raise
            except Exception as error:
                # An operation without parameters cannot be asked wrongly.
                if "Unsatisfiable" not in type(error).__name__ and "Impossible" not in str(error):
                    raise
    return seen


ATTRIBUTES = st.sampled_from(["title", "category", "item_id", "price", "text", "nothing", "in"])
VALUES = st.one_of(
    st.integers(-100, 100).map(str),
    st.floats(allow_nan=False, width=32).map(repr),
    st.text(max_size=8).map(json.dumps),
    st.sampled_from(["true", "false", "[]", '["a", 3]', '"']),
)
TESTS = st.builds(
    lambda *words: " ".join(words),
    ATTRIBUTES,
    st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "in", "not in", "contains", "has", "~"]),
    VALUES,
)
FILTERS = st.one_of(
    st.text(max_size=40),
    st.recursive(
        TESTS,
        lambda inner: st.one_of(
            inner.map(lambda one: f"not ({one})"),
            st.builds(
                lambda one, how, other: f"({one}) {how} {other}",
                inner,
                st.sampled_from(["and", "or", "xor", ""]),
                inner,
            ),
        ),
        max_leaves=12,
    ),
    st.builds(lambda n: "(" * n + "price < 3" + ")" * n, st.integers(1, 5_000)),
)


def fuzz_filters(port: int, examples: int, start: int = 0) -> Counter[str]:
    """Ask for recommendations with so many filters; how often each status was answered."""
    seen: Counter[str] = Counter()
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    @seed(start)
    @drawing(examples)
    @given(words=FILTERS)
    def ask(words: str) -> None:
        body = json.dumps({"domains": ["gear"], "k": 3, "filter": words})
        line.request("POST", "/v1/recommend", body, {"Content-Type": "application/json"})
        answer = line.getresponse()
        told = json.loads(answer.read())
        assert answer.status in (200, 400, 422), (words, answer.status, told)
        if answer.status != 200:
            assert told["error"]["what"], words
            assert told["error"]["where"], words
        seen[str(answer.status)] += 1

    ask()
    return seen


def main() -> None:
    from crash_traffic import make_model
    from load.run import free_port, server, service

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--filters", type=int, default=2_000)
    given_words = parser.parse_args()
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_model(folder / "model")
        port = free_port()
        with server(service(folder / "model", folder, port, 1), port, "/v1/ready"):
            filters = fuzz_filters(port, given_words.filters)
            schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
            rounds = 0
            while seen.total() < given_words.requests:
                seen += fuzz(schema, 50, rounds)
                rounds += 1
    statuses: Counter[str] = Counter()
    for name, count in seen.items():
        statuses[name.rsplit(" ", 1)[1]] += count
    result = {
        "requests": seen.total(),
        "by_status": dict(sorted(statuses.items())),
        "filters": dict(sorted(filters.items())),
        "server_errors": sum(n for status, n in (statuses + filters).items() if status[0] == "5"),
        "answers": dict(sorted(seen.items())),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
