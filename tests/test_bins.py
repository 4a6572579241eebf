"""The bins are those of Eq. 2 in numbers that do not round, whichever way they are made."""
import math
from fractions import Fraction

import numpy as np, pytest

from adq import greedy
from adq.bins import graphcut_bins, graphcut_select

rng = np.random.default_rng(0)


def exactly(features, normalize, n_bins=5):
    "Eq. 2 in whole numbers, of features in any numbers that are fractions; for cosines divided by a whole root."
    f = [[int(Fraction(v)*2**400) for v in row] for row in features]
    if normalize: f = [[v*2**400//(math.isqrt(sum(u*u for u in row)) or 1) for v in row] for row in f]
    f = np.array(f, object)
    gram, square = f @ f.T, (f*f).sum(1)
    left, parts = np.arange(len(f)), []
    for size in [len(part) for part in np.array_split(left, n_bins)][:-1]:
        gains, picks = 2*gram[np.ix_(left, left)].sum(1) - len(left)*square[left], []
        for _ in range(size):
            picks.append(next(i for i in np.argsort(-gains, kind="stable") if i not in picks)) # lowest of equals
            gains = gains - 2*(2*gram[left, left[picks[-1]]] - square[left])
        parts.append(left[picks])
        left = np.delete(left, picks)
    return parts + [left]


def same(one, other): return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def features(n):
    noise, halves = rng.standard_normal((n, 4)), np.arange(n)[:, None] < n//2
    return {"anywhere": noise, "cone": 1 + 1e-6*noise, "narrow cone": 1 - 1e-9*noise,
            "cone, lengths": (1 + 1e-6*noise)*rng.lognormal(size=(n, 1)),
            "opposite cones": (1 + 1e-5*noise)*(1 - 2*halves),
            "far": 1e6 + noise, "heavy tails": rng.standard_cauchy((n, 4))**3, "two clusters": halves*10 + noise*1e-4,
            "whole": rng.integers(-2, 3, (n, 4)).astype(float), "signs": rng.integers(0, 2, (n, 8))*2.0 - 1,
            "orders": np.array([rng.permutation([3., 1, 4, 1, 5]) for _ in range(n)]),
            "copies": noise[np.arange(n) % 7], "equal": noise[[0]*n]}


@pytest.mark.parametrize("name", features(1))
@pytest.mark.parametrize("normalize", [True, False])
def test_exact(name, normalize):
    f = features(120)[name]
    if normalize and name == "whole": f[:, 0] = 1 # unit vectors that are equal in truth may differ in float64
    assert same(graphcut_bins(f, n_bins=5, normalize=normalize), exactly(f.tolist(), normalize))


@pytest.mark.parametrize("spread", [1, 1e-4, 1e-7])
def test_gradient_kernel_is_exact(spread):
    h, b = 1 + spread*rng.standard_normal((100, 3)), rng.standard_normal(3) + spread*rng.standard_normal((100, 3))
    g = [[Fraction(u)*Fraction(v) for u in x for v in [*y, 1]] for x, y in zip(b.tolist(), h.tolist())]
    assert same(graphcut_bins((h, b), n_bins=5), exactly(g, True))


@pytest.mark.parametrize("memory", [2**31, 0])
def test_every_way_gives_the_same(monkeypatch, memory):
    "Speculation, with the Gram matrix or with products to fall back on, and the Gram matrix from the start."
    f = features(1100)
    cases = [(f[name], normalize) for name in f for normalize in (True, False)] + [((f["anywhere"], f["cone"]), True)]
    expected = [graphcut_bins(x, normalize=normalize) for x, normalize in cases]
    for name, value in dict(gram_limit=100, gram_bytes=memory, round_size=64).items():
        monkeypatch.setattr(greedy, name, value)
    for (x, normalize), one in zip(cases, expected): assert same(graphcut_bins(x, normalize=normalize), one)


@pytest.mark.parametrize("memory, way", [(2**31, "ndarray"), (0, "_Products")])
def test_falls_back_where_any_sample_may_be_next_and_there_alone(monkeypatch, memory, way):
    ways, pick = [], greedy._pick
    def spy(similarity, candidates, gains, rows, *more):
        ways.append((type(rows).__name__, len(candidates) == len(similarity)))
        return pick(similarity, candidates, gains, rows, *more)
    monkeypatch.setattr(greedy, "_pick", spy)
    monkeypatch.setattr(greedy, "gram_limit", 1000)
    monkeypatch.setattr(greedy, "gram_bytes", memory)
    graphcut_bins(rng.standard_normal((4000, 16)))
    assert (way, True) in ways
    ways.clear()
    clusters = rng.standard_normal((4000, 256)) + rng.standard_normal((20, 256))[np.arange(4000) % 20]
    graphcut_select(np.maximum(clusters, 0), None, [1000])
    assert set(ways) == {("ndarray", False)}
