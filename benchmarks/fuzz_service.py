"""Requests drawn from the service's own OpenAPI document: ten thousand, and no server error.

    python benchmarks/fuzz_service.py --model models/world

Starts `isthmus serve` on a copy of the model, since some of the requests change it, and writes
`benchmarks/results/fuzz-service.json`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
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
            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
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


def main() -> None:
    from load.run import free_port, server, service

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=10_000)
    given_words = parser.parse_args()
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copytree(given_words.model, folder / "model")
        port = free_port()
        with server(service(folder / "model", folder, port, 1), port, "/v1/ready"):
            schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
            rounds = 0
            while seen.total() < given_words.requests:
                seen += fuzz(schema, 50, rounds)
                rounds += 1
    statuses: Counter[str] = Counter()
    for name, count in seen.items():
        statuses[name.rsplit(" ", 1)[1]] += count
    result = {"requests": seen.total(), "by_status": dict(sorted(statuses.items()))}
    out = Path(__file__).parent / "results" / "fuzz-service.json"
    out.write_text(json.dumps({**result, "answers": dict(sorted(seen.items()))}, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
