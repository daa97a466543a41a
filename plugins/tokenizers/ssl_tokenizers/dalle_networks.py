"""DALL-E's encoder and decoder, put together from their weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ssl_core.api import CheckpointError
from ssl_tokenizers.dvae_network import Decoder, Encoder, NetworkShape

DOWNSAMPLE = 8
"""Pixels per token and side."""

_BLOCKS = 2
"""Residual blocks in each of the four groups."""


def build_networks(state: Mapping[str, Tensor], source: str) -> tuple[Encoder, Decoder | None]:
    """Builds the networks that the weights belong to, frozen and in eval mode.

    OpenAI's have 256 channels before the first halving and 8192 codes; others of the same design fit as well.

    Args:
        state: "encoder.input.weight" and so on, with names as in `dvae_network`.
        source: where it comes from, for the message.

    Returns:
        the encoder, (B, C, H, W) to (B, V, H / 8, W / 8), and the decoder, if the state has one.

    Raises:
        CheckpointError: these are no weights of DALL-E's networks.
    """
    strange = [name for name in state if not name.startswith(("encoder.", "decoder."))]
    if strange:
        raise CheckpointError(f"{source}: no weights of OpenAI's dVAE: '{strange[0]}' does not belong to them")
    has_decoder = any(name.startswith("decoder.") for name in state)
    try:
        hidden, channels = state["encoder.input.weight"].shape[:2]
        vocab_size = len(state["encoder.output.weight"])
        narrow = len(state["decoder.input.weight"]) if has_decoder else None
        shape = NetworkShape(channels, hidden, _BLOCKS, DOWNSAMPLE, stem=1, decoder_width=narrow)
        with torch.device("meta"):  # nothing is drawn only to be overwritten
            encoder = Encoder(shape, vocab_size)
            decoder = Decoder(shape, vocab_size) if has_decoder else None
        _fill(encoder, state, "encoder.")
        if decoder is not None:
            _fill(decoder, state, "decoder.")
    except KeyError as error:
        raise CheckpointError(f"{source}: no weights of OpenAI's dVAE: {error} is missing") from None
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{source}: no weights of OpenAI's dVAE: {reason}") from None
    return encoder, decoder


def _fill(network: nn.Module, state: Mapping[str, Tensor], prefix: str) -> None:
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    network.load_state_dict(own, assign=True)
    # Channels last: the same results to the bit, and convolutions are faster (a tenth on a CPU).
    network.to(memory_format=torch.channels_last).requires_grad_(False).eval()  # pyright: ignore[reportCallIssue]
