"""Every experiment of `configs/` can be read, is short, and says of each value what it is."""

from pathlib import Path

import pytest

from molformer.training.arguments import read_configs

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_is_valid_short_and_commented(path):
    encoder, training = read_configs(str(path))
    assert training.run == f"runs/{path.stem}"
    assert encoder.channels % encoder.num_heads == 0
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 40
    assert [line for line in lines if line and "#" not in line] == []
