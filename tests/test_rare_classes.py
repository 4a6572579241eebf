"""Very uneven classes, classes of one image, more classes than images kept: said, with the ratio that would do."""
import json, re

import numpy as np, pytest

from adq.cli import main
from adq.pipeline import compress
from adq.store import load

small = "--split all --bins 4 --profile smoke --extractor resnet18_narrow/self:1@16".split()


@pytest.fixture(scope="module")
def uneven(tmp_path_factory, write_tree):
    root = tmp_path_factory.mktemp("rare")
    for name, each in dict(common=90, rare=3, seldom=6).items(): write_tree(root/"uneven", (name,), each)
    write_tree(root/"single", ("a", "b"), 12)
    write_tree(root/"single", ("c",), 1)
    write_tree(root/"many", [f"c{i:02d}" for i in range(30)], 4)
    return root


def compressed(capsys, source, out, *words):
    own = "--work", source.with_name(f"{source.name}.work"), "--out", out, "--force", "--json"
    assert main(list(map(str, ["compress", source, *small, *words, *own]))) == 0
    printed, err = capsys.readouterr()
    return json.loads(printed), err


@pytest.mark.parametrize("source, words", [
    ("uneven", " of 3 classes keep no image: "), ("single", "1 of 3 classes keep no image: c; --keep "),
    ("many", " of 30 classes keep no image: c")])
@pytest.mark.parametrize("method", ["adq", "dq", "random"])
def test_classes_that_keep_no_image(capsys, tmp_path, uneven, source, words, method):
    keep = dict(uneven=0.03, single=0.1, many=0.1)[source]
    result, err = compressed(capsys, uneven/source, tmp_path/"out", "--keep", keep, "--method", method)
    kept = load(tmp_path/"out")
    assert words in err and err.count("\n") == 1
    assert sorted({kept.classes[label] for label in kept.labels} | set(result["lost_classes"])) == kept.classes
    enough = re.search(r"--keep (\S+) would keep one of each", err)[1]
    result, err = compressed(capsys, uneven/source, tmp_path/"out", "--keep", enough, "--method", method)
    assert result["lost_classes"] == [] and err == ""
    assert len(np.unique(load(tmp_path/"out").labels)) == len(kept.classes)


def test_with_dropped_patches(capsys, tmp_path, uneven):
    _, err = compressed(capsys, uneven/"many", tmp_path/"out", "--keep", 0.1, "--patch-keep", 0.5)
    enough = re.search(r"--keep (\S+) would", err)[1]
    assert float(enough) <= 0.5
    result, err = compressed(capsys, uneven/"many", tmp_path/"out", "--keep", enough, "--patch-keep", 0.5)
    assert result["lost_classes"] == [] and err == ""


def test_training_on_what_is_left(capsys, tmp_path, uneven):
    compressed(capsys, uneven/"many", tmp_path/"out", "--keep", 0.1)
    words = f"train {tmp_path/'out'} --test {uneven/'many'} --profile smoke --size 16 --json".split()
    assert main(words) == 0 and json.loads(capsys.readouterr().out)["images"] == 12


def test_features_with_names_of_classes():
    labels = np.repeat(["fox", "owl", "elk"], [50, 9, 1])
    chosen = compress(features=np.random.default_rng(0).random((60, 8)), labels=labels, method="dq", n_bins=4, keep=0.1)
    assert "elk" in chosen.lost_classes() and "fox" not in chosen.lost_classes()
    again = chosen.resample(keep=chosen.keep_every_class())
    assert again.lost_classes().size == 0 and len(again.indices) < 60
    assert compress(features=np.eye(8), method="dq", n_bins=2, keep=0.5).lost_classes().size == 0
