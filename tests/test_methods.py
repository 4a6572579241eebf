"""Every selection by its name, from the command line to the page about its result."""
import json

import numpy as np
import pytest

from adq.cli import main
from adq.difficulty import probe_margin
from adq.methods import methods
from adq.pipeline import compress
from adq.report import hardest, open_set
from adq.sources import load_images
from adq.store import load
from adq.train import compare

quick = "--profile", "smoke"


@pytest.fixture(scope="module")
def ccs(tmp_path_factory):
    out = tmp_path_factory.mktemp("ccs")/"set"
    method = "--method", "ccs", "--leave-out", "0.2"
    assert main(["compress", "digits", *quick, *method, "--out", str(out), "--json"]) == 0
    return out


def test_a_set_by_difficulty_is_stored_and_opened(ccs, digits):
    opened, about = open_set(ccs), json.loads((ccs/"compressed.json").read_text())
    assert opened.difficulty.shape == (len(digits),) and len(about["quotas"]) == 11 and about["quotas"][-1] == 0
    left_out = np.flatnonzero(opened.bins == 10)
    for c in range(10): # the hardest fifth of each class
        own = np.flatnonzero(digits.labels == c)
        expected = own[np.argsort(opened.difficulty[own], kind="stable")][len(own) - int(0.2*len(own)):]
        assert set(left_out) & set(own) == set(expected)
    assert not np.isin(load(ccs).indices, left_out).any()
    card = (ccs/"README.md").read_text()
    assert "coverage-centric selection ([Zheng et al., ICLR 2023](https://arxiv.org/abs/2210.15809))" in card
    assert "| left out of each class, the hardest | 20 % |" in card
    assert about["settings"]["leave_out"] == 0.2 and about["settings"]["dynamics"] == "convnet7_narrow/self:2"


def test_info_and_a_second_run_know_the_method(ccs, capsys):
    assert main(["info", str(ccs)]) == 0
    told = capsys.readouterr().out
    assert "of bins of difficulty" in told and "watched   convnet7_narrow/self:2" in told and "extractor" not in told
    again = "--out", str(ccs), "--force" # difficulty.npy is ours
    assert main(["compress", "digits", *quick, "--method", "ccs", *again]) == 0


def test_a_report_shows_the_hardest(ccs, tmp_path, pages_here):
    out = tmp_path/"report.html"
    assert main(["report", str(ccs), "--out", str(out)]) == 0
    text = out.read_text()
    opened = open_set(ccs)
    worst = hardest(opened.difficulty, opened.images.labels, np.flatnonzero(opened.bins == 10))
    assert len(worst) == 10 and not np.isin(np.concatenate(worst), opened.kept.indices).any()
    for part in worst:
        assert f"{opened.images.labels[part[0]]}: {', '.join(map(str, part))}; 0 kept</figcaption>" in text
    assert "Images over difficulty" in text


def test_a_missing_package_is_told_before_any_work(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    line = "compress", "digits", *quick, "--method", "facility-location", "--out", str(tmp_path/"out")
    assert main([*line]) == 2
    assert "needs the package submodlib-py" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_probe_does_not_care_where_features_lie():
    rng, labels = np.random.default_rng(0), np.arange(300) % 3
    features = rng.standard_normal((300, 4)) + labels[:, None]
    there, elsewhere = (probe_margin(features + shift, labels, device="cpu") for shift in (0, 1e8))
    np.testing.assert_allclose(there, elsewhere, atol=1e-3)


def test_a_method_named_twice_is_no_second_repetition(digits):
    some = digits.subset(range(200))
    training = dict(model="resnet18_narrow", epochs=1)
    rows, _ = compare(some, some, 0.5, methods=("random", "random"), seeds=1, training=training)
    assert len(rows) == 1


def test_a_damaged_difficulty_is_refused(ccs, tmp_path):
    import shutil
    copy = tmp_path/"copy"
    shutil.copytree(ccs, copy)
    np.save(copy/"difficulty.npy", np.zeros(3))
    with pytest.raises(ValueError, match="difficulty.npy does not hold a number for each of 1,437 images"):
        open_set(copy)


def test_every_method_keeps_the_same_number_of_every_class(digits):
    features = digits.images.flatten(1).numpy()
    due = np.bincount(digits.labels)*0.1
    for method, m in methods.items():
        if "dynamics" in m.needs or m.bins == "similarity": continue
        given = dict(images=digits) if method == "random" else dict(features=features, labels=digits.labels)
        chosen = compress(**given, method=method)
        assert len(np.unique(chosen.indices)) == 143, method
        assert (abs(np.bincount(digits.labels[chosen.indices]) - due) < 2).all(), method


def test_compare_takes_them(digits):
    test = load_images("digits", "test")
    compressing = dict(extractor="resnet18_narrow/self:1", dynamics="convnet7_narrow/self:1", flip=False)
    rows, first = compare(digits, test, 0.1, methods=("random", "ccs", "graphcut"), seeds=1, compressing=compressing,
                          training=dict(model="convnet7_narrow", epochs=1, recipe="fast", lr=0.2, flip=False))
    assert [r["method"] for r in rows] == ["random", "ccs", "graphcut"] and {r["images"] for r in rows} == {143}
    assert first is None
    assert rows[1]["compress_seconds"] > 0


@pytest.mark.parametrize("words, message", [
    (("--method", "best"), "argument --method: invalid choice"),
    (("--method", "ccs", "--leave-out", "1.5"), "leave_out is 1.5; expected a number from 0 and below 1"),
    (("--method", "ccs", "--dynamics", "tf_efficientnet_lite0/wheel"),
     "dynamics 'tf_efficientnet_lite0/wheel' is not trained on the images"),
])
def test_wrong_words_are_one_line(words, message, tmp_path, capsys):
    try: code = main(["compress", "digits", *quick, *words, "--out", str(tmp_path/"o")])
    except SystemExit as e: code = e.code
    told = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and message in told[-1] and not (tmp_path/"o").exists()
