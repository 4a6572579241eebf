"""`compress` beyond the lesson: a work folder, features and scores of one's own, methods that go by difficulty."""
import numpy as np, pytest

from adq.pipeline import compress
from adq.texture import texture_level

extractor = dict(extractor="resnet18_narrow/self:3", flip=False)


@pytest.fixture(scope="module")
def small(digits): return compress(digits, 0.1, **extractor)


def stages(work): return {p.name: p.stat().st_mtime_ns for p in work.iterdir() if p.suffix != ".lock"}


def test_a_work_folder_changes_nothing_and_is_read_the_second_time(tmp_path, digits, small):
    with_work = lambda images=digits, **options: compress(images, work=tmp_path, **extractor, **options)
    assert (with_work().indices == small.indices).all()
    before = stages(tmp_path)
    assert (with_work().indices == small.indices).all() and len(with_work(keep=0.2).indices) == 287
    assert (with_work(method="dq", features=small.embedding).indices == small.resample(method="dq").indices).all()
    before |= {name: time for name, time in stages(tmp_path).items() if name not in before} # of the features given
    assert stages(tmp_path) == before
    with_work(dtype="float16")
    changed = digits.subset(np.arange(len(digits)))
    changed.images[700, 0, 4, 4] ^= 1 # one bit of one image
    with_work(changed)
    kinds = [name.partition("-")[0] for name in stages(tmp_path)]
    assert [kinds.count(kind) for kind in ("extractor", "features", "views", "texture", "diversity")] == [2, 3, 3, 3, 3]
    assert kinds.count("bins") == 4


def test_patches_are_dropped_alike_at_once_and_from_an_earlier_result(tmp_path, digits, small):
    dropped, again = compress(digits, 0.1, patch_keep=0.75, **extractor), small.resample(patch_keep=0.75)
    assert len(dropped.indices) == int(0.1/0.75*1437) and set(dropped.masks.sum((1, 2))) == {12}
    assert (again.indices == dropped.indices).all() and (again.masks == dropped.masks).all()


def test_scores_handed_back_choose_the_same(digits, small):
    given = dict(features=small.embedding, labels=digits.labels)
    level = texture_level(digits)
    own = compress(**given, representativeness=level, diversity=lambda bins: small.ds)
    assert (own.indices == small.indices).all() and (own.rs == small.rs).all()
    assert (compress(**given, method="dq").indices == small.resample(method="dq").indices).all()
    assert not np.array_equal(compress(features=small.embedding, method="dq").indices, own.indices) # one pool
    with pytest.raises(ValueError, match="diversity gives"): compress(digits, diversity=lambda bins: [1], **extractor)
    with pytest.raises(ValueError, match="there are no images to write"): own.save("nowhere")


def test_difficulty_leaves_out_the_hardest_and_is_drawn_from_again(tmp_path, digits, small):
    given = dict(features=small.embedding, labels=digits.labels)
    probed = compress(method="ccs-probe", **given)
    counts = np.bincount(digits.labels[probed.indices])
    assert np.ptp(counts) <= 1 + np.ptp(np.bincount(digits.labels))/10
    assert len(probed.bins) == 11 and probed.quotas[-1] == 0
    assert (probed.resample(seed=0).indices == probed.indices).all() and len(probed.resample(keep=0.05).indices) == 71
    watch = lambda: compress(digits, method="ccs", dynamics="convnet7_narrow/self:1", work=tmp_path, **extractor)
    watched = watch()
    assert (watch().difficulty == watched.difficulty).all()
    assert not np.isin(np.argsort(-watched.difficulty)[:10], watched.indices).any()


@pytest.mark.parametrize("method, changes, words", [
    ("herding", dict(keep=0.2), "method 'herding' chooses once"),
    ("ccs-probe", dict(method="adq"), "cannot be drawn from 'ccs-probe'"),
    ("dq", dict(method="adq"), "which has no scores"), ("dq", dict(method="random"), "expected adq or dq"),
    ("dq", dict(n_bins=5), "'n_bins' cannot be changed"),
    ("dq", dict(patch_keep=0.5), "no network to rank patches by")])
def test_draws_that_cannot_be(digits, small, method, changes, words):
    chosen = compress(method=method, features=small.embedding, labels=digits.labels)
    with pytest.raises(ValueError, match=words): chosen.resample(**changes)
