"""What docs/alignment.md shows can be run, and does what the page says."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

PAGE = (Path(__file__).parents[2] / "docs" / "alignment.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_two_arrays_are_brought_together(capsys: pytest.CaptureFixture[str]) -> None:
    exec(EXAMPLES[0], {})
    said = capsys.readouterr().out.splitlines()
    names = ["Coral", "Procrustes", "Sinkhorn", "DomainWhitening"]
    assert [line.split()[0] for line in said] == names
    # The texts are turned, doubled and shifted: a covariance matches, a rigid map does not.
    assert "coral=0.0" not in said[1]
    assert float(re.findall(r"coral=([^,]+)", said[0])[0]) < 1e-4
    # Whitened apart, both look alike as clouds.
    assert abs(float(re.findall(r"mmd=([^,]+)", said[3])[0])) < 0.01


def test_a_map_and_a_loss_of_ones_own_do_what_they_say() -> None:
    own: dict[str, object] = {"__name__": "own"}
    exec(compile(EXAMPLES[1], "alignment.md", "exec", dont_inherit=True), own)
    rng = np.random.default_rng(0)
    a = rng.gamma(1.0, size=(300, 4)).astype(np.float32)
    flip = own["Flip"].fit(a, a * np.array([1, -1, 1, -1]))  # type: ignore[attr-defined]
    assert flip.signs.tolist() == [1, -1, 1, -1]
    far = own["Far"]()  # type: ignore[operator]
    assert far(torch.zeros(3, 2), torch.ones(4, 2)).item() == 2.0
