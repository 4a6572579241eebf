"""The data set card of a compressed folder: what the hub, `datasets` and readers make of it."""
import re
from dataclasses import replace

import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard

from adq.cli import main
from adq.data import ImageData
from adq.sources import load_images
from adq.pipeline import compress
from adq.manifest import read_manifest
from adq.card import _header, write_card
from adq.store import check_new, load, save

odd = ['a"b', "it's", "c: d", "x\ny", "\r\n---\r\n", "no", "", "  ü 日本 👀", "# {0} | `b`", "\u2028\x85\x07"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Ten class folders below a path that nobody else needs to know, compressed with patches dropped."
    out = tmp_path_factory.mktemp("secret")/"of_mine"
    digits = load_images("digits").subset(range(300))
    images = ImageData(digits.images, digits.labels, odd, out.parent/"some_photos", "train")
    return compress(images, 0.3, patch_keep=0.75, extractor="resnet18_narrow/self:1", flip=False, seed=3).save(out)


def test_a_compressed_folder_opens_by_its_card(folder):
    card, manifest = DatasetCard.load(folder/"README.md"), read_manifest(folder)
    opened = load_dataset(str(folder), split="train")
    assert opened.features["label"].names == odd and len(opened) == 120 and opened[5]["image"].size == (8, 8)
    assert opened["index"][:] == load(folder).indices.tolist()
    assert list(opened.features) == ["image", "label", "index", "bin", "mask"]
    assert opened.features == load_dataset("parquet", data_files=str(folder/"data"/"*.parquet"), split="train").features
    told = card.data.dataset_info
    assert list(told["features"][1]["dtype"]["class_label"]["names"].values()) == odd
    assert told["splits"][0]["num_examples"] == 120 and told["download_size"] == manifest.bytes.stored
    assert told["splits"][0]["num_bytes"] == told["dataset_size"] > 10_000
    assert (card.data.size_categories, card.data.task_categories) == (["n<1K"], ["image-classification"])
    assert card.data.pretty_name == "some_photos, 30 % by adq"
    assert card.data.license is None and "Licence: to be filled in" in card.text


def test_the_card_tells_how_the_set_was_made_and_no_path(folder):
    text, made = (folder/"README.md").read_text(encoding="utf-8"), read_manifest(folder).settings
    assert "120 of the 300 images of some\\_photos (train), in 10 classes" in text and "secret" not in text
    rows = dict(re.findall(r"^\| (.*?) \| (.*) \|$", text, re.M))
    assert rows["fingerprint of the source"] == made["fingerprint"]
    assert (rows["seed"], rows["bins"], rows["α, weight of importance"]) == ("3", "10", "0.6")
    assert rows["kept"] == "30 % of the data: 40 % of the images, 75 % of the patches of each (2×2 pixels)"
    assert rows["extractor"] == "resnet18_narrow/self:1"
    assert rows["images from each bin"] == ", ".join(map(str, read_manifest(folder).quotas))
    linked = re.findall(r"\]\((?!http)(.*?)\)", text)
    assert linked == ["scores.png"] and (folder/"scores.png").is_file()


def test_the_examples_of_the_card_run(folder):
    text, names = (folder/"README.md").read_text(encoding="utf-8"), {}
    examples = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(examples) == 3
    for code in examples[:2]: exec(code.replace("path/of/this/folder", str(folder)), names)
    assert (names["kept"] == load(folder).masks[0]).all()
    exec(examples[2].replace("path/of/this/folder", str(folder)), names)
    assert len(names["dataset"]) == 120


@pytest.mark.parametrize("rows, category", [
    (1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (9999, "1K<n<10K"), (10_000, "10K<n<100K"),
    (999_999, "100K<n<1M"), (10**6, "1M<n<10M"), (10**8, "100M<n<1B")])
def test_size_categories_at_their_borders(folder, rows, category):
    assert _header(replace(read_manifest(folder), kept=rows), "a", 1).size_categories == [category]


@pytest.mark.parametrize("method, extractor", [("dq", True), ("random", False)])
def test_other_methods_and_whole_images(tmp_path, digits, method, extractor):
    folder = compress(digits, 0.1, method=method, extractor="resnet18_narrow/self:1", flip=False).save(tmp_path/"set")
    text = (folder/"README.md").read_text(encoding="utf-8")
    assert "143 of the 1,437 images of digits" in text and "α" not in text
    assert ("| extractor |" in text) == extractor == ("scores.png" in text)
    assert "| `mask` | nothing: the images are whole |" in text and "unpackbits" not in text
    assert len(load_dataset(str(folder), split="train")) == 143


def test_images_alone_and_a_source_on_the_hub(tmp_path, digits):
    few = digits.subset(range(50))
    card = DatasetCard.load(save(tmp_path/"alone", few)/"README.md")
    assert card.data.pretty_name == "50 images in 10 classes" and "fingerprint" not in card.text
    assert "source_datasets" not in card.data.to_dict()
    assert len(load_dataset(str(tmp_path/"alone"), split="train")) == 50
    few.source = "hf:owner/name"
    card = DatasetCard.load(compress(few, 0.2, method="random").save(tmp_path/"hub")/"README.md")
    assert card.data.source_datasets == ["owner/name"] and "10 of the 50 images of hf:owner/name" in card.text


def test_only_an_unchanged_card_is_replaced(tmp_path, digits, capsys):
    few, card = digits.subset(range(50)), tmp_path/"set"/"README.md"
    save(tmp_path/"set", few)
    save(tmp_path/"set", few.subset(range(40)), force=True)
    before = card.read_bytes()
    card.unlink()
    assert write_card(tmp_path/"set").read_bytes() == before == write_card(tmp_path/"set").read_bytes()
    card.write_bytes(before.replace(b"\n", b"\r\n")) # as git or an editor on Windows leaves it
    check_new(tmp_path/"set", force=True)
    card.write_bytes(before.replace(b"pretty_name", b"license: mit\npretty_name"))
    changed = "README.md' (was changed since adq wrote it|, which)|holds 'README.md', which adq did not write as it is"
    for call in (lambda: save(tmp_path/"set", few, force=True), lambda: write_card(tmp_path/"set")):
        with pytest.raises(ValueError, match=changed): call()
    assert b"license: mit" in card.read_bytes() and len(load_dataset(str(tmp_path/"set"), split="train")) == 40
    assert main(f"compress digits --profile smoke --out {tmp_path/'set'} --force".split()) == 2
    assert "README.md" in capsys.readouterr().err
    (tmp_path/"project").mkdir()
    (tmp_path/"project"/"README.md").write_text("# My own\n")
    with pytest.raises(ValueError, match="which adq did not write"): check_new(tmp_path/"project", force=True)


def test_a_card_needs_a_compressed_set(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no compressed.json"): write_card(tmp_path)
