"""The first runs of the chaos campaign; `make chaos` has five hundred of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos import run_seed


@pytest.mark.parametrize("seed", range(1, 9))
def test_chaos(seed: int, tmp_path: Path) -> None:
    outcome = run_seed(seed, parent=tmp_path)
    assert not outcome.violations, f"left in {outcome.folder}"
    assert outcome.counts["starts"] >= 2
