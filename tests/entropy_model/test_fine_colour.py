"""The finest colours, and latents coded more finely than the networks know."""

from __future__ import annotations

import pytest
import torch
from conftest import photo_like

from mambaic.coding.encoder import Encoder
from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import Lattice, Site
from mambaic.coding.step_coder import StepCoder
from mambaic.config import TRAINED
from mambaic.entropy_model import colour_blocks
from mambaic.entropy_model.fine_colour import CODED, NAMES
from mambaic.entropy_model.finer import HIGHEST, KNOT_STEP, SmallScales
from mambaic.errors import DesyncError
from mambaic.nn.gains import fineness

QUALITY = 120.0


class Source:
    """Finest colours of random pictures: as large as those of colourful ones."""

    def __init__(self, model, missed, lag=0.0):
        self.known = model.known_colours(lag)
        self._missed = missed

    def missed(self, y_hat, quality):
        return self._missed


def random_bands(height, width, size=4.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        NAMES[level]: size
        * torch.randn(
            1,
            len(CODED[level]),
            height * colour_blocks.PER_LATENT[level],
            width * colour_blocks.PER_LATENT[level],
            generator=generator,
        )
        for level in CODED
    }


def latent(model, height, width, quality=QUALITY):
    x, q = photo_like(16 * height, 16 * width), torch.tensor([quality])
    return model.g_a(x, q, beyond=quality > TRAINED)


def test_packing_is_undone():
    bands = random_bands(4, 8)
    unpacked = colour_blocks.unpack(colour_blocks.pack(bands))
    for level in CODED:
        assert torch.equal(unpacked[level], bands[NAMES[level]])


def test_finest_colours_of_what_they_draw_are_themselves(unit_model):
    bands = random_bands(4, 8)
    drawn = unit_model.transform.reconstruct_colours(colour_blocks.pack(bands), QUALITY)
    found = unit_model.transform.finest_colours(drawn, QUALITY)
    for name, of in bands.items():
        torch.testing.assert_close(found[name], of, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (8, 36), (40, 4)])
def test_decoder_gets_the_encoders_colours(unit_model, height, width):
    y, missed = latent(unit_model, height, width), random_bands(height, width)
    model = unit_model.entropy_model
    stream = model.encode(y, QUALITY, colours=Source(unit_model, missed))
    assert stream.decoded.colours.shape[1] == colour_blocks.PACKED_COLOURS
    decoded = model.decode(
        stream.payload, (height, width), QUALITY, known=unit_model.known_colours(0.0)
    )
    assert torch.equal(decoded.y_hat, stream.decoded.y_hat)
    assert torch.equal(decoded.colours, stream.decoded.colours)
    error = decoded.colours - colour_blocks.pack(missed)
    assert float(error.square().mean()) < 0.3  # squared steps; missed ones are 16


def test_colours_that_lag_are_coarser_and_cheaper(unit_model):
    y, missed = latent(unit_model, 8, 8), random_bands(8, 8)
    model, bits, errors = unit_model.entropy_model, [], []
    for lag in (0.0, 20.0, 40.0):
        stream = model.encode(y, QUALITY, colours=Source(unit_model, missed, lag))
        known = unit_model.known_colours(lag)
        decoded = model.decode(stream.payload, (8, 8), QUALITY, known=known)
        assert torch.equal(decoded.colours, stream.decoded.colours)
        bits.append(stream.estimated_bits)
        errors.append(float((decoded.colours - colour_blocks.pack(missed)).square().mean()))
    assert bits[0] > 1.1 * bits[1] > 1.2 * bits[2]
    # of steps, as their squares: no block was left out
    assert errors[0] < 0.7 * errors[1] < 0.5 * errors[2] < 4.0


@pytest.mark.parametrize("tried", [True, False])
def test_colours_that_do_not_pay_leave_no_trace(unit_model, monkeypatch, tried):
    monkeypatch.setattr(colour_blocks, "promising", lambda wanted: tried)
    y, model = latent(unit_model, 4, 8), unit_model.entropy_model
    source = Source(unit_model, random_bands(4, 8, size=1e-3))
    with_nothing = model.encode(y, QUALITY, colours=source)
    assert with_nothing.decoded.colours.shape[1] == 0
    assert with_nothing.payload == model.encode(y, QUALITY).payload


def test_few_large_colours_are_promising_and_many_small_ones_are_not():
    small = random_bands(32, 32, size=0.3)
    assert not colour_blocks.promising(small)
    few = {name: bands.clone() for name, bands in small.items()}
    few["colour1"][..., :16, :] *= 8
    assert colour_blocks.promising(few)
    assert not colour_blocks.promising({"colour1": torch.tensor([2.5])})
    assert colour_blocks.promising({"colour1": torch.full((4,), 2.5)})


def test_what_is_not_promising_is_not_coded(unit_model, monkeypatch):
    monkeypatch.setattr(colour_blocks, "_code", lambda *_: pytest.fail("coded"))
    source = Source(unit_model, random_bands(4, 8, size=0.3))
    unit_model.entropy_model.encode(latent(unit_model, 4, 8), QUALITY, colours=source)


def test_only_blocks_that_pay_are_coded(unit_model):
    wide = 2 * colour_blocks.BLOCK
    y, missed = latent(unit_model, 4, wide), random_bands(4, wide)
    for bands in missed.values():
        bands[..., : bands.shape[-1] // 2] = 0
    stream = unit_model.entropy_model.encode(y, QUALITY, colours=Source(unit_model, missed))
    colours = stream.decoded.colours
    assert not colours[..., : colour_blocks.BLOCK].any()
    assert colours[..., colour_blocks.BLOCK :].any()
    decoded = unit_model.entropy_model.decode(
        stream.payload, (4, wide), QUALITY, known=unit_model.known_colours(0.0)
    )
    assert torch.equal(decoded.colours, colours)


def test_colours_that_a_decoder_does_not_read_are_noticed(unit_model):
    y, missed = latent(unit_model, 4, 8), random_bands(4, 8)
    stream = unit_model.entropy_model.encode(y, QUALITY, colours=Source(unit_model, missed))
    with pytest.raises(DesyncError):
        unit_model.entropy_model.decode(stream.payload, (4, 8), QUALITY)


class _Recorder(StepCoder):
    """Codes given values; remembers what priors it was asked with."""

    def __init__(self, values):
        self._values, self.priors = values, []

    def _code_sub_group(self, site, prior):
        self.priors.append((site, prior))
        return site.take(self._values[site.latent]).to(prior.mean)


def test_later_colours_do_not_change_earlier_priors(unit_model):
    networks = unit_model.entropy_model.fine.colour
    known = unit_model.known_colours(0.0).levels(latent(unit_model, 4, 4).double(), QUALITY, 0.0)
    known = {level: type(of)(*(part.float() for part in of)) for level, of in known.items()}
    q = torch.tensor([QUALITY])
    first = _Recorder(random_bands(4, 4))
    networks.walk(known, q, first)
    for step, (changed, _) in enumerate(first.priors):
        values = random_bands(4, 4)
        rows = changed.take(values[changed.latent]) + 1
        of_step = changed.lattice.put(rows, values[changed.latent].shape[-2:])
        before = values[changed.latent][:, changed.channels]
        values[changed.latent][:, changed.channels] = torch.where(of_step != 0, of_step, before)
        second = _Recorder(values)
        networks.walk(known, q, second)
        for (_, old), (_, new) in zip(
            first.priors[: step + 1], second.priors[: step + 1], strict=True
        ):
            assert torch.equal(old.mean, new.mean)
            assert torch.equal(old.log_scale, new.log_scale)
        if step + 1 < len(first.priors):
            after = zip(first.priors[step + 1 :], second.priors[step + 1 :], strict=True)
            assert any(not torch.equal(a.log_scale, b.log_scale) for (_, a), (_, b) in after)


def test_what_is_undone_was_never_written(unit_model):
    values = {"colour1": torch.full((1, 6, 4, 4), 3.0)}
    site = Site("colour1", slice(0, 6), Lattice.ANCHOR)
    prior = Prior(torch.zeros(1, 8, 6).double(), torch.ones(1, 8, 6).double())
    tables = unit_model.entropy_model.tables
    plain, changed = Encoder(values, tables), Encoder(values, tables)
    plain.code_alone(site, prior)
    changed.code_alone(site, prior)
    mark = changed.mark()
    changed.flag(True)
    # levels on a boundary: the record forgets them, too
    changed.code_alone(site, prior)
    assert changed.bits_since(mark) > 8 * 6
    changed.undo(mark)
    assert changed.finish() == plain.finish()


@pytest.mark.parametrize("quality", [100.0, 101.0, 115.0, 130.0])
def test_error_falls_as_qualities_rise_beyond_what_networks_know(unit_model, quality):
    y = latent(unit_model, 4, 8, quality)
    y_hat = unit_model.entropy_model.encode(y, quality).decoded.y_hat
    finer = float(fineness(unit_model.config, torch.tensor([quality])))
    error = float((y_hat - y).square().mean()) * finer**2
    assert 0.05 < error < 0.3  # of squares of the finer steps: a TCQ's is about 0.2


def test_fineness_follows_the_law_of_lmbda(unit_model):
    config = unit_model.config
    finer = fineness(config, torch.tensor([60.0, 100.0, 120.0]).double())
    ratio = config.lmbda(120.0) / config.lmbda(100.0)
    # to what the steps of the fixed-point walk can tell
    expected = torch.tensor([1.0, 1.0, ratio**0.5]).double()
    torch.testing.assert_close(finer, expected, rtol=2**-11, atol=0)


def test_small_scales_are_corrected_and_others_are_not():
    scales = SmallScales(3)
    with torch.no_grad():
        scales.offsets[1] = torch.arange(1.0, scales.offsets.shape[1] + 1)
    at = torch.tensor([HIGHEST + 1, HIGHEST, HIGHEST - KNOT_STEP / 2, HIGHEST - 3 * KNOT_STEP])
    found = scales(at[None, :, None].expand(1, 4, 2), slice(1, 3))
    torch.testing.assert_close(found[0, :, 0], torch.tensor([0.0, 0.0, 0.5, 3.0]))
    assert not found[..., 1].any()
