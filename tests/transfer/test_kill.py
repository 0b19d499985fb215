import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_fit_killed_three_times_ends_as_if_it_had_not_been():
    script = [sys.executable, str(ROOT / "benchmarks/kill_resume.py")]
    run = subprocess.run(
        [*script, "--kills", "3", "--users", "120", "--epochs", "3"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert len(found["kills"]) == 3
    assert found["fits_ended"] >= 1
    assert found["largest_difference"] <= 1e-6
