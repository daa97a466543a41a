"""Random streams are a promise: another value here is another run for everybody who resumes one."""

from __future__ import annotations

from ssl_core.data.seeding import batch_rng, sample_rng, torch_seed


def test_golden_values():
    assert sample_rng(0, 0, 0, "mask").random() == 0.3150366249542592
    assert sample_rng(1, 2, 3, "view:image").random() == 0.586080156455439
    assert batch_rng(0, 5).random() == 0.7744102737076425
    assert torch_seed(0, "step", 7) == 5431683765672627865


def test_every_part_of_the_key_counts():
    base = (0, 0, 0, "mask")
    others = [(1, 0, 0, "mask"), (0, 1, 0, "mask"), (0, 0, 1, "mask"), (0, 0, 0, "view:image")]
    draws = {sample_rng(*key).random() for key in [base, *others]}
    assert len(draws) == 5
    assert sample_rng(1, 23, 4, "x").random() != sample_rng(12, 3, 4, "x").random()


def test_torch_seed_fits_into_63_bits_and_tells_types_apart():
    seeds = [torch_seed(0, "a", part) for part in (1, "1", 2)]
    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**63 for seed in seeds)
