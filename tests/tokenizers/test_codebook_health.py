"""The numbers, the picture and the warning that tell a living codebook from a collapsed one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import ssl_core
from ssl_core.api import code_health, code_histogram, collapsed_codebook


@pytest.fixture
def counts():
    counts = torch.zeros(64)
    counts[:16] = torch.arange(1.0, 17.0)
    return counts


def test_health_is_what_numpy_says(counts):
    shares = counts.double().numpy() / counts.sum().item()
    nats = -sum(share * np.log(share) for share in shares if share)
    health = {name: float(value) for name, value in code_health(counts).items()}
    assert health["perplexity"] == pytest.approx(np.exp(nats), rel=1e-5)
    assert health["codes_used"] == pytest.approx(16 / 64)
    assert health["dead_codes"] == 48
    assert health["code_entropy"] == pytest.approx(nats / np.log(64), rel=1e-5)


def test_a_code_that_is_hardly_used_is_dead_where_a_share_is_given(counts):
    # Alike would be 136 / 64 = 2.1 each; half of that leaves out the code with a count of 1.
    assert float(code_health(counts, share=0.5)["dead_codes"]) == 49


def test_codes_used_alike_have_full_entropy():
    health = code_health(torch.ones(8))
    assert float(health["perplexity"]) == pytest.approx(8, rel=1e-5)
    assert float(health["code_entropy"]) == pytest.approx(1)


def test_a_collapse_is_said_with_numbers_and_advice():
    found = collapsed_codebook({"perplexity": 3.2, "codes_used": 0.06}, 64, "Do this.")
    assert found == {
        "codebook": "the codebook has collapsed: in effect 3.2 of 64 codes are in use (6% occur). Do this."
    }
    assert collapsed_codebook({"perplexity": 20.0, "codes_used": 0.5}, 64, "Do this.") == {}


def test_the_histogram_is_a_picture(counts):
    picture = code_histogram(counts)
    assert picture.shape[0] == 3
    assert 0 <= picture.min() < picture.max() <= 1
    assert not torch.equal(picture, code_histogram(torch.ones(64)))


def test_a_run_whose_codebook_collapses_says_so_once(tmp_path, capsys):
    """A dVAE on the plain Gumbel loss with a hostile penalty: nothing keeps its codes apart."""
    settings = {
        "dataset.images": 40,
        "data.image_size": 32,
        "train.batch_size": 4,
        "train.steps": 130,
        "log.every": 10,
        "runtime.threads": 1,
        "tokenizer.vocab_size": 64,
        "tokenizer.hidden": 8,
        "tokenizer.blocks": 1,
        "tokenizer.logits": "linear",
        "method.usage_bonus": 0.0,
        "method.doubt_penalty": 50.0,
        "optim.lr": 0.05,
    }
    ssl_core.train("dvae", out=tmp_path / "run", settings=settings)
    events = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    warnings = [event["message"] for event in events if event.get("event") == "warning"]
    assert len(warnings) == 1
    assert warnings[0].startswith("the codebook has collapsed: in effect ")
    assert "tokenizer.logits=distance" in warnings[0]
    assert "warning: the codebook has collapsed" in capsys.readouterr().out
    assert list((tmp_path / "run" / "samples").glob("codes-*.png"))
