"""Folders of images as people have them: splits, depths, links, litter, tables beside the images."""
import os, shutil

import datasets, numpy as np, pytest
from datasets.data_files import NON_WORDS_CHARS, SPLIT_KEYWORDS

from adq.data import split_word
from adq.sources import load_images


def counts(images): return np.bincount(images.labels, minlength=len(images.classes)).tolist()


@pytest.mark.parametrize("train, test", [
    ("Train", "Test"), ("training_set", "test_set"), ("training", "testing"), ("train", "eval"), ("TRAIN", "valid"),
    ("train2017", "val2017"), ("my-train", "my-dev"), ("seg.train", "Evaluation 1"),
])
def test_split_folders_by_the_words_of_the_library_datasets(tmp_path, write_tree, train, test):
    write_tree(tmp_path/train)
    write_tree(tmp_path/test, each=2)
    parts = [load_images(tmp_path, split) for split in ("train", "test")]
    assert [(counts(p), p.classes, p.notes) for p in parts] == [([n, n], ["cat", "dog"], []) for n in (4, 2)]


def test_words_of_splits_are_those_of_the_library_datasets():
    for split, words in SPLIT_KEYWORDS.items():
        assert {split_word(f"{sign}{word}{sign}x") for word in words for sign in NON_WORDS_CHARS} == {str(split)}


def test_of_three_splits_the_test_part_is_test_where_it_has_labels(tmp_path, write_tree):
    for name, each in ("train", 4), ("val", 3), ("test", 2): write_tree(tmp_path/name, each=each)
    images = load_images(tmp_path, "test")
    assert counts(images) == [2, 2] and images.notes == [f"'{tmp_path}/val' is not read: the test part is 'test'"]
    shutil.rmtree(tmp_path/"test")
    write_tree(tmp_path, classes=("test",), each=5)
    images = load_images(tmp_path, "test")
    assert counts(images) == [3, 3]
    assert images.notes == [f"'{tmp_path}/test' is not read: it has no folder of a class of train, "
                            "and the test part is 'val'"]
    shutil.rmtree(tmp_path/"val")
    assert "the test part is drawn from train" in load_images(tmp_path).notes[0] and len(load_images(tmp_path)) == 6


@pytest.mark.parametrize("names, words", [
    (("one/train/cat", "one/train/dog", "one/val/cat", "two/train/cat"), "one folder too high"),
    (("one/cat", "one/dog"), "one folder too high"),
    (("one/cat", "one/dog", "two/cat", "two/dog"), "one folder too high"),
    (("train/cat", "Training/cat"), "are both named for train; expected one such folder"),
    (("test/cat", "val/cat"), "but no train folder beside it"),
    (("train/cat", "train/dog", "car", "plane"), "has 'car' beside 'train', which has folders too"),
])
def test_folders_whose_meaning_is_unclear_are_refused(tmp_path, write_tree, names, words):
    write_tree(tmp_path, classes=names)
    with pytest.raises(ValueError, match=words): load_images(tmp_path)


def test_a_train_folder_without_class_folders_is_refused(tmp_path, write_tree):
    write_tree(tmp_path, classes=("train", "test"))
    with pytest.raises(ValueError, match="train' has no class folders with images"): load_images(tmp_path)


def test_a_test_set_has_the_classes_of_train(tmp_path, write_tree):
    write_tree(tmp_path/"train", classes=("ant", "cat", "dog"))
    write_tree(tmp_path/"val", classes=("ant", "dog"), each=3)
    images = load_images(tmp_path, "test")
    assert images.classes == ["ant", "cat", "dog"] and counts(images) == [3, 0, 3]
    assert images.notes == [f"'{tmp_path}/val' has no image of class 'cat'"]
    write_tree(tmp_path/"val", classes=("elk",))
    with pytest.raises(ValueError, match="val/elk' is no class of the train set, which has ant, cat, dog"):
        load_images(tmp_path, "test")
    assert len(load_images(tmp_path)) == 12


def test_every_image_below_a_class_folder_belongs_to_it(tmp_path, write_tree):
    write_tree(tmp_path, classes=("cat", "cat/images", "cat/images/more"), each=3)
    write_tree(tmp_path/"dog", classes=("puppy", "adult"), each=2)
    images = load_images(tmp_path, "all")
    assert counts(images) == [9, 4] and images.classes == ["cat", "dog"]


def test_links_are_followed_and_loops_are_not(tmp_path, write_tree):
    write_tree(tmp_path/"store", classes=("cat", "dog", "more"))
    (tmp_path/"set"/"dog").mkdir(parents=True)
    (tmp_path/"set"/"cat").symlink_to(tmp_path/"store"/"cat")
    for i in range(4): (tmp_path/"set"/"dog"/f"{i}.png").symlink_to(tmp_path/"store"/"dog"/f"{i}.png")
    (tmp_path/"set"/"dog"/"batch").symlink_to(tmp_path/"store"/"more")
    (tmp_path/"set"/"dog"/"loop").symlink_to(tmp_path/"set")
    assert counts(load_images(tmp_path/"set", "all")) == [4, 8]
    (tmp_path/"set"/"dog"/"lost.png").symlink_to(tmp_path/"gone.png")
    with pytest.raises(ValueError, match="dog/lost.png' is a link that leads nowhere, to '.*gone.png'"):
        load_images(tmp_path/"set")
    (tmp_path/"set"/"dog"/"lost.png").rename(tmp_path/"set"/"fox")
    with pytest.raises(ValueError, match="set/fox' is a link that leads nowhere"): load_images(tmp_path/"set")


def test_what_systems_and_tools_leave_is_left_out(tmp_path, write_tree):
    write_tree(tmp_path)
    write_tree(tmp_path/"cat", classes=(".ipynb_checkpoints", ".cache", "__MACOSX"))
    write_tree(tmp_path, classes=(".ipynb_checkpoints", "__MACOSX", "@eaDir"))
    for name in ".DS_Store", "cat/.DS_Store", "cat/._0.png", "cat/Thumbs.db", "dog/desktop.ini", "__MACOSX/._cat":
        (tmp_path/name).write_bytes(b"\0\5\x16\7")
    images = load_images(tmp_path, "all")
    assert counts(images) == [4, 4] and images.classes == ["cat", "dog"] and not images.notes


@pytest.mark.parametrize("name", ["metadata.csv", "cat/metadata.csv", "metadata.parquet", "embeddings.parquet",
                                  "cat/part.parquet", "labels.jsonl", "dog/0.txt"])
@pytest.mark.parametrize("split_up", [False, True])
def test_tables_and_texts_beside_images_are_noted(tmp_path, write_tree, name, split_up):
    root = tmp_path/"train" if split_up else tmp_path
    write_tree(root)
    if split_up: write_tree(tmp_path/"test")
    if name.endswith(".parquet"): datasets.Dataset.from_dict({"path": ["a"], "label": [0]}).to_parquet(root/name)
    else: (root/name).write_text("file_name,label\n")
    images = load_images(tmp_path, "train" if split_up else "all")
    assert counts(images) == [4, 4] and images.notes == [f"'{root/name}' is no image and is not read"]


def test_an_ending_that_tells_nothing(tmp_path, write_tree):
    write_tree(tmp_path)
    (tmp_path/"cat"/"0.png").rename(tmp_path/"cat"/"0") # no ending: its content tells
    assert counts(load_images(tmp_path, "all")) == [4, 4]
    (tmp_path/"dog"/"LICENSE").write_text("MIT")
    with pytest.raises(ValueError, match="dog/LICENSE is not an image that can be read"): load_images(tmp_path)
    (tmp_path/"dog"/"LICENSE").rename(tmp_path/"dog"/"0.heic")
    with pytest.raises(ValueError, match=r"dog/0\.heic' is not an image; expected files ending in \.jpg"):
        load_images(tmp_path)


def test_names_that_are_not_utf8(tmp_path, write_tree):
    write_tree(tmp_path)
    base = os.fsencode(tmp_path)
    try:
        os.rename(base + b"/cat/0.png", base + b"/cat/caf\xe9.png")
        os.rename(base + b"/cat", base + b"/caf\xe9")
    except OSError: pytest.skip("this file system takes names in UTF-8 only")
    assert counts(load_images(tmp_path, "all")) == [4, 4]


def test_columns_are_for_tables(tmp_path, write_tree):
    write_tree(tmp_path)
    with pytest.raises(ValueError, match="label 'species' names a column of a table, and .* has none"):
        load_images(tmp_path, label="species")
    with pytest.raises(ValueError, match="image 'img' names a column of a table, and 'digits' has none"):
        load_images("digits", image="img")


def test_a_list_of_files_is_read_where_there_are_no_class_folders(tmp_path, write_tree):
    for name, each in ("train", 4), ("test", 2):
        write_tree(tmp_path, classes=(name,), each=each)
        rows = [f"{i}.png,{'cat' if i % 2 else 'dog'}" for i in range(each)]
        (tmp_path/name/"metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    assert [counts(load_images(tmp_path, split)) for split in ("train", "test")] == [[2, 2], [1, 1]]


def test_images_beside_parquet_files_are_noted(tmp_path, write_tree):
    write_tree(tmp_path, classes=("assets",))
    pictures = [(tmp_path/"assets"/f"{i}.png").read_bytes() for i in range(4)]
    table = datasets.Dataset.from_dict({"image": [dict(bytes=b, path=None) for b in pictures], "label": [0, 1, 0, 1]})
    (tmp_path/"data").mkdir()
    table.cast_column("image", datasets.Image()).to_parquet(tmp_path/"data"/"train.parquet")
    images = load_images(tmp_path, "all")
    assert counts(images) == [2, 2] and f"'{tmp_path}/assets' is not read" in images.notes[-1]


def test_a_test_folder_without_images(tmp_path, write_tree):
    write_tree(tmp_path/"train")
    for c in "cat", "dog": (tmp_path/"test"/c).mkdir(parents=True)
    with pytest.raises(ValueError, match="has no images; expected at least one"): load_images(tmp_path, "test")
    shutil.rmtree(tmp_path/"test")
    (tmp_path/"test").mkdir()
    assert load_images(tmp_path).notes == [f"'{tmp_path}/test' is not read: it has no folder of a class of train, "
                                           "and the test part is drawn from train"]
