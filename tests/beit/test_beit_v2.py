"""BEiT v2 computes its paper's formulas: checked against timm's blocks, put together by hand."""

from __future__ import annotations

import math

import pytest
import timm
import torch
import torch.nn.functional as F
from beit_parts import beit_v2_method, random_batch, randomise
from timm.models.beit import Beit
from timm.models.beit import Block as TimmBlock

from ssl_core.api import Progress, UsageError, load

VOCAB, IMAGES, SIZE = 96, 3, 48
PROGRESS = Progress(0, 1, 1)
TINY = {"width": 32, "depth": 4, "heads": 4, "patch_size": 8}


def test_parameters_with_head_and_mask_token_as_in_the_reference():
    """Counted as the reference does: what is trained in pre-training, with the further blocks and one output layer."""
    with torch.device("meta"):
        method = beit_v2_method(8192, 1, 224, model="vit_base")
    assert sum(parameter.numel() for parameter in method.parameters()) == 106_143_056


class Reference:
    """The same weights in timm's modules, and the paper's section 2.4 written out."""

    def __init__(self, method, early: int):
        plain = method.backbone.options.variant == "plain"
        init_values = None if plain else 0.1
        self.vit = Beit(
            img_size=SIZE,
            patch_size=8,
            embed_dim=32,
            depth=4,
            num_heads=4,
            num_classes=0,
            global_pool="token",
            use_shared_rel_pos_bias=not plain,
            use_abs_pos_emb=plain,
            init_values=init_values,
        )
        own = {name: tensor for name, tensor in method.backbone.state_dict().items() if "index" not in name}
        loaded = self.vit.load_state_dict(own, strict=False)
        assert not loaded.unexpected_keys
        assert all("index" in name for name in loaded.missing_keys)
        self.further = torch.nn.ModuleList()
        for block in method.head.cls_pt_layers:
            twin = TimmBlock(32, 4, qkv_bias=True, init_values=init_values)
            loaded = twin.load_state_dict(block.state_dict(), strict=False)
            assert not loaded.unexpected_keys
            assert not [name for name in loaded.missing_keys if "k_bias" not in name]
            self.further.append(twin)
        self.early = early
        self.mask_token = method.mask_token.detach().clone().requires_grad_()
        self.lm_head = torch.nn.Linear(32, VOCAB)
        self.lm_head.load_state_dict(method.head.lm_head.state_dict())

    def losses(self, pixels, hidden, codes):
        """Returns the cross-entropy of the backbone and of the further blocks."""
        x = self.vit.patch_embed(pixels)
        x = torch.where(hidden.unsqueeze(-1), self.mask_token, x)
        x = torch.cat([self.vit.cls_token.expand(len(x), -1, -1), x], dim=1)
        if self.vit.pos_embed is not None:
            x = x + self.vit.pos_embed
        bias = self.vit.rel_pos_bias() if self.vit.rel_pos_bias is not None else None
        for number, block in enumerate(self.vit.blocks, start=1):
            x = block(x, shared_rel_pos_bias=bias)
            if number == self.early:
                early = x
        summary = torch.cat([x[:, :1], early[:, 1:]], dim=1)
        for block in self.further:
            summary = block(summary, shared_rel_pos_bias=bias)
        logits = [self.lm_head(self.vit.norm(tokens)[:, 1:][hidden]) for tokens in (x, summary)]
        return [F.cross_entropy(guess, codes[hidden]) for guess in logits]


def _louder(method) -> None:
    """Makes parameters large enough for each block to matter."""
    randomise(method, 0.2)
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if "gamma_" in name:
                parameter.fill_(1.0)


def _pair(variant: str, std: float, **head):
    method = beit_v2_method(VOCAB, IMAGES, SIZE, head, variant=variant, **TINY)
    randomise(method, std)
    if std > 0.1:
        _louder(method)
    method.normalize = torch.nn.Identity()
    batch = random_batch(method, IMAGES)
    reference = Reference(method, head.get("early_layers", 3))
    hidden = batch.mask.hidden[:, 0]
    return method, reference, batch, (batch.views["image"], hidden, method.target.targets(batch.views, method.grid))


@pytest.mark.parametrize(("std", "tolerance"), [(0.02, 1e-5), (0.2, 1e-5)])
@pytest.mark.parametrize("variant", ["beit+", "plain"])
@pytest.mark.parametrize("head", [{}, {"early_layers": 1, "head_layers": 3}])
def test_both_losses(variant, head, std, tolerance):
    method, reference, batch, inputs = _pair(variant, std, **head)
    for grad in (True, False):  # the explicit attention and the fused one
        with torch.set_grad_enabled(grad):
            output = method(batch, PROGRESS)
            mim, mim_cls = reference.losses(*inputs)
        torch.testing.assert_close(output.logs["mim"], mim.detach(), atol=tolerance, rtol=0)
        torch.testing.assert_close(output.logs["mim_cls"], mim_cls.detach(), atol=tolerance, rtol=0)
        torch.testing.assert_close(output.loss, mim + mim_cls, atol=2 * tolerance, rtol=0)


def test_gradients():
    method, reference, batch, inputs = _pair("beit+", 0.2)
    method(batch, PROGRESS).loss.backward()
    sum(reference.losses(*inputs)).backward()
    pairs = {
        "mask token": (method.mask_token, reference.mask_token),
        "CLS token": (method.backbone.cls_token, reference.vit.cls_token),
        "final norm": (method.backbone.norm.weight, reference.vit.norm.weight),
        "output layer": (method.head.lm_head.weight, reference.lm_head.weight),
        "last block": (method.backbone.blocks[3].mlp.fc1.weight, reference.vit.blocks[3].mlp.fc1.weight),
        "further block": (method.head.cls_pt_layers[1].attn.qkv.weight, reference.further[1].attn.qkv.weight),
        "bias table": (
            method.backbone.rel_pos_bias.relative_position_bias_table,
            reference.vit.rel_pos_bias.relative_position_bias_table,
        ),
    }
    for name, (ours, theirs) in pairs.items():
        scale = theirs.grad.abs().max()
        assert scale > 0, name
        torch.testing.assert_close(ours.grad / scale, theirs.grad / scale, atol=1e-5, rtol=0, msg=name)


def test_late_patches_cannot_help_the_further_blocks():
    method = beit_v2_method(VOCAB, IMAGES, SIZE, **TINY)
    _louder(method)
    batch = random_batch(method, IMAGES)
    features = method.backbone(batch.views["image"], layers=method.head.layers)
    early, last = features.layers
    before = method.head.aggregate(features)
    cls, patches = last.clone(), last.clone()
    noise = torch.randn(early.shape, generator=torch.Generator().manual_seed(2))  # the norm removes a constant
    cls[:, 0] += noise[:, 0]
    patches[:, 1:] += noise[:, 1:]

    def changed(*layers):
        return (method.head.aggregate(type(features)(**{**vars(features), "layers": layers})) - before).abs().max()

    assert changed(early, cls) > 1e-3
    assert changed(early, patches) == 0
    assert changed(early + noise, last) > 1e-3


@pytest.mark.parametrize(("depth", "early"), [(12, 9), (24, 21), (32, 29), (4, 3), (3, 2), (2, 1)])
def test_where_the_branch_leaves(depth, early):
    with torch.device("meta"):
        method = beit_v2_method(8, 1, 32, **{**TINY, "depth": depth})
    assert method.head.early_layers == early
    assert method.head.layers == (early - 1, depth - 1)


def test_further_blocks_start_as_those_in_their_place_would():
    method = beit_v2_method(8, 1, 32, {"early_layers": 9}, drop_path=0.1, model="vit_tiny", patch_size=16)
    rates = torch.linspace(0, 0.1, 12).tolist()
    assert [block.drop_path.drop_prob for block in method.head.cls_pt_layers] == rates[9:11]
    for number, block in enumerate(method.head.cls_pt_layers, start=10):
        for weight in (block.attn.proj.weight, block.mlp.fc2.weight):
            bound = 0.02 / math.sqrt(2 * number)
            assert 0.99 * bound < weight.abs().max() <= bound * 1.0001
        assert block.attn.qkv.weight.abs().max() <= 0.02
        assert bool((block.gamma_1 == 0.1).all())


def test_it_is_saved_once_and_not_exported():
    method = beit_v2_method(8, 1, 32, **TINY)
    assert not [name for name in method.state_dict() if name.startswith("head.") and "patch_embed" in name]
    assert set(method.export()) == {"backbone"}
    grouped = [name for group in method.param_groups() for name in group.names]
    assert len(grouped) == len(set(grouped)) == len(list(method.parameters()))


def test_every_parameter_gets_a_gradient_and_the_images_are_learnt():
    torch.manual_seed(0)
    method = beit_v2_method(16, 4, 32, **TINY)
    batch = random_batch(method, 4)
    optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3)
    for step in range(60):
        output = method(batch, Progress(step, 60, 60))
        optimizer.zero_grad()
        output.loss.backward()
        assert all(parameter.grad is not None for parameter in method.parameters())
        optimizer.step()
    assert output.logs["mim"] < 1
    assert output.logs["mim_cls"] < 1
    assert output.logs["chance_loss"] == pytest.approx(math.log(16))


@pytest.mark.parametrize(
    ("backbone", "head", "message"),
    [
        ({**TINY, "pool": "mean"}, {}, "backbone.pool=cls"),
        ({**TINY, "depth": 1}, {}, "at least 2"),
        (TINY, {"early_layers": 4}, r"early_layers=4 .*4"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(backbone, head, message):
    with pytest.raises(UsageError, match=message) as caught:
        beit_v2_method(8, 1, 32, head, **backbone)
    assert "\n" not in str(caught.value)


def test_a_published_file_of_pre_training_becomes_a_backbone(tmp_path):
    """In the names of the authors' files, with their further blocks and output layer, whole."""
    method = beit_v2_method(VOCAB, IMAGES, SIZE, **TINY).eval()
    randomise(method, 0.2)
    state = {}
    for name, tensor in method.state_dict().items():
        if "statistics" not in name:
            state[name.removeprefix("backbone.").removeprefix("head.")] = tensor
    names = set(state)
    assert {"mask_token", "lm_head.bias", "cls_pt_layers.1.gamma_2", "blocks.3.attn.q_bias", "norm.weight"} <= names
    torch.save({"model": state, "epoch": 299}, tmp_path / "beitv2.pth")
    backbone = load(tmp_path / "beitv2.pth")
    assert backbone.spec.mean == timm.data.IMAGENET_DEFAULT_MEAN
    pixels = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        found, expected = backbone(pixels), method.backbone(pixels)
    assert torch.equal(found.summary, expected.summary)
    assert torch.equal(found.patches, expected.patches)
