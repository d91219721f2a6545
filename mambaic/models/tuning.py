"""Weights for the eye: what of a model differs between tune 0 (PSNR) and tune 1 (the eye).

    weights(tune) = (1 - tune) * weights of the model + tune * weights for the eye

Transforms, hyper-analysis, and gains and modulations of the entropy model have weights for the eye;
the walk's networks and the coding tables serve both tastes.
"""

from __future__ import annotations

import copy
import threading

import torch
from torch import Tensor, nn

from mambaic.errors import ConfigError
from mambaic.models.model import MambaIC, joined_ids
from mambaic.nn.blocks import QualityModulation
from mambaic.nn.gains import QualityCurve

FINE = "entropy_model.fine."  # its networks serve both tastes


REACHES = "entropy_model.reaches"


def tuned_parameters(model: MambaIC) -> dict[str, Tensor]:
    """Parameters of which the eye has its own, by name, and the reaches of the walk's layers."""
    roots: list[nn.Module] = [model.transform, model.entropy_model.h_a]
    roots += [m for m in model.modules() if isinstance(m, QualityCurve | QualityModulation)]
    own = {id(parameter) for root in roots for parameter in root.parameters()}
    found: dict[str, Tensor] = {
        n: p for n, p in model.named_parameters() if id(p) in own and not n.startswith(FINE)
    }
    return found | {REACHES: model.get_buffer(REACHES)}


def keep_shared(model: MambaIC) -> None:
    """Train what the eye has of its own alone."""
    tuned = tuned_parameters(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in tuned)


@torch.no_grad()
def tuned(model: MambaIC, tune: float) -> MambaIC:
    """The model at a tune in (0, 1]. Raises ConfigError if it has no weights for the eye."""
    if not model.eye:
        raise ConfigError(
            f"weights {model.weights_id.hex()} ({model.config.name}) are for PSNR alone: use "
            "--tune psnr, or a checkpoint with weights for the eye"
        )
    mixed = copy.deepcopy(model, {id(model.eye): {}})  # without the weights that it is made from
    for name, parameter in tuned_parameters(mixed).items():
        # in float64, where products and sums of stored weights are the same on every machine
        ours, theirs = (of.double().cpu() for of in (parameter, model.eye[name]))
        parameter.copy_((1 - tune) * ours + tune * theirs)
    mixed.tune, mixed.tune_id = tune, b""
    mixed.weights_id = joined_ids(model.weights_id, model.tune_id)
    return mixed


@torch.no_grad()
def beside(model: MambaIC, psnr: dict[str, Tensor]) -> MambaIC:
    """The model of which ``model`` is the one at tune 1 and ``psnr`` are the parameters that differ
    from it."""
    base = copy.deepcopy(model)
    own = tuned_parameters(base)
    base.eye = {name: parameter.detach().cpu().clone() for name, parameter in own.items()}
    for name, parameter in own.items():
        parameter.copy_(psnr[name])
    return base


class Tastes:
    """A model at every tune, each made when first asked for. Safe to use from several threads."""

    def __init__(self, model: MambaIC) -> None:
        self._lock = threading.Lock()
        self._models = {0.0: model}

    def at(self, tune: float) -> MambaIC:
        """Raises ConfigError as ``tuned``."""
        with self._lock:
            if tune not in self._models:
                self._models[tune] = tuned(self._models[0.0], tune)
            return self._models[tune]
