"""Checkpoints: a folder of ``config.json`` and safetensors shards; shipped ones are package data.

Loading untrusted checkpoints is safe: JSON and safetensors hold data, never code (no pickle).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import secrets
import shutil
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mambaic.coding.tables import CONTEXTS, PRECISION, SCALE_COUNT, Tables
from mambaic.config import ModelConfig
from mambaic.container.fields import WEIGHTS_ID_BYTES
from mambaic.errors import CheckpointError, ConfigError
from mambaic.imaging.atomic_files import taking_effect, unfinished
from mambaic.models.model import MambaIC, joined_ids
from mambaic.models.tuning import tuned_parameters
from mambaic.numerics import own_numerics

REACHES = ".reaches"  # how the names of those of layers end: ``mambaic.fixed_point``
TABLES = "tables."  # before the names of their tensors
CONFIG_FILE = "config.json"
SHARD_BYTES = 15 * 10**6
FORMAT = 1
RETIRED = "filter_code."  # tensors of earlier checkpoints that nothing reads any more


def shipped() -> dict[str, Path]:
    """Checkpoints inside the installed package, by name."""
    root = Path(str(resources.files("mambaic.checkpoints")))
    return {path.parent.name: path.parent for path in sorted(root.glob(f"*/{CONFIG_FILE}"))}


def find(name_or_path: str | Path) -> Path:
    """Folder of a shipped checkpoint or of a path. Raises CheckpointError if neither exists."""
    known = shipped()
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    path = Path(name_or_path)
    if path.is_file() and path.name == CONFIG_FILE:
        path = path.parent
    if not (path / CONFIG_FILE).is_file():
        raise CheckpointError(
            f"{name_or_path}: no checkpoint there (a folder with {CONFIG_FILE}); "
            f"shipped ones are {', '.join(known) or 'none'}"
        )
    return path


class Extension(NamedTuple):
    """Networks that were added to weights which stay as they are: files that do not need them name
    the weights without them."""

    prefix: str  # of its tensors' names
    settings: tuple[str, ...]  # fields of ModelConfig


TUNE = "tune"
EXTENSIONS = {
    "fine": Extension("entropy_model.fine.", ("fine_width", "fine_levels", "highest")),
    TUNE: Extension("tune.", ()),  # parameters at tune 1: ``mambaic.models.tuning``
}


def ids_of(tensors: dict[str, Tensor], settings: dict[str, Any]) -> tuple[bytes, dict[str, bytes]]:
    """The id of the weights, and that of each extension that they have."""
    own_tensors, own_settings = dict(tensors), dict(settings)
    found = {}
    for name, (prefix, fields) in EXTENSIONS.items():
        part = {key: own_tensors.pop(key) for key in list(own_tensors) if key.startswith(prefix)}
        chosen = {field: own_settings.pop(field) for field in fields if field in own_settings}
        if part:
            found[name] = weights_id(part, chosen)
    return weights_id(own_tensors, own_settings), found


def readable_ids(description: dict[str, Any]) -> list[bytes]:
    """What names the weights in files that a checkpoint of ``read_config`` decodes."""
    own = bytes.fromhex(description["weights_id"])
    more = [bytes.fromhex(one) for one in description.get("extensions", {}).values()]
    chosen = itertools.product(*([b"", one] for one in more))
    return [joined_ids(own, *some) for some in chosen]


def weights_id(tensors: dict[str, Tensor], settings: dict[str, Any]) -> bytes:
    """First bytes of the SHA-256 over model settings, tables and weights as stored."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()[:WEIGHTS_ID_BYTES]


def model_tensors(model: MambaIC, *, half: bool) -> dict[str, Tensor]:
    """Weights and tables as they are stored; ``half`` keeps weight matrices as fp16."""
    tables = model.entropy_model.tables
    if tables is None:
        raise CheckpointError("a model without coding tables cannot be saved: call update() first")
    tensors = {}
    eye = {EXTENSIONS[TUNE].prefix + name: tensor for name, tensor in model.eye.items()}
    for name, tensor in (model.state_dict() | eye).items():
        matrix = tensor.is_floating_point() and tensor.ndim >= 2 and "values" not in name
        stored = tensor.half() if half and matrix else tensor
        tensors[name] = stored.detach().cpu().contiguous()
    return tensors | {TABLES + name: tensor for name, tensor in tables.tensors().items()}


def save_model(
    model: MambaIC, path: str | Path, card: dict[str, Any] | None = None, *, half: bool = True
) -> None:
    """Write a checkpoint folder: whole or not at all. ``card`` is kept as JSON beside the weights.

    Raises CheckpointError if the folder cannot be written; the previous one is then untouched.
    """
    path = Path(path)
    tensors = model_tensors(model, half=half)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished(path.parent / f".{path.name}-{secrets.token_hex(8)}") as folder:
            fresh = folder / "new"
            fresh.mkdir(parents=True)
            _write_folder(fresh, tensors, model.config, card or {})
            if path.exists():
                _keep_companions(path, fresh)
            with taking_effect():
                if path.exists():
                    os.replace(path, folder / "old")
                os.replace(fresh, path)
    except (OSError, SafetensorError) as exc:
        raise CheckpointError(f"{path}: checkpoint not written: {exc}") from exc


def _keep_companions(old: Path, fresh: Path) -> None:
    """Carry over files that are not ours to write (a model card, say)."""
    for file in old.iterdir():
        ours = file.name == CONFIG_FILE or file.suffix == ".safetensors"
        if file.is_file() and not ours:
            shutil.copy2(file, fresh / file.name)


def _write_folder(
    folder: Path, tensors: dict[str, Tensor], config: ModelConfig, card: dict[str, Any]
) -> None:
    # reaches in a file of their own: they change without the weights
    reaches = {key: tensor for key, tensor in tensors.items() if key.endswith(REACHES)}
    weights = {key: tensor for key, tensor in tensors.items() if key not in reaches}
    groups = {"weights": weights, "reaches": reaches}
    for name, extension in EXTENSIONS.items():
        keys = [key for key in weights if key.startswith(extension.prefix)]
        groups[name] = {key: weights.pop(key) for key in keys}
    files = []
    for name, group in groups.items():
        for number, shard in enumerate(_shards(group), start=1):
            files.append(f"{name}-{number:05d}.safetensors")
            save_file(shard, str(folder / files[-1]))
    own, extensions = ids_of(tensors, config.to_dict())
    description = {
        "format": FORMAT,
        "weights_id": own.hex(),
        "extensions": {name: one.hex() for name, one in extensions.items()},
        "shards": files,
        "model": config.to_dict(),
        "card": card,
    }
    (folder / CONFIG_FILE).write_text(json.dumps(description, indent=1) + "\n")


def _shards(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """In order of their names, in parts of at most SHARD_BYTES."""
    shards: list[dict[str, Tensor]] = []
    size = 0
    for name in sorted(tensors):
        n_bytes = tensors[name].numel() * tensors[name].element_size()
        if not shards or size + n_bytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensors[name]
        size += n_bytes
    return shards


def read_config(name_or_path: str | Path) -> dict[str, Any]:
    """The JSON description of a checkpoint: model, weights_id, shards, card."""
    path = find(name_or_path) / CONFIG_FILE
    try:
        description = json.loads(path.read_text())
    except (OSError, ValueError) as exc:
        raise CheckpointError(f"{path}: unreadable: {exc}") from exc
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of format {FORMAT}")
    return description


def has_eye(name_or_path: str | Path) -> bool:
    """Whether a checkpoint has weights for the eye, which ``compress`` then uses by default."""
    return TUNE in read_config(name_or_path).get("extensions", {})


@own_numerics()
def load_model(name_or_path: str | Path, device: str | torch.device = "cpu") -> MambaIC:
    """Model of a checkpoint, in eval mode, weights as fp32. Raises CheckpointError."""
    folder = find(name_or_path)
    description = read_config(folder)
    try:
        config = ModelConfig.from_dict(description["model"])
        tensors: dict[str, Tensor] = {}
        for shard in description["shards"]:
            tensors.update(load_file(str(folder / Path(shard).name)))
    except (KeyError, TypeError, OSError, SafetensorError, ConfigError) as exc:
        raise CheckpointError(f"{folder}: unreadable checkpoint: {exc}") from exc
    found, extensions = ids_of(tensors, description["model"])
    wanted = {"": description.get("weights_id"), **description.get("extensions", {})}
    for name, one in {"": found, **extensions}.items():
        if one.hex() != wanted.get(name):
            raise CheckpointError(
                f"{folder}: {name or 'weights'} damaged (id {one.hex()}, expected "
                f"{wanted.get(name)}); fetch the checkpoint again"
            )
    model = _empty_model(config)
    tables = _take_tables(tensors, folder)
    try:
        state = {
            n: t.float() if t.dtype == torch.float16 else t
            for n, t in tensors.items()
            if not n.startswith(RETIRED)
        }
        model.eye = _take_eye(model, state)
        model.load_state_dict(state, assign=True)
    except RuntimeError as exc:
        raise CheckpointError(f"{folder}: weights do not fit the model: {exc}") from exc
    model.entropy_model.tables = tables
    model.weights_id = found
    model.fine_id, model.tune_id = (extensions.get(name, b"") for name in ("fine", TUNE))
    return model.to(device).to(memory_format=torch.channels_last).eval()


def _take_eye(model: MambaIC, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the weights for the eye. Raises RuntimeError if they do not fit the model."""
    prefix = EXTENSIONS[TUNE].prefix
    eye = {n.removeprefix(prefix): state.pop(n) for n in sorted(state) if n.startswith(prefix)}
    shapes = {name: parameter.shape for name, parameter in tuned_parameters(model).items()}
    if eye and {name: tensor.shape for name, tensor in eye.items()} != shapes:
        raise RuntimeError("those for the eye differ from what the model has")
    return eye


def _empty_model(config: ModelConfig) -> MambaIC:
    """Model whose weights will all be replaced, whatever the default dtype makes of its own. Not on
    the meta device: its first use imports torch's decompositions, seconds of every command."""
    with torch.random.fork_rng(devices=[]):
        return MambaIC(config)


def _take_tables(tensors: dict[str, Tensor], folder: Path) -> Tables:
    """Remove the tables from ``tensors`` and check what decoding relies on."""
    try:
        stored = {n: tensors.pop(n) for n in sorted(tensors) if n.startswith(TABLES)}
        tables = Tables.from_tensors({n.removeprefix(TABLES): t for n, t in stored.items()})
    except KeyError as exc:
        raise CheckpointError(f"{folder}: coding tables are missing") from exc
    radius, frequencies = tables.radius, tables.frequencies
    sizes_fit = len(radius) == CONTEXTS * SCALE_COUNT and int(np.sum(2 * radius + 2)) == len(
        frequencies
    )
    if not sizes_fit or (radius < 1).any() or (frequencies < 1).any():
        raise CheckpointError(f"{folder}: coding tables are malformed")
    rows = itertools.product(range(CONTEXTS), range(SCALE_COUNT))
    if any(int(tables.table(*row).sum()) != 1 << PRECISION for row in rows):
        raise CheckpointError(f"{folder}: coding tables do not sum to 2**{PRECISION}")
    return tables
