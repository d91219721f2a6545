"""Damaged files end in the typed error; see scripts/fuzz.py for the long runs."""

from __future__ import annotations

import random

import pytest
from fuzz import forge, mutate, outcome, seeds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mambaic.codec import Codec
from mambaic.container.fields import read
from mambaic.errors import BitstreamError


@pytest.fixture(scope="module")
def codec(unit_model):
    return Codec(unit_model)


@pytest.fixture(scope="module")
def files(codec):
    return seeds(codec)


def test_every_truncation_is_refused(codec, files):
    for data in files:
        for length in range(len(data)):
            assert outcome(codec, data[:length]) != "decoded"


def test_random_damage_is_refused(codec, files):
    rng = random.Random(1)
    for _ in range(2000):
        data = mutate(rng.choice(files), rng)
        assert data in files or outcome(codec, data) != "decoded"


def test_forged_damage_ends_in_a_typed_error_or_a_picture(codec, files):
    rng = random.Random(2)
    ends = {outcome(codec, forge(mutate(rng.choice(files), rng))) for _ in range(100)}
    assert "DesyncError" in ends or "CorruptStream" in ends


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=200))
def test_parser_meets_any_bytes(body):
    with pytest.raises(BitstreamError):
        read(forge(b"MBIC\x02" + body + b"    "), max_pixels=1 << 12)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=300))
def test_entropy_decoder_meets_any_bytes(codec, payload):
    """Noise decodes to noise, and its CRC says so."""
    with pytest.raises(BitstreamError):
        codec.model.entropy_model.decode(payload, (4, 4), 50.0)
