"""The post-filter: found by least squares, applied alike piece by piece; see test_filter_code."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from conftest import photo_like, photo_pixels
from PIL import Image

from mambaic.codec import Codec
from mambaic.container import fields
from mambaic.encoder import fit_regions
from mambaic.encoder.filter_fit import Fit
from mambaic.encoder.filter_rate import cheapest
from mambaic.errors import CorruptStream
from mambaic.imaging.colour_axes import to_colours
from mambaic.imaging.image import read_image
from mambaic.reconstruction import filter_code, post_filter
from mambaic.reconstruction.filter_taps import TAPS
from mambaic.reconstruction.post_filter import PostFilter, Reconstruction, bands
from mambaic.reconstruction.rotation import IDENTITY
from mambaic_kernels.filter_maps.constants import MARGIN

RNG = np.random.default_rng(3)
EXACT = 1e9  # bits that a squared error is worth where bits shall not matter


def some_filter() -> PostFilter:
    """Of coefficients that matter alike."""
    rows = [[RNG.normal() * filter_code.step(tap, 8) for tap in taps] for taps in TAPS]
    return PostFilter(tuple(map(tuple, rows)))


def found(fit: Fit, reconstruction: Reconstruction, weight: float = EXACT) -> PostFilter:
    coded = cheapest(fit.costs(weight, pixels(reconstruction)))
    return PostFilter() if coded is None else PostFilter(coded.coefficients)


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).square().mean().sqrt())


def picture(height=160, width=180, seed=0):
    """Smooth regions and noise (3, H, W), so that clipped differences are taps of their own."""
    # colours that the brightness does not tell
    x = torch.cat([photo_like(height, width, seed + plane)[0, :1] for plane in range(3)])
    x = (x + 0.03 * torch.from_numpy(RNG.normal(size=x.shape)).float()).clamp(0, 1)
    return Reconstruction(x, 0.01 + 0.1 * photo_like(height, width, seed + 3)[0, 0])


def all_terms(reconstruction):
    """Of every plane: (taps, H, W)."""
    parts = list(bands(reconstruction))
    maps = torch.cat([part.maps for part in parts], dim=-2)
    factors = torch.cat([part.factors for part in parts], dim=-2)
    return [
        torch.stack([maps[tap.map, tap.plane] * factors[tap.factor] for tap in taps])
        for taps in TAPS
    ]


def pixels(reconstruction):
    return reconstruction.x_hat[0].numel()


def flat():
    return Reconstruction(torch.full((3, 64, 64), 0.4), torch.zeros(64, 64))


@pytest.fixture(scope="module")
def codec(unit_model):
    return Codec(unit_model)


def test_a_filter_adds_its_terms():
    reconstruction, correction = picture(90, 50), some_filter()
    taps = all_terms(reconstruction)
    pairs = zip(taps, correction.coefficients, strict=True)
    added = [torch.tensordot(torch.tensor(row), of_plane, dims=1) for of_plane, row in pairs]
    expected = reconstruction.x_hat + to_colours(torch.stack(added))
    assert torch.allclose(correction.apply(reconstruction), expected, atol=1e-5)


def test_no_two_terms_are_the_same():
    reconstruction = picture()
    for of_plane in all_terms(reconstruction):
        taps = of_plane.flatten(1).double()
        taps /= taps.norm(dim=1, keepdim=True)
        alike = (taps @ taps.T).abs() - torch.eye(len(taps))
        assert alike.max() < 1 - 1e-6


def test_least_squares_find_the_filter_that_was_applied():
    reconstruction = picture()
    original = some_filter().apply(reconstruction)
    fit = Fit()
    fit.add(reconstruction, original)
    assert (
        error(found(fit, reconstruction).apply(reconstruction), original)
        < error(reconstruction.x_hat, original) / 50
    )


def test_regions_add_up_to_the_picture():
    """To nearly the same costs, although the borders of regions have no neighbours."""
    reconstruction, true = picture(), some_filter()
    original = true.apply(reconstruction)
    parts = [Fit(), Fit()]
    for part, half in zip(parts, (slice(0, 80), slice(80, None)), strict=True):
        part.add(reconstruction.cut(half, slice(None)), original[:, half])
    whole = Fit()
    whole.add(reconstruction, original)
    corrected = found(Fit.of(parts), reconstruction).apply(reconstruction)
    assert error(corrected, original) < error(reconstruction.x_hat, original) / 5
    # half of the picture seen counts as if all of it were so
    for one, other in zip(parts[0].costs(1, 100), whole.costs(1, 100), strict=True):
        assert float(one.gram.trace()) == pytest.approx(float(other.gram.trace()), rel=0.5)


def test_of_a_large_region_every_other_band_is_enough():
    reconstruction = picture(512, 512)
    original = some_filter().apply(reconstruction)
    whole, part = Fit(), Fit(every=2)
    for fit in (whole, part):
        fit.add(reconstruction, original)
    assert part.pixels == whole.pixels / 2
    corrected = found(part, reconstruction).apply(reconstruction)
    assert error(corrected, original) < error(reconstruction.x_hat, original) / 50
    for one, other in zip(part.costs(1, 100), whole.costs(1, 100), strict=True):
        assert float(one.gram.trace()) == pytest.approx(float(other.gram.trace()), rel=0.1)


def test_what_gains_less_than_its_bits_is_left_out():
    reconstruction = picture()
    fit = Fit()
    fit.add(reconstruction, some_filter().apply(reconstruction))
    sizes = []
    for weight in (EXACT, 1e4, 100):
        coded = cheapest(fit.costs(weight, pixels(reconstruction)))
        assert coded is not None
        sizes.append(len(filter_code.to_bytes(coded)))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]
    assert cheapest(fit.costs(0.0, pixels(reconstruction))) is None


def test_terms_that_are_the_same_do_no_harm():
    """A picture of one colour: differences are zero, values are constants."""
    reconstruction = flat()
    fit = Fit()
    brighter = reconstruction.x_hat + 0.01
    fit.add(reconstruction, brighter)
    assert (found(fit, reconstruction).apply(reconstruction) - brighter).abs().max() < 1e-3


def test_coefficients_that_a_file_cannot_hold_are_not_chosen():
    """Contrast of a few rounding errors, and an error that only a huge multiple of it explains."""
    reconstruction = flat()
    reconstruction.x_hat[:, ::2] += 2e-6
    wrong = torch.zeros_like(reconstruction.x_hat)
    wrong[:, ::2] = 0.9
    fit = Fit(planes=1)
    fit.add(reconstruction, reconstruction.x_hat + wrong)
    coded = cheapest(fit.costs(EXACT, 64 * 64))
    assert coded is not None
    assert filter_code.from_bytes(filter_code.to_bytes(coded), planes=1) == coded


def test_a_part_with_its_surroundings_is_corrected_as_in_the_whole():
    reconstruction, correction = picture(120, 140), some_filter()
    whole = correction.apply(reconstruction)
    part = correction.apply(reconstruction.cut(slice(20, 110), slice(30, 120)))
    inner = slice(MARGIN, -MARGIN)
    expected = whole[:, 20:110, 30:120][:, inner, inner]
    assert torch.allclose(part[:, inner, inner], expected, atol=1e-5)


def test_bands_of_rows_are_corrected_as_the_whole(monkeypatch):
    reconstruction, correction = picture(170, 40), some_filter()
    whole = correction.apply(reconstruction)
    monkeypatch.setattr(post_filter, "BAND", 60)
    assert torch.allclose(correction.apply(reconstruction), whole, atol=1e-5)


def test_gray_pictures_spend_nothing_on_colours(codec):
    image = Image.fromarray(photo_pixels(128, 128)).convert("L")
    chunk = fields.read(codec.encode(image, 90)).chunks["filter"]
    (brightness,) = filter_code.from_bytes(chunk, planes=1).numbers
    assert any(brightness)


@pytest.mark.parametrize("tile", [0, 8])
def test_filtered_picture_is_nearer_to_the_original(codec, tile, monkeypatch):
    monkeypatch.setattr(fit_regions, "REGION", 7)  # of several regions of a tile, some
    image = read_image(Image.fromarray(photo_pixels(320, 256)))
    plain, filtered = (
        codec.encode(image, 90, tile=tile, rotation=IDENTITY, effort=effort) for effort in (1, 2)
    )
    assert "filter" not in fields.read(plain).chunks
    assert fields.read(filtered).tiles == fields.read(plain).tiles
    errors = [
        np.mean((codec.decode_picture(data).pixels - image.pixels.astype(float)) ** 2)
        for data in (plain, filtered)
    ]
    assert errors[1] < errors[0]
    assert len(filtered) - len(plain) < 250


def test_damaged_filter_in_a_sound_file_is_named(codec):
    file = fields.read(codec.encode(Image.fromarray(photo_pixels(64, 64)), 50))
    forged = dataclasses.replace(file, chunks={"filter": bytes(999)})
    for read in (codec.decode, codec.verify):
        with pytest.raises(CorruptStream, match="filter is not as"):
            read(fields.write(forged))


def test_no_filter_is_one():
    reconstruction = picture(32, 32)
    assert torch.equal(PostFilter().apply(reconstruction), reconstruction.x_hat)
