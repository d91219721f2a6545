"""Picture by picture: which pictures count, which setting a picture takes, who loses where."""

from __future__ import annotations

import pytest

from mambaic.evaluation.equal_bytes import at_equal_bytes
from mambaic.evaluation.measure import Point
from mambaic.evaluation.pictures import better_settings, comparable, duels

QUALITIES = (10, 40, 80)


def points(codec, image, factor=1.0, *, setting="", exact=False, upto=3, score=0.0):
    """A curve whose rate is ``factor`` times the plain one's."""
    return [
        Point(
            image=image,
            codec=codec,
            setting=setting,
            quality=float(quality),
            width=100,
            height=80,
            bytes=int(1000 * factor * 2**step),
            bpp=factor * 2**step,
            psnr_db=None if exact else 28.0 + 4 * step,
            ms_ssim=None,
            ssimulacra2=40.0 + 20 * step + score,
            cvvdp=None,
            encode_s=0.1,
            decode_s=0.1,
        )
        for step, quality in enumerate(QUALITIES[:upto])
    ]


def test_pictures_that_bend_a_mean_are_left_out_of_all():
    found = [
        *points("mbic", "plain"),
        *points("jpeg", "plain"),
        *points("mbic", "wide"),
        *points("jpeg", "wide", upto=1),
        *points("mbic", "black"),
        *points("jpeg", "black", exact=True),
    ]
    kept, why = comparable(found)
    assert {p.image for p in kept} == {"plain"}
    assert why == {
        "wide": "not coded by jpeg",
        "black": "coded exactly by jpeg, so its PSNR is infinite",
    }


def test_all_points_stay_where_no_picture_would():
    found = points("jpeg", "black", exact=True)
    kept, why = comparable(found)
    assert kept == found
    assert set(why) == {"black"}


def test_a_picture_takes_the_setting_of_fewer_bits_at_equal_ssimulacra2():
    found = [
        *points("avif", "photo", 1.0, setting="4:2:0", score=4),
        *points("avif", "photo", 1.0, setting="4:4:4"),
        *points("avif", "chart", 1.2, setting="4:2:0"),
        *points("avif", "chart", 1.0, setting="4:4:4"),
        *points("avif", "short", 1.0, setting="4:2:0", upto=2),
        *points("avif", "short", 2.0, setting="4:4:4"),
        *points("jpeg", "photo"),
    ]
    taken = {(p.codec, p.image): p.setting for p in better_settings(found)}
    assert taken == {
        ("avif", "photo"): "4:2:0",
        ("avif", "chart"): "4:4:4",
        ("avif", "short"): "4:4:4",
        ("jpeg", "photo"): "",
    }
    assert len(better_settings(found)) == 4 * len(QUALITIES)


def test_a_duel_names_the_share_and_the_picture_that_ours_loses():
    found = []
    for image, factor in {"a": 0.5, "b": 1.2, "c": 0.8, "d": 0.9}.items():
        found += [*points("mbic", image, factor), *points("avif", image)]
    by_metric = {d.metric.name: d for d in duels(found, {"mbic"})}
    assert set(by_metric) == {"PSNR", "SSIMULACRA2"}
    duel = by_metric["SSIMULACRA2"]
    assert (duel.ours, duel.other) == ("mbic", "avif")
    assert duel.share_lost == 0.25
    assert duel.worst == ("b", pytest.approx(20, abs=0.1))
    assert duel.mean == pytest.approx((-50 + 20 - 20 - 10) / 4, abs=0.1)


def test_at_equal_bytes_a_quality_is_read_off_the_other_curve():
    """Curves of 4 dB and 20 points an octave: half the rate is 4 dB more at equal bytes."""
    found = []
    for image, factor in {"a": 0.5, "b": 2**0.25, "c": 2**-0.25}.items():
        found += [*points("mbic", image, factor), *points("avif", image)]
    found_at = {(e.metric.name, e.quality): e for e in at_equal_bytes(found, {"mbic"})}
    middle = found_at["PSNR", 40.0]
    assert middle.differences == pytest.approx({"a": 4.0, "b": -1.0, "c": 1.0}, abs=1e-6)
    assert middle.worst == ("b", pytest.approx(-1.0))
    assert middle.share_lost == pytest.approx(1 / 3)
    assert found_at["SSIMULACRA2", 40.0].mean == pytest.approx((20 - 5 + 5) / 3)
    # the smallest files of a and c and the largest of b lie beyond those of the other codec
    assert set(found_at["PSNR", 10.0].differences) == {"b"}
    assert set(found_at["PSNR", 80.0].differences) == {"a", "c"}
