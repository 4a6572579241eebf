"""Draws are nested and stratified, whatever the bins, and every image has its chance."""
import numpy as np
import pytest

from adq.sampling import class_quotas, quotas, sample_bins


@pytest.fixture
def drawn():
    "Unequal bins of 1,437 images of ten classes, and their labels."
    rng = np.random.default_rng(0)
    bins = np.split(rng.permutation(1437), np.sort(rng.choice(np.arange(200, 1237), 9, replace=False)))
    return bins, rng.integers(0, 10, 1437), np.array([len(b) for b in bins])


def test_quotas_meet_the_budget():
    rng = np.random.default_rng(0)
    for _ in range(5_000):
        m = rng.integers(1, 12)
        sizes, score = rng.integers(1, 200, m), rng.random(m)*(rng.random(m) < .8)
        keep, alpha = rng.uniform(0.001, 1), rng.random()
        q = quotas(score, sizes, keep, alpha)
        assert q.sum() == int(np.floor(keep*sizes.sum() + 1e-9)) and (q <= sizes).all() and (q >= 0).all()
        assert (abs(quotas(score, sizes, keep, 0.) - q.sum()*sizes/sizes.sum()) < 1).all() # DQ up to rounding


def test_samples_of_a_seed_are_nested_in_every_bin_and_class(drawn):
    bins, labels, sizes = drawn
    first, second = quotas(np.arange(10.), sizes, 0.1, 0.6), quotas(np.zeros(10), sizes, 0.1, 0)
    one, other = (sample_bins(bins, q, labels) for q in (first, second))
    assert [np.isin(b, one).sum() for b in bins] == first.tolist()
    assert len(np.intersect1d(one, other)) == np.minimum(first, second).sum()
    for n, c in np.ndindex(10, 10):
        cell = bins[n][labels[bins[n]] == c]
        a, b = np.intersect1d(one, cell), np.intersect1d(other, cell)
        assert len(np.intersect1d(a, b)) == min(len(a), len(b))
    assert np.isin(other, sample_bins(bins, quotas(np.zeros(10), sizes, 0.2, 0), labels)).all()
    assert (sample_bins(bins, sizes, labels) == np.arange(1437)).all()
    assert not np.array_equal(sample_bins(bins, first, labels, seed=1), one)


def test_classes_get_their_due(drawn):
    bins, labels, sizes = drawn
    q = quotas(np.arange(10.), sizes, 0.1, 0.6)
    due = [sum(quota*np.mean(labels[b] == c) for b, quota in zip(bins, q)) for c in range(10)]
    assert (abs(np.bincount(labels[sample_bins(bins, q, labels)]) - due) < 2).all()


def test_quotas_of_classes_are_drawn(drawn):
    bins, labels, _ = drawn
    wanted = {keep: class_quotas(bins, labels, keep, np.arange(10)) for keep in (0.1, 0.2)}
    tenth, fifth = (sample_bins(bins, wanted[keep], labels) for keep in (0.1, 0.2))
    assert ([[np.sum(labels[np.intersect1d(tenth, b)] == c) for c in range(10)] for b in bins] == wanted[0.1]).all()
    assert (np.bincount(labels[tenth]) == quotas(np.zeros(10), np.bincount(labels), 0.1, 0)).all()
    assert np.isin(tenth, fifth).mean() > 0.9 # nested but for the rounding of quotas
    with pytest.raises(ValueError, match="need labels"): sample_bins(bins, wanted[0.1])


def test_every_image_of_a_bin_has_the_same_chance(drawn):
    bins, labels, sizes = drawn
    quota = quotas(np.zeros(10), sizes, 0.1, 0)
    times = sum(np.isin(bins[0], sample_bins(bins, quota, labels, seed)).astype(int) for seed in range(400))
    share = quota[0]/sizes[0]
    chi2 = ((times - 400*share)**2/(400*share*(1 - share))).sum()
    assert abs(chi2 - sizes[0]) < 4*np.sqrt(2*sizes[0])
