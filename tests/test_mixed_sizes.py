"""Photographs of different sizes with dropped patches: the profile's filler where it can, another where it cannot."""
import json

import pytest

from adq.cli import main
from adq.sources import load_images
from adq.reconstruction import pick_reconstructor

small = "--profile smoke --bins 4 --extractor resnet18_narrow/self:1@16".split()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, write_tree):
    "A folder of photographs in many sizes, and what adq compress makes of it."
    root = tmp_path_factory.mktemp("mixed")
    write_tree(root/"photos", each=30, size=lambda i: (16 + i, 40 - i))
    words = ["compress", root/"photos", *small, "--keep", 0.3, "--patch-keep", 0.75, "--out", root/"small"]
    assert main(list(map(str, words))) == 0
    return root


def run(capsys, *words):
    code = main([*map(str, words), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if code == 0 else None, err


def test_the_default_gives_way_and_says_so(capsys, mixed):
    train = "train", mixed/"small", "--test", mixed/"photos", "--profile", "smoke", "--size", 16
    code, result, err = run(capsys, *train)
    assert code == 0 and result["reconstruct"] == "blur"
    assert "filled by blur, because self:1 of profile smoke" in err and "--reconstruct" in err
    assert json.loads((mixed/"small"/"accuracy.jsonl").read_text().splitlines()[-1])["reconstruct"] == "blur"
    code, result, err = run(capsys, *train, "--reconstruct", "mean")
    assert code == 0 and result["reconstruct"] == "mean" and "filled by" not in err


def test_what_was_asked_for_is_refused(capsys, mixed):
    train = "train", mixed/"small", "--test", mixed/"photos", "--size", 16
    code, _, err = run(capsys, *train, "--reconstruct", "self:3")
    assert code == 2 and "reconstructor 'self:3' is trained on images in memory" in err and err.count("\n") == 1


def test_compare(capsys, mixed):
    compare = ["compare", mixed/"photos", *small, "--size", 16, "--methods", "adq+drop", "--patch-keep", 0.75]
    compare += ["--keep", 0.3, "--seeds", 1]
    code, result, err = run(capsys, *compare)
    assert code == 0 and len(result["rows"]) == 1 and "filled by blur" in err
    code, _, err = run(capsys, *compare, "--reconstruct", "self:3")
    assert code == 2 and "'self:3'" in err


def test_images_of_one_size_keep_the_default(capsys, mixed, digits):
    assert pick_reconstructor(None, "self:40", digits) == "self:40"
    assert pick_reconstructor(None, "owner/weights", load_images(mixed/"photos")) == "owner/weights"
    assert pick_reconstructor("blur", "self:40", digits) == "blur"
