"""Names of files and folders that are not UTF-8, as old archives unpack on Linux: every command takes them."""
import json, os, sys

import pytest
from datasets import load_dataset

from adq.cli import main
from adq.sources import load_images
from adq.store import to_images

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only on Linux may file names hold any bytes")
small = "--split all --bins 4 --profile smoke --extractor resnet18_narrow/self:1@16 --keep 0.4".split()
cafe = os.fsdecode(b"caf\xe9")


def run(capsys, *words):
    assert main(list(map(str, words))) == 0
    out, err = capsys.readouterr()
    (out + err).encode() # what any terminal can show
    return out


@pytest.fixture(params=["file", "class", "source"])
def folder(request, tmp_path, write_tree):
    "Class folders of images, where a file, a class, or the whole folder has a name that is not UTF-8."
    name = {"class": cafe}.get(request.param, "cat")
    source = write_tree(tmp_path/(cafe if request.param == "source" else "photos"), (name, "dog"), 12)
    if request.param == "file": (source/"cat"/"0.png").rename(source/"cat"/f"{cafe}.png")
    return source


def test_compress_info_train_and_compare(capsys, tmp_path, folder):
    out = tmp_path/"out"
    run(capsys, "compress", folder, *small, "--out", out)
    run(capsys, "info", out)
    run(capsys, "train", out, "--test", folder, "--profile", "smoke", "--size", 16)
    accuracy = json.loads((out/"accuracy.jsonl").read_text())["test"].encode("utf-8", "surrogateescape")
    assert os.fsencode(folder) in accuracy
    expected = sorted({r"caf\udce9" if name == cafe else name for name in os.listdir(folder)})
    assert load_images(folder, "all").classes == expected
    assert load_dataset(str(out), split="train").features["label"].names == expected
    assert len(os.listdir(to_images(out, tmp_path/"images"))) == 2
    (out/"README.md").read_text(encoding="utf-8")
    run(capsys, "compare", folder, *small[2:], *"--methods adq --seeds 1 --size 16 --out".split(), tmp_path/"table")


def test_report(capsys, tmp_path, write_tree, pages_here):
    source = write_tree(tmp_path/cafe, (cafe, "dog"), 12)
    run(capsys, "compress", source, *small, "--out", tmp_path/"out")
    run(capsys, "report", tmp_path/"out")
    assert r"caf\udce9" in (tmp_path/"out-report.html").read_text(encoding="utf-8")
