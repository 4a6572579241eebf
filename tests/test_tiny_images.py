"""Single pixels and strips among images: they go the whole way, or are named in one line."""
import json

import numpy as np, pytest, torch
from torchvision.transforms.v2 import functional as TF

from adq.cli import main
from adq.store import load
from adq.texture import sobel, texture_level

small = "--split all --keep 0.4 --bins 2 --profile smoke --extractor resnet18_narrow/self:1@16".split()


@pytest.fixture(params=[(1, 1), (1, 200), (2, 900)], ids=lambda size: f"{size[0]}×{size[1]}")
def folder(request, tmp_path, write_tree):
    "Images of 24 pixels, and one of another size."
    write_tree(tmp_path/"in", each=8, size=(24, 24))
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, *request.param), dtype=np.uint8))
    TF.to_pil_image(pixels).save(tmp_path/"in"/"cat"/"odd.png")
    return tmp_path/"in"


def test_whole_images_go_the_whole_way(capsys, tmp_path, folder):
    assert main(["compress", str(folder), *small, "--out", str(tmp_path/"out")]) == 0
    words = f"train {tmp_path/'out'} --test {folder} --profile smoke --size 16 --json".split()
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["images"] >= 6


@pytest.mark.parametrize("words, told", [
    ("", "odd.png has {}×{} pixels, too few to be cut into patches; expected sides of at least 4"),
    ("--cell 4", "cell is 4; expected a whole number from 1 to 1, as ")])
def test_patches_of_an_image_that_has_none(capsys, tmp_path, folder, request, words, told):
    words = [*small, "--patch-keep", "0.75", *words.split()]
    assert main(["compress", str(folder), *words, "--out", str(tmp_path/"out")]) == 2
    err = capsys.readouterr().err
    assert told.format(*request.node.callspec.params["folder"]) in err and "odd.png" in err and err.count("\n") == 1


def test_patches_of_one_pixel(capsys, tmp_path, folder):
    "Who asks for them has them, and can read the set again."
    words = [*small, "--method", "dq", "--patch-keep", "0.75", "--cell", "1", "--out", str(tmp_path/"out")]
    assert main(["compress", str(folder), *words]) == 0
    assert len(load(tmp_path/"out", reconstruct="blur")[0][0]) == 3


def test_a_set_of_single_pixels_is_refused(capsys, tmp_path, write_tree):
    write_tree(tmp_path/"in", each=8, size=(1, 1))
    assert main(["compress", str(tmp_path/"in"), *small[:-2], "--out", str(tmp_path/"out")]) == 2
    assert "size is 1; expected a whole number of at least 8" in capsys.readouterr().err


def test_the_gradient_of_a_row_runs_along_it():
    row = torch.tensor([[[0., 1., 3., 3.]]])
    across, down = sobel(row)
    assert across.tolist() == [[[0., 12., 8., 0.]]] and down.abs().max() == 0
    assert [a.tolist() for a in sobel(row.mT)] == [down.mT.tolist(), across.mT.tolist()]
    assert texture_level(torch.full((2, 3, 1, 1), 9, dtype=torch.uint8)).tolist() == [0, 0]
