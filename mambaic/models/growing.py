"""Grow a trained model into a deeper one that starts where it is.

[Chen2016] Net2Net, arXiv:1511.05641, Sec. 2.3: layers that are added begin as the identity.
"""

from __future__ import annotations

from torch import nn

from mambaic.config import BLOCK_FIELDS, ModelConfig
from mambaic.errors import ConfigError
from mambaic.models.model import MambaIC
from mambaic.models.tuning import REACHES
from mambaic.nn.attention import WindowAttention
from mambaic.nn.blocks import ResidualBlock, zero_start
from mambaic.nn.vss import VSSBlock

# the layers of a block whose results are added to its input
OUTPUTS: dict[type[nn.Module], tuple[str, ...]] = {
    ResidualBlock: ("conv2",),
    VSSBlock: ("out_proj", "ffn_out"),
    WindowAttention: ("out",),
}


def grow(model: MambaIC, config: ModelConfig) -> MambaIC:
    """A model of ``config`` that computes what ``model`` does: its weights and tables, and blocks
    that add nothing until they are trained; maybe networks for the finest colours, which are
    trained alone.

    Raises ConfigError unless ``config`` differs from the model's in its name, in longer block
    strings and in networks that the model lacks alone.
    """
    small = model.config
    different = []
    for name, new in vars(config).items():
        old = getattr(small, name)
        grows = new.startswith(old) if name in BLOCK_FIELDS else new == old
        grows |= name in ("fine_width", "highest") and not small.fine_width
        grows |= name == "fine_levels"  # of files alone
        if name != "name" and not grows:
            different.append(name)
    if different:
        raise ConfigError(
            f"a model of preset {small.name} cannot grow into {config.name}, which is not the same "
            f"with more blocks ({', '.join(different)}): leave out --preset, or --init"
        )
    grown = MambaIC(config)
    known = {name for name, _ in model.named_modules()}
    for name, module in grown.named_modules():
        if name not in known:
            for output in OUTPUTS.get(type(module), ()):
                zero_start(getattr(module, output))
    state, own = model.state_dict(), grown.state_dict()
    if state[REACHES].shape != own[REACHES].shape:
        del state[REACHES]  # of layers that are not the same: measured at the end of training
    left = grown.load_state_dict(state, strict=False)
    assert not left.unexpected_keys, left.unexpected_keys
    grown.entropy_model.tables = model.entropy_model.tables
    return grown
