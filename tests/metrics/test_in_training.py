"""README's metric inside a training loop: on two ranks, and saved in the middle, it equals a single pass."""

import io
from pathlib import Path

import pytest
import torch

from bench.data.fashion_mnist import load
from metrics import frechet_distance_from_features
from metrics.extractors import load_extractor
from tests.metrics.gloo import on_ranks

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCK = README[README.index("```python\n# validate.py") :].split("```")[1].removeprefix("python\n")


def run(rank, batches):
    """Every other batch, half of them before the metric is saved and loaded as a checkpoint would."""
    names = {}
    exec(compile(BLOCK, "README.md", "exec"), names)
    own, saved = batches[rank::2], io.BytesIO()
    for images, real in own[:1]:
        names["distance"].update(names["extractor"](images), real=real)
    torch.save(names["distance"].state_dict(), saved)
    names["distance"].reset()
    names["distance"].load_state_dict(torch.load(io.BytesIO(saved.getvalue()), weights_only=True))
    return float(names["validate"](own[1:]))


def test_two_ranks_and_a_checkpoint_equal_a_single_pass():
    images = load()[0][:400, None]
    real, fake = images[:200], images[200:].flip(3)
    batches = [(part, side) for x, side in ((real, True), (fake, False)) for part in x.split(50)]
    extractor = load_extractor("fmnist")
    expected = frechet_distance_from_features(extractor(real), extractor(fake))
    assert on_ranks(run, batches) == pytest.approx([expected, expected], rel=1e-6)
