"""CompressAI's interface around our presets: same rate and distortion as our own files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import photo_like
from PIL import Image

pytestmark = pytest.mark.filterwarnings("ignore")  # compressai imports deprecated modules


@pytest.fixture
def bridge():
    """The bridge; CompressAI's evaluation sets one thread for the whole process when imported, and
    the last bit of later tests' pixels depends on their number."""
    threads = torch.get_num_threads()
    yield pytest.importorskip("mambaic.integrations.compressai")
    torch.set_num_threads(threads)


@pytest.mark.weights
def test_inference_agrees_with_files(bridge):
    from compressai.utils.eval_model.__main__ import inference

    from mambaic import load
    from mambaic.imaging.metrics import psnr_db

    x = (photo_like(256, 320)[0] * 255).round() / 255
    image = Image.fromarray((x * 255).round().byte().permute(1, 2, 0).numpy())
    result = inference(bridge.load("s", 40, pretrained=True), x)
    codec = load("s")
    data = codec.encode(image, 40, effort=1, tune=0.0)
    bpp = 8 * len(data) / (320 * 256)
    # the container's own 27 bytes are not in CompressAI's figure
    assert result["bpp"] == pytest.approx(bpp - 8 * 27 / (320 * 256), rel=0.01)
    ours = psnr_db(np.asarray(image), np.asarray(codec.decode(data)))
    assert result["psnr-rgb"] == pytest.approx(ours, abs=0.01)


def test_training_step_and_checkpoint(bridge):
    from compressai.losses import RateDistortionLoss
    from compressai.optimizers import net_aux_optimizer

    torch.manual_seed(0)
    net = bridge.load("unit", 30).train()
    adam = {"type": "Adam", "lr": 1e-3}
    optimisers = net_aux_optimizer(net, {"net": adam, "aux": adam})
    x = torch.rand(2, 3, 64, 64)
    loss = RateDistortionLoss(lmbda=0.01)(net(x), x)["loss"]
    loss.backward()
    net.aux_loss().backward()
    for optimiser in optimisers.values():
        optimiser.step()
    net.eval().update(force=True)
    again = bridge.MambaICCompressionModel.from_state_dict(net.state_dict())
    again.eval().update(force=True)
    assert again.quality == 30
    coded = net.compress(x)
    decoded = again.decompress(coded["strings"], coded["shape"])
    assert decoded["x_hat"].shape == x.shape
    assert torch.equal(decoded["x_hat"], net.decompress(**coded)["x_hat"])
