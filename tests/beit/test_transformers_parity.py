"""Our BEiT computes what transformers' does: codes, loss and gradients."""

from __future__ import annotations

import pytest
import torch
from beit_parts import beit_method, random_batch, randomise
from reference_maps import to_transformers

from ssl_core.api import Progress

VOCAB, IMAGES = 96, 3
PROGRESS = Progress(0, 1, 1)


def _pair(variant: str, std: float):
    from transformers import BeitConfig, BeitForMaskedImageModeling

    shared = variant == "beit+"
    method = beit_method(VOCAB, IMAGES, 96, variant=variant, model="vit_tiny", depth=4)
    randomise(method, std)
    method.normalize = torch.nn.Identity()
    config = BeitConfig(
        vocab_size=VOCAB,
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=3,
        intermediate_size=768,
        image_size=96,
        patch_size=16,
        layer_norm_eps=1e-6,
        use_mask_token=True,
        use_shared_relative_position_bias=shared,
        use_relative_position_bias=False,
        use_absolute_position_embeddings=not shared,
        layer_scale_init_value=0.1 if shared else 0.0,
        drop_path_rate=0.0,
        attn_implementation="eager",
    )
    reference = BeitForMaskedImageModeling(config)
    loaded = reference.load_state_dict(to_transformers(method), strict=False)
    assert not loaded.unexpected_keys
    assert not loaded.missing_keys
    return method, reference, random_batch(method, IMAGES)


def _reference_output(reference, method, batch):
    hidden = batch.mask.hidden[:, 0]
    codes = method.target.targets(batch.views, method.grid)
    return reference(batch.views["image"], bool_masked_pos=hidden, labels=codes[hidden])


@pytest.mark.parametrize(("std", "tolerance"), [(0.02, 1e-5), (0.2, 1e-3)])
@pytest.mark.parametrize("mode", ["train", "no_grad"])
@pytest.mark.parametrize("variant", ["beit+", "plain"])
def test_logits_and_loss(variant, mode, std, tolerance):
    """`no_grad` takes the fused attention kernel, `train` the explicit one. At the larger scale (logits of
    about 3) attention is far from uniform, so that a wrong bias would show."""
    method, reference, batch = _pair(variant, std)
    with torch.set_grad_enabled(mode == "train"):
        features = method._encode(batch.views["image"], batch.mask)
        logits = method.head.lm_head(features.patches)[batch.mask.hidden[:, 0]]
        output = method(batch, PROGRESS)
        expected = _reference_output(reference, method, batch)
    torch.testing.assert_close(logits, expected.logits[batch.mask.hidden[:, 0]], atol=tolerance, rtol=0)
    torch.testing.assert_close(output.loss, expected.loss, atol=tolerance, rtol=0)


@pytest.mark.parametrize("variant", ["beit+", "plain"])
def test_gradients(variant):
    method, reference, batch = _pair(variant, 0.2)
    method(batch, PROGRESS).loss.backward()
    _reference_output(reference, method, batch).loss.backward()
    ours = dict(method.named_parameters())
    theirs = dict(reference.named_parameters())
    names = {"mask_token": "beit.embeddings.mask_token", "head.lm_head.weight": "lm_head.weight"}
    if method.backbone.rel_pos_bias is not None:
        table = "rel_pos_bias.relative_position_bias_table"
        names["backbone." + table] = "beit.shared_position_bias.relative_position_bias_table"
        names["backbone.blocks.2.gamma_1"] = "beit.layers.2.lambda_1"
        names["backbone.blocks.3.gamma_2"] = "beit.layers.3.lambda_2"
    else:
        names["backbone.pos_embed"] = "beit.embeddings.position_embeddings"
    for our_name, their_name in names.items():
        gradient = ours[our_name].grad
        scale = gradient.abs().max()
        assert scale > 1e-5, our_name
        torch.testing.assert_close(gradient / scale, theirs[their_name].grad / scale, atol=1e-5, rtol=0)
