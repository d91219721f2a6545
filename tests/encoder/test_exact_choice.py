"""Text, line art and flat colours are coded exactly, photographs and scans are not."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import photo_pixels
from PIL import Image, ImageDraw, ImageFont

from mambaic.codec import Codec, load
from mambaic.container.fields import describe, read
from mambaic.encoder import exact_choice, picture_encoder
from mambaic.encoder.exact_choice import choose_blocks, without
from mambaic.imaging.image import Picture
from mambaic.imaging.metrics import psnr_db
from mambaic.reconstruction.exact_blocks import cost, encode, settle

WEIGHT = 3000.0  # bits of a squared error of 1, about quality 90
EXACT = 20_000.0  # quality 100, where nothing is rounded


def text_page(height=128, width=256):
    image = Image.new("RGB", (width, height), (250, 250, 245))
    draw = ImageDraw.Draw(image)
    for line in range(4, height - 16, 18):
        draw.text((6, line), "Every bit has its price.", (20, 20, 40), ImageFont.load_default(14))
    return np.array(image)


def colour_bars(height=96, width=210):
    colours = [(255, 255, 255), (255, 255, 0), (0, 255, 255), (0, 255, 0), (255, 0, 0), (0, 0, 0)]
    return np.repeat(np.array([colours], np.uint8), width // 6, axis=1).repeat(height, axis=0)


def checkerboard(side=128):
    y, x = np.mgrid[:side, :side]
    return np.repeat((255 * ((x + y) % 2)).astype(np.uint8)[..., None], 3, axis=2)


def smooth_chart(side=256):
    """Small letters in patches of colour, drawn at twice the size: every edge has colours of its
    own."""
    image, rng = Image.new("RGB", (2 * side, 2 * side)), np.random.default_rng(5)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(20)
    for y in range(0, 2 * side, 64):
        for x in range(0, 2 * side, 96):
            patch, ink = (tuple(rng.integers(0, 256, 3).tolist()) for _ in range(2))
            draw.rectangle((x, y, x + 95, y + 63), fill=patch)
            draw.text((x + 12, y + 18), f"{x:03d}{y:03d}", ink, font)
    return np.array(image.resize((side, side), Image.Resampling.LANCZOS))


def noisy_scan():
    noise = np.random.default_rng(1).normal(size=text_page().shape)
    return (text_page() + 3 * noise).clip(0, 255).round().astype(np.uint8)


PAGES = {"text": text_page, "bars": colour_bars, "checkerboard": checkerboard}


@pytest.fixture
def without_tool(monkeypatch):
    """Encode as if the tool did not exist."""

    def encode(codec, picture, quality):
        with monkeypatch.context() as patch:
            patch.setattr(picture_encoder, "choose_blocks", lambda pixels, weight: None)
            return codec.encode(picture, quality)

    return encode


@pytest.mark.parametrize("page", PAGES)
def test_flat_colours_are_chosen(page):
    assert choose_blocks(PAGES[page](), WEIGHT).mask.mean() > 0.8


GRAY = photo_pixels(96, 128)[..., :1].repeat(3, axis=2)


@pytest.mark.parametrize(
    "pixels", [photo_pixels(96, 128), GRAY, noisy_scan()], ids=["colour", "gray", "scan"]
)
@pytest.mark.parametrize("weight", [10.0, WEIGHT, 1e6])
def test_photographs_and_scans_are_not(pixels, weight):
    assert choose_blocks(pixels, weight) is None


def test_photographs_end_at_the_first_look(monkeypatch):
    monkeypatch.setattr(exact_choice, "cost", None)
    monkeypatch.setattr(exact_choice, "_lossy_cost", None)
    assert choose_blocks(photo_pixels(96, 128), WEIGHT) is None


def test_few_scattered_blocks_of_clipped_sky_are_left_alone():
    """They gain less than the borders around them cost."""
    pixels = photo_pixels(256, 256)
    for y, x in [(20, 30), (90, 150), (170, 60), (200, 200)]:
        pixels[y : y + 40, x : x + 36] = 0
    assert choose_blocks(pixels, 1e5) is None


def squared_error(found, pixels):
    return float(((found.astype(float) - pixels) ** 2).sum()) / 255**2


def test_smooth_edges_become_colours_that_cost_less_than_exact_ones_and_waves():
    pixels = smooth_chart()
    found = choose_blocks(pixels, WEIGHT)
    assert found.mask.mean() > 0.8
    error = WEIGHT * squared_error(found.pixels, pixels)
    settled, exact = (8 * len(encode(of, found.mask)) for of in (found.pixels, pixels))
    assert settled < 0.5 * exact
    assert settled + error < 0.65 * exact


def test_costs_are_those_of_what_pixels_become():
    pixels, mask = smooth_chart(128), np.ones((4, 4), np.uint8)
    costs, settled = settle(pixels, mask, 12, 0.03)
    expected = cost(settled, mask).sum() + 0.03 * 255**2 * squared_error(settled, pixels)
    assert costs.sum() == pytest.approx(expected)


def test_only_colours_of_smooth_edges_are_rounded():
    pixels = smooth_chart()
    found = choose_blocks(pixels, 100.0)  # as coarse as it gets
    changed = (found.pixels != pixels).any(axis=2)
    flat = np.ones(pixels.shape[:2], bool)  # equal to all four neighbours
    for axis, shift in [(0, 1), (0, -1), (1, 1), (1, -1)]:
        flat &= (np.roll(pixels, shift, axis) == pixels).all(axis=2)
    assert changed.any()
    assert not changed[flat].any()


def test_letters_that_repeat_stay_exact():
    page = np.tile(text_page(64, 256), (4, 1, 1))
    assert np.array_equal(choose_blocks(page, WEIGHT).pixels, page)


@pytest.mark.parametrize("page", [text_page, smooth_chart])
def test_nothing_is_rounded_at_the_highest_quality(page):
    assert np.array_equal(choose_blocks(page(), EXACT).pixels, page())


def test_a_block_in_the_midst_of_exact_ones_joins_at_a_cost_below_its_borders():
    """A little grain, cheaper in the lossy code, but not than four borders to exact blocks."""
    page, rng = text_page(160, 224), np.random.default_rng(2)
    page[70:80, 160:192] += rng.integers(-1, 2, (10, 32, 1)).astype(np.uint8)
    gain = exact_choice._gain(page, np.ones((5, 7), bool), EXACT)[0][2, 5]
    assert -4 * exact_choice.BORDER < gain < -200
    assert choose_blocks(page, EXACT).mask[2, 5]


def test_text_beside_a_photograph_is_chosen_alone():
    pixels = np.hstack([photo_pixels(128, 128), text_page()])
    mask = choose_blocks(pixels, WEIGHT).mask
    assert not mask[:, :4].any()
    assert mask[:, 4:].mean() > 0.8


def test_what_is_left_is_smooth_and_keeps_the_other_blocks():
    pixels = np.hstack([photo_pixels(128, 128), text_page()])
    mask = choose_blocks(pixels, WEIGHT).mask
    left = without(pixels, mask)
    seen = np.repeat(np.repeat(mask == 0, 32, axis=0), 32, axis=1)
    assert np.array_equal(left[seen], pixels[seen])
    assert np.abs(np.diff(left[:, 160:].astype(int), axis=1)).max() < 32
    assert np.ptp(without(text_page(), np.ones((4, 8), np.uint8))) <= 8


@pytest.mark.parametrize(
    ("options", "mode"),
    [({}, "RGB"), ({"tile": 4}, "RGB"), ({}, "L"), ({}, "RGBA"), ({"effort": 2}, "RGB")],
    ids=["one tile", "tiles", "gray", "alpha", "effort 2"],
)
def test_files_keep_exact_blocks(unit_model, options, mode):
    codec = Codec(unit_model)
    pixels = checkerboard(80)
    image = Image.fromarray(pixels).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(photo_pixels(80, 80)[..., 0].clip(1)))
    data = codec.encode(image, 60, **options)
    assert 0 < describe(data)["chunks"]["exact"] < 100
    codec.verify(data)
    assert np.array_equal(np.asarray(codec.decode(data)), np.asarray(image))


def test_effort_1_does_without(unit_model):
    data = Codec(unit_model).encode(checkerboard(64), 60, effort=1)
    assert "exact" not in read(data).chunks


@pytest.mark.slow
@pytest.mark.parametrize(("page", "share"), [("text", 0.25), ("bars", 0.2), ("checkerboard", 0.1)])
def test_shipped_weights_at_quality_90(page, share, without_tool):
    """At most a share of the bytes, and the picture is next to exact."""
    codec = load("s", "cpu")
    picture = Picture(pixels=PAGES[page]())
    data = codec.encode(picture, 90)
    assert len(data) < share * len(without_tool(codec, picture, 90))
    assert psnr_db(picture.pixels, codec.decode_picture(data).pixels) > 50


def test_blank_parts_are_not_tried_for_a_few_drawn_blocks(monkeypatch):
    """As of a photograph before a white ground: a few letters cannot pay for the borders."""
    pixels = np.full((512, 512, 3), 255, np.uint8)
    for row in range(0, 512, 128):
        pixels[row : row + 24, 8:40:4] = (0, 0, 0)
    tried = []
    counted = exact_choice._gain

    def counting(pixels, blocks, weight):
        tried.append(int(blocks.sum()))
        gain, settled = counted(pixels, blocks, weight)
        return np.minimum(gain, 150.0), settled

    monkeypatch.setattr(exact_choice, "_gain", counting)
    assert choose_blocks(pixels, WEIGHT) is None
    assert len(tried) == 1
