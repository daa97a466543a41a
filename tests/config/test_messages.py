"""Every line that a wrong option is answered with."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from paper_parts import paper_registry
from pydantic import Field, model_validator

from ssl_core.api import Options, parse_settings, validate_options
from ssl_core.config.request import Request
from ssl_core.config.select import select
from ssl_core.errors import ConfigError


def lines(settings: dict, method: str = "guess", **keywords) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        select(Request.from_keywords(method=method, settings=settings, **keywords), paper_registry())
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("optim.lrr", "1", "no such option. Did you mean 'optim.lr'?"),
        ("optim.epochs", "1", "no such option. Did you mean 'train.epochs'?"),
        ("train.epochs", "ten", "'ten' is not a number"),
        ("train.steps", "1.5", "'1.5' is not a whole number"),
        ("train.steps", "yes", "'yes' is not a whole number"),
        ("masker.ratio", "1.4", "1.4 is too large; at most 1"),
        ("masker.ratio", 1.4, "1.4 is too large; at most 1"),
        ("masker.ratio", "0", "0 is too small; it must be above 0"),
        ("train.batch_size", "0", "0 is too small; at least 1"),
        ("train.batch_size", "none", "'none' is not a whole number"),
        ("train.ema", "1", "1 is too large; it must be below 1"),
        ("runtime.device", "cud", "'cud' is not allowed; one of auto, cpu, cuda. Did you mean 'cuda'?"),
        ("runtime.compile", "maybe", "'maybe' is neither true nor false"),
        ("data.mean", "[1, 2]", "[1, 2] has the wrong number of values; 3 are needed"),
        ("data.mean", "[1, 2, 3, 4]", "[1, 2, 3, 4] has the wrong number of values; 3 are needed"),
        ("data.mean", "0.5", "'0.5' is not a list, as in [1, 2]"),
        ("method.momentun", "1", "no such option. Did you mean 'method.momentum'?"),
        ("transform.zoom", "1", "no such option; this part has none"),
        ("masker.shape", "1", "no such option. Allowed: masker.ratio, masker.min_block"),
        ("seed", "-1", "-1 is too small; at least 0"),
        ("lr", "1", "no such option. Did you mean 'optim.lr'?"),
        ("train", "3", "this is a section; write train.OPTION=value"),
        ("tokenizer.train.epochs", "0", "0 is too small; it must be above 0"),
    ],
)
def test_the_line_of_a_wrong_option(key, value, text):
    assert lines({key: value}) == [f"{key}: {text}"]


def test_an_unknown_section_names_the_sections():
    (line,) = lines({"optin.lr": "1"})
    assert line.startswith(
        "optin.lr: no such section. Did you mean 'optim.lr'? Sections: method, backbone, tokenizer, "
    )
    (line,) = lines({"model.patch_size": "1"})
    assert line.startswith("model.patch_size: no such section. Did you mean 'backbone.patch_size'? Sections: ")


def test_every_problem_at_once():
    assert len(lines({"optim.lrr": 1, "train.epochs": "ten", "masker.ratio": 2, "nothing.x": 1, "recipe": "x"})) == 5


def test_a_line_names_the_file_it_is_about(tmp_path):
    (tmp_path / "run.yaml").write_text("optim: {lrr: 1}\nhat: {x: 1}\n")
    found = lines({}, config=tmp_path / "run.yaml")
    assert found[0].startswith("hat.x: no such section.")
    assert found[0].endswith(" (in run.yaml)")
    assert found[1] == "optim.lrr: no such option. Did you mean 'optim.lr'? (in run.yaml)"


def test_epochs_and_steps_in_one_layer():
    assert lines({"train.epochs": 1, "train.steps": 3}) == ["train.epochs and train.steps: give only one of them"]


def test_an_unknown_recipe():
    (line,) = lines({"recipe": "small-image"})
    assert line.startswith("recipe: method 'guess' has no recipe 'small-image'. Did you mean 'small-images'? Allowed: ")


def test_items_of_a_command_line(tmp_path):
    assert parse_settings(["a.b=1", "a.c=x=y", "seed=3", "a.b=2"]) == {"a.b": "2", "a.c": "x=y", "seed": "3"}
    with pytest.raises(ConfigError) as caught:
        parse_settings(["masker.ratio", "0.4", "=3", "stray", str(tmp_path)])
    assert list(caught.value.problems) == [
        "'masker.ratio 0.4': write it with '=': masker.ratio=0.4",
        "'=3': what is to be set? Write part.key=value",
        "'stray': not a setting; write part.key=value, as in optim.lr=1e-3",
        f"'{tmp_path}': not a setting (part.key=value). If these are the images: --data {tmp_path}",
    ]


class ProbeOptions(Options):
    k: int | tuple[int, int] = 10
    name: str = "x"
    text: str | None = None
    weights: dict[str, float] = Field(default_factory=dict)
    rates: tuple[Annotated[float, Field(gt=0)], ...] = Field((1.0,), min_length=1)
    layers: Literal["all"] | tuple[int | Literal["final"], ...] = "all"
    needed: int

    @model_validator(mode="after")
    def _check(self):
        if self.k == 13:
            raise ValueError("k and the calendar do not agree")
        return self


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({}, "probe.needed: must be given"),
        ({"needed": 1, "k": "x"}, "probe.k: 'x' is not a whole number or 'x' is not a list, as in [1, 2]"),
        ({"needed": 1, "k": 13}, "probe: k and the calendar do not agree"),
        ({"needed": 1, "name": 3}, "probe.name: 3 is not a text"),
        ({"needed": 1, "weights": "3"}, "probe.weights: '3' is not a mapping, as in {a: 1}"),
        ({"needed": 1, "rates": [-1]}, "probe.rates: [-1] is too small; it must be above 0"),
        ({"needed": 1, "rates": []}, "probe.rates: [] has the wrong number of values; 1 are needed"),
        (
            {"needed": 1, "layers": ["last"]},
            "probe.layers: ['last'] is not a whole number or ['last'] is not allowed; one of all, final.",
        ),
    ],
)
def test_options_outside_of_a_run(settings, line):
    with pytest.raises(ConfigError) as caught:
        validate_options(ProbeOptions, settings, "probe")
    assert list(caught.value.problems) == [line]


def test_options_without_a_section():
    with pytest.raises(ConfigError, match=r"^neded: no such option. Did you mean 'needed'\?"):
        validate_options(ProbeOptions, {"needed": "1", "neded": 1})


def test_what_text_means():
    options = validate_options(
        ProbeOptions, {"needed": "1e3", "k": "[1, 2]", "name": "123", "text": "none", "weights": "{a: 1e-3}"}, "probe"
    )
    assert (options.needed, options.k, options.name, options.text) == (1000, (1, 2), "123", None)
    assert options.weights == {"a": 1e-3}
    assert validate_options(ProbeOptions, {"needed": 1, "text": "runs/a #1", "name": "a: b"}).text == "runs/a #1"
    assert validate_options(ProbeOptions, {"needed": 1, "text": "'none'", "name": "no"}).name == "no"
