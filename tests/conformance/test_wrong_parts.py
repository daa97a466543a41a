"""A part that breaks a promise is caught, by the right check, with a message that says what to change."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl_core.plugins.registry import Registry
from ssl_core.testing.check import bound_checks
from ssl_core.testing.conformance import Request

FILE = Path(__file__).with_name("wrong_parts.py")
WRONG = {
    "masker Undocumented": ("options_have_help", "ratio", "write a string below each field"),
    "masker FloatMasker": ("masks_have_the_right_shape_and_dtype", "float32", "numpy bool array"),
    "masker FlatMasker": ("masks_have_the_right_shape_and_dtype", "(7, 9)", "(masks_per_image, h, w)"),
    "masker HidesAll": ("hides_some_and_shows_some", "all of its 63 patches hidden", "at least one patch visible"),
    "masker UnevenMasker": ("hides_as_many_as_it_promises", "equal_counts promises", "equal_counts = False"),
    "masker GlobalMasker": ("leaves_global_generators_alone", "global `random`", "`rng` and `batch_rng`"),
    "masker CountingMasker": ("same_seed_same_mask", "drawn a second time", "keep nothing from one call"),
    "masker SameMasker": ("images_differ", "one and the same mask", "draw the mask from `rng`"),
    "masker LambdaMasker": ("goes_to_the_data_workers", "look at the attribute choose", "keep no lambdas"),
    "tokenizer IntTokenizer": ("targets_have_the_right_shape_and_dtype", "int32", "end with .long()"),
    "tokenizer WideTokenizer": ("targets_have_the_right_shape_and_dtype", "vocab_size is 4", "clamp ids"),
    "tokenizer NoisyTokenizer": ("draws_nothing_at_random", "generator of torch", "likeliest code"),
    "tokenizer BatchTokenizer": (
        "an_image_gets_the_same_targets_alone",
        "within a batch",
        "no statistics of the batch",
    ),
    "tokenizer ForgetfulTokenizer": ("state_comes_back", "gives other targets", "register_buffer"),
    "tokenizer DriftingTokenizer": ("nothing_of_it_is_trained", "changed its seen", "leave the tokenizer as it is"),
    "tokenizer BrightDecoder": ("pictures_are_pictures", "not from 0 to 1", ".clamp(0, 1)"),
    "target LeakyTarget": ("gives_no_gradient", "carry a gradient", "@torch.no_grad()"),
    "target BoundTarget": ("nothing_of_it_is_trained", "the backbone's own parameters", "copy.deepcopy(backbone)"),
    "target ShortTarget": ("targets_have_the_right_shape_and_dtype", "(4, 15, 3)", "one vector for each patch"),
    "head VectorLoss": ("losses_are_scalars", "not a 0-d tensor", ".mean()"),
    "head VisibleLoss": ("only_hidden_places_count", "targets of visible patches", "mask.ids"),
    "head UnusedWeight": ("every_weight_gets_a_gradient", "spare.weight", "or remove it"),
    "head BlindHead": ("guesses_fit_the_targets", "float32", "int64 ids"),
    "backbone OffByOne": ("depths_of_parameters_rise", "layer_id('blocks.0.", "return 1"),
    "backbone LostPositions": ("kept_patches_keep_their_positions", "another order", "then gather ids"),
    "backbone PrefixInPatches": ("features_have_the_right_shapes", "(3, 17, 16)", "the patches (B, N, D) alone"),
    "backbone SortedLayers": ("layers_come_in_the_order_asked", "another order", "for i in layers"),
    "backbone BatchBackbone": ("an_image_is_encoded_alike_alone", "within a batch", "no statistics of the batch"),
    "backbone BreakingBlocks": ("blocks_compile_whole", "several graphs", "keep .item()"),
    "method FloatLogs": ("a_step_gives_a_loss", "the log 'seen' is float", "value.detach()"),
    "method TrainsItsTarget": ("targets_are_left_alone", "scale would be trained", "requires_grad_(False)"),
    "method KeepsItsState": ("method_state_comes_back", "gives the loss", "register_buffer"),
    "method GlobalMethod": ("same_seed_same_loss", "the same step gave", "torch's generator alone"),
    "method OwnCentre": ("two_processes_learn_the_same", "different weights or buffers", "values of all processes"),
    "transform FloatViews": ("views_have_the_right_shape_and_dtype", "float32", "return uint8"),
    "dataset Greys": ("images_are_rgb", "is L", 'convert("RGB")'),
    "evaluator TensorResult": ("the_result_is_plain_values", "not JSON-ready", "float(...)"),
    "checkpoint_format TakesEverything": ("strangers_are_not_recognised", "for its own", "names that only this"),
    "monitor TouchyMonitor": ("leaves_the_run_alone", "watched", "leave weights, buffers"),
}
"""Part -> the check that must catch it, what the message says of it, and of what to change."""

MORE = {
    "dataset Greys": ["size_does_not_decode", "images_have_names", "labels_fit_the_classes"],
    "evaluator TensorResult": ["the_backbone_is_left_alone", "has_what_its_kind_needs"],
    "checkpoint_format TakesEverything": ["ignored_names_are_patterns"],
    "masker GlobalMasker": ["same_seed_same_mask"],
    "method KeepsItsState": ["a_resumed_run_is_the_same"],
    "transform FloatViews": ["has_what_its_kind_needs"],
}
"""Part -> further checks that it fails."""


@pytest.fixture(scope="module")
def registry():
    return Registry.load(files=[FILE])


@pytest.mark.parametrize("part", WRONG)
def test_a_wrong_part_is_caught(part, registry):
    kind, name = part.split()
    check, what, fix = WRONG[part]
    checks = {one.name: one for one in bound_checks(Request(f"wrong_parts:{name}", kind), registry)}
    verdict = checks[check].run()
    assert verdict.state == "failed", verdict
    assert what in verdict.what
    assert fix in verdict.fix
    expected = "stand_ins.py:" if name == "Undocumented" else f"{name} ({FILE}:"
    assert expected in verdict.message
    for other in MORE.get(part, ()):
        assert checks[other].run().state == "failed", other


def test_every_wrong_part_is_tested(registry):
    there = {
        f"{match.component.kind} {match.component.name}"
        for match in registry.components()
        if match.plugin.name == "wrong_parts"
    }
    assert there == set(WRONG)
