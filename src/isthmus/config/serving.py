"""How the HTTP service behaves."""

from __future__ import annotations

from pydantic import Field

from isthmus.config.section import Section


class ServingConfig(Section):
    """The HTTP service; see service.md."""

    max_body: int = Field(4 << 20, ge=1024, description="Bytes of a request's body.")
    timeout: float = Field(30.0, gt=0, description="Seconds until a request is given up.")
    rate: float = Field(
        100.0, ge=0, description="Requests a second of one key, or address, in each worker; 0: any."
    )
    burst: int = Field(200, ge=1, description="Requests at once beyond that rate.")
    refused_keys: float = Field(
        30.0,
        ge=0,
        description="Requests a minute of one address, in each worker, that are told that their "
        "key is missing or wrong; more get 429. Good keys are not held up. 0: any.",
    )
    max_waiting: int = Field(
        1000, ge=1, description="Questions that may wait for an answer; more are refused with 503."
    )
    own_process: bool = Field(
        True,
        description="Answer in a process of its own beside each worker. False: in a thread of the "
        "worker, with half the memory, but half as quickly beside many events.",
    )
    batch: int = Field(16, ge=1, description="Waiting questions that are answered together.")
    history: int = Field(200, ge=1, description="Latest logged events of a person that count.")
    poll_seconds: float = Field(
        1.0, gt=0, description="Between looks for a new version in the model folder."
    )
    count_seconds: float = Field(
        5.0, gt=0, description="Between counts of what the log says is popular now."
    )
    read_seconds: float = Field(
        20.0,
        gt=0,
        description="Most seconds that an upsert waits for its texts to be read; it then answers "
        "202 and they are read afterwards.",
    )
