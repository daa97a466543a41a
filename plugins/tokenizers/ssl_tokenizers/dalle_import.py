"""OpenAI's two pickled files as one export of the tokenizer `dalle`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from ssl_core.api import CheckpointError, write_export
from ssl_tokenizers.dalle_networks import build_networks
from ssl_tokenizers.pickled_module import read_pickled_module

COMPONENT = "tokenizers:dalle"

_PARTS = {"dall_e.encoder.Encoder": "encoder", "dall_e.decoder.Decoder": "decoder"}
"""Class of the outermost module -> what it is to us."""

_CLASSES = (
    *_PARTS,
    "dall_e.encoder.EncoderBlock",
    "dall_e.decoder.DecoderBlock",
    "dall_e.utils.Conv2d",
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.pooling.MaxPool2d",
    "torch.nn.modules.upsampling.Upsample",
    "torch.nn.modules.linear.Identity",
    "torch.nn.modules.activation.ReLU",
)
"""All module classes in these files."""

_BLOCK = re.compile(r"blocks\.group_(\d+)\.block_(\d+)\.(?:res_path\.conv_(\d+)|id_path)")
_KINDS = {"w": "weight", "b": "bias"}


def import_dalle(encoder: Path, decoder: Path | None, out: Path, sha256: Sequence[str] = ()) -> dict[str, str]:
    """Reads OpenAI's files without running code from them, and writes `out` with its JSON beside it.

    Args:
        encoder: encoder.pkl.
        decoder: decoder.pkl; None = the tokenizer will encode only.
        out: a safetensors file.
        sha256: what the files must hash to, in this order; none = not known.

    Returns:
        the sha256 of each file, by "encoder" and "decoder". It is kept in the JSON.

    Raises:
        CheckpointError: one of the files is not what it should be.
    """
    files = {"encoder": encoder} if decoder is None else {"encoder": encoder, "decoder": decoder}
    found: dict[str, str] = {}
    state: dict[str, Tensor] = {}
    for position, (part, file) in enumerate(files.items()):
        found[part] = _sha256(file)
        if position < len(sha256) and found[part] != sha256[position].lower():
            raise CheckpointError(f"{file}: damaged, or another file: its sha256 is {found[part]}")
        name, tensors = read_pickled_module(file, _CLASSES)
        if _PARTS.get(name) != part:
            raise CheckpointError(f"{file}: holds a {name}, not the {part}; give encoder.pkl first, then decoder.pkl")
        state |= {f"{part}.{our_name(key, file)}": tensor for key, tensor in tensors.items()}
    build_networks(state, " and ".join(str(file) for file in files.values()))  # refuses what does not fit
    write_export(out, state, {"slot": "tokenizer", "component": COMPONENT, "options": {}, "sha256": found})
    return found


def our_name(name: str, file: Path) -> str:
    """Returns the name in `dvae_network` of a parameter of OpenAI's modules.

    blocks.group_2.block_1.res_path.conv_3.w is groups.1.0.convs.2.weight.

    Raises:
        CheckpointError: there is no such parameter in them.
    """
    place, _, kind = name.rpartition(".")
    match = _BLOCK.fullmatch(place)
    ours: Mapping[str, str] = {"blocks.input": "input", "blocks.output.conv": "output"}
    if kind not in _KINDS or (match is None and place not in ours):
        raise CheckpointError(f"{file}: has a parameter '{name}', which OpenAI's dVAE has not")
    if match is None:
        return f"{ours[place]}.{_KINDS[kind]}"
    group, block, conv = match.groups()
    inner = "skip" if conv is None else f"convs.{int(conv) - 1}"
    return f"groups.{int(group) - 1}.{int(block) - 1}.{inner}.{_KINDS[kind]}"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
