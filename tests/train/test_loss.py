"""How rate and distortion are weighed against each other in training."""

from __future__ import annotations

import pytest
import torch
from conftest import photo_like
from pytorch_msssim import ms_ssim

from mambaic.config import PRESETS
from mambaic.models.model import TrainOutput
from mambaic_train.config import TrainConfig
from mambaic_train.loss import rate_distortion
from mambaic_train.validate import RDPoint, score

SIZE = 192
CONFIG = TrainConfig(
    preset="unit", steps=1, crop=SIZE, large_crop=SIZE, metric="ms-ssim", weighting=0.0
)

# weights of CompressAI's published models, quality 1 to 8: its documentation, "Model zoo"
RECIPES = {
    "mse": (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.1800),
    "ms-ssim": (2.40, 4.58, 8.73, 16.64, 31.73, 60.50, 115.37, 220.00),
}


@pytest.mark.parametrize(("ours", "theirs"), list(zip(*RECIPES.values(), strict=True)))
def test_ms_ssim_weighs_as_in_the_recipes_of_compressai(ours, theirs):
    """At a weight of mse, 1 - ms_ssim counts what the recipe of that quality gives it."""
    x = photo_like(SIZE, SIZE)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    x_hat = (x + 0.05 * noise).clamp(0, 1)
    lost = 1 - ms_ssim(x_hat, x, data_range=1.0).item()
    model = PRESETS["unit"]
    quality = model.quality_of(ours)
    output = TrainOutput(x_hat, torch.zeros(1), None)
    loss = rate_distortion(x, torch.tensor([quality]), output, model, CONFIG).value.item()
    # the model's range of weights may not reach the recipe's
    assert loss / lost == pytest.approx(theirs * model.lmbda(quality) / ours, rel=0.05)
    # files are scored by what was trained for
    point = RDPoint(quality, 0.0, 0.0, 30.0, 1 - lost)
    assert score([point], model, CONFIG) == pytest.approx(loss, rel=1e-4)
