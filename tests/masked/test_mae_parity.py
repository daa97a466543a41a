"""Our MAE computes what transformers' does: positions, predictions, loss and gradients; and has its size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from masked_parts import fill, masked_method, noise_batch

from ssl_core.api import Progress, from_huggingface_vit

IMAGES, PROGRESS = 3, Progress(0, 1, 1)
SMALL = {"backbone__width": 32, "backbone__depth": 2, "backbone__heads": 4}
SMALL |= {"backbone__patch_size": 8, "head__width": 16, "head__depth": 2, "head__heads": 2}


def _reference(image_size: int = 48, **options):
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    config = {
        "image_size": image_size,
        "patch_size": 8,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "decoder_hidden_size": 16,
        "decoder_num_hidden_layers": 2,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 64,
        "layer_norm_eps": 1e-6,
    }
    return ViTMAEForPreTraining(ViTMAEConfig(**{**config, **options}))


def _positions(side: int, width: int) -> torch.Tensor:
    """Returns the paper's positions (1, 1 + N, D), computed in float64: the column's sines and cosines, then the
    row's, after a row of zeros."""
    row, column = np.divmod(np.arange(side * side), side)
    omega = 10000.0 ** -(np.arange(width // 4) / (width // 4))
    angles = [np.outer(place, omega) for place in (column, row)]
    table = np.concatenate([function(angle) for angle in angles for function in (np.sin, np.cos)], axis=1)
    return torch.from_numpy(np.pad(table, ((1, 0), (0, 0)))).float()[None]


def _ours(reference) -> dict[str, torch.Tensor]:
    """Returns the reference's weights in our names, without the fixed positions of the decoder."""
    state = reference.state_dict()
    backbone = from_huggingface_vit({name: tensor for name, tensor in state.items() if name.startswith("vit.")})
    decoder = {name.removeprefix("decoder."): state[name] for name in state if name.startswith("decoder.")}
    decoder.pop("decoder_pos_embed")
    blocks = from_huggingface_vit(
        {name.replace("decoder_layers.", "layers."): decoder.pop(name) for name in list(decoder) if "_layers." in name}
    )
    renamed = {f"backbone.vit.{name}": tensor for name, tensor in backbone.items()}
    return renamed | {f"head.{name.removeprefix('decoder_')}": tensor for name, tensor in {**decoder, **blocks}.items()}


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("std", [0.02, 0.2])
def test_predictions_loss_and_gradients(std, normalize):
    """At the larger scale attention is far from uniform, so that a misplaced token would show."""
    method = masked_method("mae", 48, **SMALL, tokenizer__normalize=normalize)
    batch = noise_batch(method, IMAGES)
    reference = _reference(norm_pix_loss=normalize)
    fill(reference, std)
    # transformers 5 leaves the positions of a model that is not loaded at 0.
    reference.vit.embeddings.position_embeddings.data = _positions(6, 32)
    reference.decoder.decoder_pos_embed.data = _positions(6, 16)
    method.load_state_dict(_ours(reference))
    hidden = batch.mask.hidden[:, 0]  # (B, N)
    expected = reference(method.normalize(batch.views["image"]), noise=hidden.float())
    assert torch.equal(expected.mask.bool(), hidden)

    output = method(batch, PROGRESS)
    assert output.loss.item() == pytest.approx(expected.loss.item(), rel=1e-5)
    features = method._encode(batch.views["image"], batch.mask)
    predicted = method.head.predict(features, batch.mask)
    torch.testing.assert_close(predicted.flatten(0, 1), expected.logits[hidden], atol=1e-5, rtol=1e-4)

    output.loss.backward()
    expected.loss.backward()
    pairs = [
        (method.head.mask_token, reference.decoder.mask_token),
        (method.head.embed.weight, reference.decoder.decoder_embed.weight),
        (method.backbone.vit.cls_token, reference.vit.embeddings.cls_token),
        (method.backbone.vit.patch_embed.proj.weight, reference.vit.embeddings.patch_embeddings.projection.weight),
    ]
    for one, two in pairs:
        torch.testing.assert_close(one.grad, two.grad, atol=1e-5, rtol=1e-4)


def test_positions_are_those_of_the_published_weights():
    method, reference = masked_method("mae", 48, **SMALL), _reference()
    reference.decoder.initialize_weights(36)
    vit = method.backbone.vit
    torch.testing.assert_close(vit.pos_embed.data, _positions(6, 32), atol=1e-6, rtol=0)
    torch.testing.assert_close(method.head.positions, reference.decoder.decoder_pos_embed.data, atol=1e-6, rtol=0)
    torch.testing.assert_close(method.head.positions, _positions(6, 16), atol=1e-6, rtol=0)
    assert not vit.pos_embed.requires_grad


SIZES = {
    "vit_base": (85_798_656, 111_907_840, {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}),
    "vit_large": (303_301_632, 329_541_888, {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}),
}
"""Parameters of the encoder and of encoder and decoder, fixed positions among them."""


@pytest.mark.parametrize("model", SIZES)
def test_parameters_of_the_published_models(model):
    encoder, whole, sizes = SIZES[model]
    with torch.device("meta"):
        method = masked_method("mae", 224, backbone__model=model)
        published = {"decoder_hidden_size": 512, "decoder_num_hidden_layers": 8, "decoder_num_attention_heads": 16}
        published |= {"intermediate_size": 4 * sizes["hidden_size"], "decoder_intermediate_size": 2048}
        reference = _reference(224, patch_size=16, **sizes, **published)
    count = sum(parameter.numel() for parameter in method.parameters()) + method.head.positions.numel()
    assert count == sum(parameter.numel() for parameter in reference.parameters()) == whole
    assert sum(parameter.numel() for parameter in method.backbone.parameters()) == encoder
    assert sum(parameter.numel() for parameter in reference.vit.parameters()) == encoder


def test_weights_start_as_the_references():
    torch.manual_seed(0)
    method = masked_method("mae", 48, **SMALL | {"backbone__width": 64})
    for layer, inputs, outputs in [
        (method.backbone.vit.blocks[0].attn.qkv, 64, 192),
        (method.backbone.vit.patch_embed.proj, 3 * 64, 64),
        (method.head.pred, 16, 3 * 64),
    ]:
        bound = (6 / (inputs + outputs)) ** 0.5
        assert 0.97 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
        assert not layer.bias.any()
    method = masked_method("mae", 48, **SMALL | {"backbone__width": 1024, "head__width": 1024})
    for token in (method.backbone.vit.cls_token, method.head.mask_token):
        assert token.std().item() == pytest.approx(0.02, rel=0.1)
