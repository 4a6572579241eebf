"""Sources of images: layouts, splits, and what is wrong with them."""
import gzip

import numpy as np, pytest, torch
from PIL import Image

import adq.data
from adq.data import ImageData, batches
from adq.sources import load_images


def test_class_folders_with_and_without_a_split(tmp_path, write_tree):
    whole = load_images(write_tree(tmp_path/"a", each=10), "all")
    assert (len(whole), whole.classes, whole.shape) == (20, ["cat", "dog"], (3, 16, 16))
    parts = [load_images(tmp_path/"a", split) for split in ("train", "test")]
    assert [np.bincount(p.labels).tolist() for p in parts] == [[8, 8], [2, 2]]
    assert "80%" in parts[0].split and "seed 0" in parts[0].split

    write_tree(tmp_path/"b"/"train")
    write_tree(tmp_path/"b"/"val", each=2)
    assert [len(load_images(tmp_path/"b", split)) for split in ("train", "test")] == [8, 4]
    with pytest.raises(ValueError, match="without a split"): load_images(tmp_path/"b", "all")


def test_an_unlabelled_test_folder_is_not_the_test_split(tmp_path, write_tree):
    write_tree(tmp_path/"train")
    write_tree(tmp_path/"val", each=2)
    write_tree(tmp_path/"test", classes=("images",))
    assert load_images(tmp_path, "test").labels.tolist() == [0, 0, 1, 1]


def test_a_class_may_be_called_train(tmp_path, write_tree):
    names = ["car", "plane", "train"]
    assert load_images(write_tree(tmp_path, classes=names), "all").classes == names


def test_loading_leaves_the_random_state_alone(tmp_path, write_tree):
    write_tree(tmp_path)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load_images(tmp_path, "all")
    assert torch.equal(torch.rand(3), expected)


def test_tiny_imagenet_layout(tmp_path, write_tree):
    for c in ("n01", "n02"):
        write_tree(tmp_path/"train"/c, classes=("images",), each=3)
        (tmp_path/"train"/c/f"{c}_boxes.txt").write_text("0.JPEG\t0\t0\t62\t44\n")
    write_tree(tmp_path/"val", classes=("images",), each=4, seed=1)
    lines = [f"{i}.png\t{c}\t0\t0\t9\t9\n" for i, c in enumerate(["n02", "n01", "n02", "n02"])]
    (tmp_path/"val"/"val_annotations.txt").write_text("".join(lines))
    train, test = load_images(tmp_path), load_images(tmp_path, "test")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1] and train.classes == test.classes == ["n01", "n02"]
    assert test.labels.tolist() == [1, 0, 1, 1]
    (tmp_path/"val"/"val_annotations.txt").write_text("0.png\tn09\t0\t0\t9\t9\n")
    with pytest.raises(ValueError, match="'n09', which has no folder"): load_images(tmp_path, "test")


def test_sizes_that_differ_stay_encoded(tmp_path, write_tree):
    images = load_images(write_tree(tmp_path, size=lambda i: (20 + i, 30)), "all")
    assert not images.in_memory and images[1][0].shape == (3, 21, 30)
    (pixels, labels), = batches(images.subset([7, 0]), 8, size=16)
    assert pixels.shape == (2, 3, 16, 16) and labels.tolist() == [1, 0]
    with pytest.raises(ValueError, match="expected a size in pixels"): list(batches(images, 8))


def test_grey_and_colour(tmp_path, write_tree):
    assert load_images(write_tree(tmp_path/"grey", mode="L"), "all").shape == (1, 16, 16)
    write_tree(tmp_path/"mixed", classes=("cat",), mode="L")
    assert load_images(write_tree(tmp_path/"mixed", classes=("dog",)), "all").shape == (3, 16, 16)


@pytest.mark.parametrize("encoded", [False, True])
def test_unreadable_image_is_named(tmp_path, write_tree, monkeypatch, encoded):
    if encoded: monkeypatch.setattr(adq.data, "memory_limit", 0)
    write_tree(tmp_path)
    (tmp_path/"dog"/"9.png").write_bytes(b"not an image at all")
    with pytest.raises(ValueError, match=r"dog/9\.png is not an image that can be read$"):
        list(batches(load_images(tmp_path, "all"), 2, size=8))
    whole = (tmp_path/"dog"/"1.png").read_bytes()
    (tmp_path/"dog"/"9.png").write_bytes(whole[:len(whole)//2])
    with pytest.raises(ValueError, match=r"dog/9\.png is damaged"):
        list(batches(load_images(tmp_path, "all"), 2, size=8))


@pytest.mark.parametrize("spoil, words", [
    (lambda root: (root/"dog"/"notes.doc").write_text("hello"),
     r"notes\.doc' is not an image; expected files ending in \.jpg"),
    (lambda root: (root/"empty").mkdir(), "class folder .*empty' is empty"),
    (lambda root: (root/"dog"/"0.png").rename(root/"0.png"), r"0\.png' lies beside the class folders"),
])
def test_folder_errors(tmp_path, write_tree, spoil, words):
    spoil(write_tree(tmp_path))
    with pytest.raises(ValueError, match=words): load_images(tmp_path)


def test_sources_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="is an empty folder"): load_images(tmp_path)
    (tmp_path/"a.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="has no class folders"): load_images(tmp_path)
    with pytest.raises(ValueError, match="neither a folder nor a known data set"): load_images(tmp_path/"missing")
    with pytest.raises(FileNotFoundError, match="cifar10 is not in .* could not be downloaded"):
        load_images("cifar10", data_root=tmp_path/"a.jpg") # a root that cannot be created, so no network is asked


def test_one_image_of_a_class_cannot_be_split(tmp_path, write_tree):
    write_tree(tmp_path)
    write_tree(tmp_path, classes=("rare",), each=1)
    with pytest.raises(ValueError, match="class 'rare' .* has 1 image"): load_images(tmp_path)
    assert len(load_images(tmp_path, "all")) == 9


@pytest.mark.parametrize("ending, opener", [(".gz", gzip.open), ("", open)])
def test_fashion_mnist_original_files(tmp_path, ending, opener):
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (30, 28, 28), dtype=np.uint8), rng.integers(0, 10, 30, dtype=np.uint8)
    files = ("t10k-images-idx3-ubyte", [2051, 30, 28, 28], pixels), ("t10k-labels-idx1-ubyte", [2049, 30], labels)
    for name, header, data in files:
        with opener(tmp_path/(name + ending), "wb") as f: f.write(np.array(header, ">i4").tobytes() + data.tobytes())
    images = load_images("fashion_mnist", "test", data_root=tmp_path)
    assert np.array_equal(images.images[:, 0].numpy(), pixels) and np.array_equal(images.labels, labels)
    assert images.classes[9] == "Ankle boot"


def test_labels_must_match():
    pixels = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match="labels has 2 entries for 3 images"): ImageData(pixels, [0, 1], "ab")
    with pytest.raises(ValueError, match="labels run from -1 to 1"): ImageData(pixels, [0, 1, -1], "ab")
    with pytest.raises(ValueError, match="images is torch.float32"): ImageData(pixels.float(), [0, 1, 1], "ab")
