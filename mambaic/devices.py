"""Devices by the names that people give them."""

from __future__ import annotations

import torch

from mambaic.errors import DeviceError

CPU = torch.device("cpu")


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """ "auto", "cpu", "cuda" or "cuda:1", or torch's device, as one that is there, with its index.

    Raises DeviceError that says which ones are.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    picked = _named(device)
    if picked == CPU or picked == torch.device("cpu", 0):
        return CPU
    if picked is None or picked.type != "cuda":
        raise DeviceError(f"device {str(device)!r} is not one of auto, {_there()}")
    if not torch.cuda.is_available():
        raise DeviceError("no CUDA device is available to this torch: use --device cpu")
    check_usable(picked)
    if picked.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    if picked.index >= torch.cuda.device_count():
        raise DeviceError(f"there is no device {picked}: use one of auto, {_there()}")
    return picked


def check_usable(device: torch.device) -> None:
    """Raises DeviceError if this process cannot use CUDA, as one that was forked from a process
    that did."""
    if device.type != "cuda":
        return
    try:
        torch.cuda.init()
    except RuntimeError as exc:
        raise DeviceError(
            f"{device} cannot be used here: {exc}. A forked process cannot use CUDA after its "
            "parent has: start processes by multiprocessing.get_context('spawn'), or use the CPU"
        ) from exc


def _named(device: object) -> torch.device | None:
    if isinstance(device, torch.device):
        return device
    try:
        named = torch.device(device) if isinstance(device, str) else None
    except RuntimeError:
        return None
    # torch takes cuda:65536 for cuda:0
    return named if str(named) == device else None


def _there() -> str:
    return ", ".join(["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))])
