"""Numerical work keeps to the threads it is given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from isthmus.blend import fitting
from isthmus.blend.examples import Examples
from isthmus.config import Config
from isthmus.data.world import WorldConfig, generate_world
from isthmus.experiment.compare import compare
from isthmus.recommender import Recommender, facade
from isthmus.threads import one_thread_for_blas, use_threads


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Two to begin with, on any machine, and what there was afterwards."""
    before = torch.get_num_threads()
    with threadpool_limits(2, user_api="blas"):
        yield
    torch.set_num_threads(before)


def test_blas_is_alone_only_inside_the_block() -> None:
    with one_thread_for_blas():
        assert blas_threads() == {1}
    assert blas_threads() == {2}


def test_threads_count_for_pytorch_and_for_blas() -> None:
    use_threads(1)
    assert torch.get_num_threads() == 1
    assert blas_threads() == {1}


def test_weights_are_fitted_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    search = fitting.minimize

    def watched(*args: object, **kwargs: object) -> object:
        seen.append(blas_threads())
        return search(*args, **kwargs)

    monkeypatch.setattr(fitting, "minimize", watched)
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(5, 4, 2)).astype(np.float32)
    fitting.fit_weights(Examples(scores, np.ones((5, 4), np.float32), np.arange(5)))
    assert seen == [{1}]
    assert blas_threads() == {2}


def test_a_fit_encodes_and_weighs_on_the_threads_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def watched(*_: object, **__: object) -> object:
        seen.append({torch.get_num_threads(), *blas_threads()})
        return [] if len(seen) == 1 else SimpleNamespace()

    monkeypatch.setattr(facade, "read_catalogues", watched)
    monkeypatch.setattr(facade, "fit_system", watched)
    torch.set_num_threads(2)
    dataset = generate_world(WorldConfig(n_users=60)).dataset
    for threads, number in ((1, {1}), (None, {2})):
        seen.clear()
        Recommender.fit(dataset, Config.parse({"training": {"threads": threads}}))
        assert seen == [number, number]
        assert {torch.get_num_threads(), *blas_threads()} == {2}


def test_so_does_a_comparison(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []

    def watched(*_: object, **__: object) -> object:
        seen.append({torch.get_num_threads(), *blas_threads()})
        raise KeyboardInterrupt

    monkeypatch.setattr("isthmus.experiment.compare._measure", watched)
    torch.set_num_threads(2)
    dataset = generate_world(WorldConfig(n_users=60)).dataset
    with pytest.raises(KeyboardInterrupt):
        compare(Config.parse({"training": {"threads": 1}}), dataset=dataset, folder=tmp_path)
    assert seen == [{1}]
    assert {torch.get_num_threads(), *blas_threads()} == {2}
