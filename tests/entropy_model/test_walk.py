"""The coding order as a whole: files decode to the encoder's symbols, and honestly priced."""

from __future__ import annotations

import inspect

import pytest
import torch
from conftest import photo_like

from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import Lattice, Site
from mambaic.coding.step_coder import StepCoder
from mambaic.entropy_model.walk import EntropyModel
from mambaic.errors import ConfigError, CorruptStream, DesyncError
from mambaic.fixed_point import layers
from mambaic.nn import chunking, vss
from mambaic.nn.blocks import GridConv2d


def latent(model, height, width, quality=50.0, seed=0):
    with torch.no_grad():
        return model.g_a(photo_like(height, width, seed), torch.tensor([quality]))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 192), (320, 128)])
@pytest.mark.parametrize("quality", [0.0, 37.25, 100.0])
def test_decoder_is_bit_exact(unit_model, height, width, quality):
    y = latent(unit_model, height, width, quality)
    model = unit_model.entropy_model
    weights = torch.rand(y.shape[1], 3)
    stream = model.encode(y, quality, weights)
    y_hat, error, _ = model.decode(stream.payload, tuple(y.shape[-2:]), quality, weights)
    assert torch.equal(y_hat, stream.decoded.y_hat)
    assert torch.equal(error, stream.decoded.error)
    with torch.no_grad():
        estimate, estimator = model.estimate(y, torch.tensor([quality]))
    # the estimate walks in floats
    errors = [float((of - y).square().mean()) for of in (y_hat, estimate)]
    assert errors[0] == pytest.approx(errors[1], rel=0.1)
    assert stream.estimated_bits == pytest.approx(float(estimator.bits()), rel=0.01, abs=20)


@pytest.mark.parametrize("quality", [20.0, 80.0])
def test_stream_length_matches_estimate(unit_model, quality):
    y = latent(unit_model, 256, 256, quality)
    stream = unit_model.entropy_model.encode(y, quality)
    assert 8 * len(stream.payload) <= 1.01 * stream.estimated_bits + 8 * 32


def test_walk_has_no_access_to_y():
    assert list(inspect.signature(EntropyModel.walk).parameters) == [
        "self",
        "z_shape",
        "q",
        "coder",
        "beyond",  # a bool: the range that qualities are of
    ]


class Tracer(StepCoder):
    """Coder that serves random latents and remembers priors; can change one site's latents."""

    def __init__(self, change: int | None = None) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.change = change
        self.priors: list[tuple[Site, Prior]] = []

    def _code_sub_group(self, site, prior):
        values = torch.randn(prior.mean.shape, generator=self.generator)
        if self.change == len(self.priors):
            values = values + 1.0
        self.priors.append((site, prior))
        return values


@torch.no_grad()
def test_later_latents_do_not_change_earlier_priors(unit_model):
    q = torch.tensor([50.0])
    base = Tracer()
    unit_model.entropy_model.walk((2, 2), q, base)
    steps = len(base.priors)
    config = unit_model.config
    assert steps == 1 + config.slices * (5 + 2 * (len(config.groups) - 1))
    for changed in range(steps):
        other = Tracer(changed)
        unit_model.entropy_model.walk((2, 2), q, other)
        same = [
            torch.equal(a.mean, b.mean) and torch.equal(a.log_scale, b.log_scale)
            for (_, a), (_, b) in zip(base.priors, other.priors, strict=True)
        ]
        assert all(same[: changed + 1])
        assert changed == steps - 1 or not any(same[changed + 1 :])


def test_walk_visits_every_latent_once(unit_model):
    tracer = Tracer()
    with torch.no_grad():
        unit_model.entropy_model.walk((1, 2), torch.tensor([50.0]), tracer)
    seen = torch.zeros(unit_model.config.M, 4, 8)
    for site, prior in tracer.priors[1:]:
        seen[site.channels] += site.lattice.put(torch.ones_like(prior.mean), (4, 8))[0]
    assert torch.equal(seen, torch.ones_like(seen))


def test_a_file_decodes_where_sums_are_made_in_another_way(unit_model, monkeypatch):
    """In float64, channel by channel from the last to the first."""
    model = unit_model.entropy_model
    y = latent(unit_model, 256, 256)
    stream = model.encode(y, 50.0)
    summed = []

    def backwards(convolve):
        def summing(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
            own = (bias, stride, padding, dilation)
            if groups > 1 or not torch.equal(weight, weight.round()):
                return convolve(input, weight, *own, groups)
            summed.append(weight)
            parts = zip(
                input.double().split(16, dim=1), weight.double().split(16, dim=1), strict=True
            )
            return sum(convolve(*part, *own) for part in reversed(list(parts))).float()

        return summing

    monkeypatch.setattr(torch.nn.functional, "conv2d", backwards(torch.nn.functional.conv2d))
    y_hat = model.decode(stream.payload, tuple(y.shape[-2:]), 50.0).y_hat
    assert len(summed) > 10
    assert torch.equal(y_hat, stream.decoded.y_hat)


def test_new_weights_are_coded_with(private_unit_model):
    """The fixed-point twin follows the weights, also those changed in place."""
    model = private_unit_model.entropy_model
    y = latent(private_unit_model, 64, 64)
    before = model.encode(y, 50.0)
    assert model.encode(y, 50.0) == before
    with torch.no_grad():
        model.h_s.stem.bias += 0.5
    after = model.encode(y, 50.0)
    assert after.payload != before.payload
    model.decode(after.payload, tuple(y.shape[-2:]), 50.0)
    assert not any("twin" in name.lower() for name in model.state_dict())


def test_decoder_reports_desync_when_weights_differ(private_unit_model):
    model = private_unit_model.entropy_model
    y = latent(private_unit_model, 128, 128)
    stream = model.encode(y, 50.0)
    with torch.no_grad():
        model.h_s.stem.bias += 0.5
    with pytest.raises(DesyncError, match="not the encoder's"):
        model.decode(stream.payload, tuple(y.shape[-2:]), 50.0)


def test_batches_and_tiles_are_coded_the_same_alone(unit_model):
    model = unit_model.entropy_model
    first, second = latent(unit_model, 64, 64, seed=1), latent(unit_model, 64, 64, seed=2)
    alone = [model.encode(y, 50.0).payload for y in (first, second)]
    again = [model.encode(y, 50.0).payload for y in (second, first)][::-1]
    assert alone == again


@pytest.mark.parametrize("cut", [0, 4, 8])
def test_truncated_payload_is_an_error_not_garbage(unit_model, cut):
    y = latent(unit_model, 128, 128)
    stream = unit_model.entropy_model.encode(y, 50.0)
    with pytest.raises((DesyncError, CorruptStream)):
        unit_model.entropy_model.decode(stream.payload[:cut], (8, 8), 50.0)


def test_model_without_tables_refuses_to_code(private_unit_model):
    private_unit_model.entropy_model.tables = None
    with pytest.raises(ConfigError, match="update"):
        private_unit_model.entropy_model.encode(torch.zeros(1, 32, 4, 4), 50.0)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("lattice", Lattice)
def test_a_convolution_on_a_lattice_is_the_convolution_there(lattice, kernel):
    conv = GridConv2d(5, 7, kernel)
    for size in ((96, 40), (4, 4)):
        x = torch.randn(2, 5, *size)
        expected = torch.nn.functional.conv2d(x, conv.weight, conv.bias, padding=kernel // 2)
        torch.testing.assert_close(conv(x, lattice.value), lattice.take(expected))


def test_a_large_map_coded_part_by_part_is_the_same_file(unit_model, monkeypatch):
    y = latent(unit_model, 320, 192)
    model = unit_model.entropy_model
    whole = model.encode(y, 50.0)
    with torch.no_grad():
        x_hat = unit_model.g_s(y, torch.tensor([50.0]))
    counted = []
    original = chunking.channels_at_once
    monkeypatch.setattr(chunking, "POSITIONS_AT_ONCE", 40)  # 3 rows at a time, one of windows
    monkeypatch.setattr(chunking, "SCANNED_AT_ONCE", 1)
    monkeypatch.setattr(chunking, "LANES", 8)
    for scanning in (vss, layers):
        monkeypatch.setattr(scanning, "suits", lambda u: False)  # as on other devices
        monkeypatch.setattr(
            scanning,
            "channels_at_once",
            lambda *where: counted.append(original(*where)) or counted[-1],
        )
    stream = model.encode(y, 50.0)
    with torch.no_grad():
        in_parts = unit_model.g_s(y, torch.tensor([50.0]))
    assert set(counted) == {8}
    assert stream.payload == whole.payload
    torch.testing.assert_close(in_parts, x_hat, atol=1e-5, rtol=0)
