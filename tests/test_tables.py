"""Tables of images as people have them: names of splits, columns, labels, and what is wrong with them."""
import io, json, os, tarfile
from pathlib import Path

import datasets, numpy as np, pandas as pd, pyarrow as pa, pyarrow.parquet as pq, pytest, torch
from PIL import Image

import adq.data, adq.tables
from adq.data import split_word
from adq.sources import load_images
from adq.tables import (from_table, hub_images, is_saved, metadata_images, parquet_images, saved_images,
                        webdataset_images)

cats = datasets.ClassLabel(names=["cat", "dog"])
alternating = [0, 1]*8


def png(i):
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8), i % 256, np.uint8)).save(out, "png")
    return out.getvalue()


def table(labels, name="label", image="image", feature=None, start=0, **columns):
    "A data set with a picture of grey level start + i in row i."
    data = {image: [dict(bytes=png(start + i), path=None) for i in range(len(labels))], **columns}
    if name: data = {image: data.pop(image), name: labels, **data}
    made = datasets.Dataset.from_dict(data).cast_column(image, datasets.Image())
    return made.cast_column(name, feature) if feature else made


def write(folder, **tables):
    "Tables as Parquet files; a key 'a/b' is a path."
    for name, each in tables.items():
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(each, pa.Table): pq.write_table(each, folder/f"{name}.parquet")
        else: each.to_parquet(folder/f"{name}.parquet")
    return folder


def read(folder, split="all", **columns): return parquet_images(folder, folder.rglob("*.parquet"), split, **columns)


def refused(words): return pytest.raises(ValueError, match=words)


def greys(images): return [int(images[i][0][0, 0, 0]) for i in range(len(images))]


# Names of splits

@pytest.mark.parametrize("train, test", [
    ("train-00000-of-00001", "test-00000-of-00001"), ("data/train-00000-of-00001", "data/validation-00000-of-00001"),
    ("fruit_train", "fruit_test"), ("default/partial-train/0000", "default/partial-test/0000"), ("Train", "Test"),
    ("train-half", "testing"), ("TRAINING/a", "DEV/a"), ("train 1", "eval 1"), ("train2017", "val2017"),
    ("train/train_1", "test/test_1"), ("set [v2]*/train", "set [v2]*/test"), ("train.parquet/0", "test.parquet/0"),
])
def test_words_in_names_tell_the_split(tmp_path, train, test):
    write(tmp_path, **{train: table(alternating, feature=cats), test: table([1, 0], feature=cats, start=100)})
    assert greys(read(tmp_path, "train")) == list(range(16)) and greys(read(tmp_path, "test")) == [100, 101]
    with refused("without a split of their own"): read(tmp_path)


@pytest.mark.parametrize("names, words", [
    (("train", "more"), r"more\.parquet' belongs to no split; expected a word such as train"),
    (("train", "test", "extra"), r"extra\.parquet' belongs to no split"),
    (("mytrain", "mytest"), "seem to be of two splits"), (("validation", "test"), "expected train among them"),
    (("train/test", "train/train"), "names the splits test and train"),
    (("train_x-00000-of-00001", "train_y-00000-of-00001"), "splits train_x and train_y; expected one for train"),
])
def test_names_that_leave_the_split_open(tmp_path, names, words):
    write(tmp_path, **{name: table([0, 1]) for name in names})
    with refused(words): read(tmp_path, "train")


def test_the_plain_name_goes_before_longer_ones(tmp_path):
    names = ("en/train-00000-of-00001", "train_x-00000-of-00001", "train_y-00000-of-00001")
    assert len(read(write(tmp_path, **{name: table(alternating) for name in names}))) == 16


def test_a_path_above_the_source_names_no_split(tmp_path):
    assert len(read(write(tmp_path/"test"/"train", a=table(alternating), b=table(alternating)))) == 32
    assert split_word("contest") is None and split_word("evaluation") == "test"


@pytest.mark.parametrize("test_labels, used", [([1, 0, 1], "test"), ([-1]*3, "validation"), ([None]*3, "validation")])
def test_of_three_splits_the_labelled_test_is_the_test_part(tmp_path, test_labels, used):
    parts = dict(train=table(alternating, feature=cats), validation=table([0, 1], feature=cats, start=50),
                 test=table(test_labels, feature=cats, start=100), extra=table([0], feature=cats))
    write(tmp_path, **{f"{name}-00000-of-00001": part for name, part in parts.items()})
    train, test = read(tmp_path, "train"), read(tmp_path, "test")
    assert len(train) == 16 and greys(test) == ([100, 101, 102] if used == "test" else [50, 51])
    unused = "extra, validation" if used == "test" else "extra, test (no labels)"
    assert train.notes == test.notes == [f"the test part is the split '{used}'; not used: {unused}"]


def test_without_labels_to_test_on_train_is_divided(tmp_path):
    write(tmp_path, train=table(alternating), test=table([0]*4, name=None).add_column("path", ["a"]*4))
    parts = [read(tmp_path, split) for split in ("train", "test")]
    assert sorted(greys(parts[0]) + greys(parts[1])) == list(range(16))
    assert parts[0].notes == ["the test part is drawn from train; not used: test (no labels)"]


def test_hidden_files_are_left_out(tmp_path):
    write(tmp_path, **{"train": table(alternating), ".cache/old/train": table([0, 1])})
    (tmp_path/"._train.parquet").write_bytes(b"\0\5\x16\7")
    assert len(read(tmp_path)) == 16
    with refused("has no Parquet files"): read(tmp_path/"none")


def test_readme_tells_splits_and_configurations(tmp_path):
    write(tmp_path, one=table(alternating), two=table([0, 1], start=100))
    card = ("---\nconfigs:\n- config_name: {}\n  data_files:\n"
            "  - split: train\n    path: one.parquet\n  - split: test\n    path: t*.parquet\n{}---\n")
    (tmp_path/"README.md").write_text(card.format("plain", ""))
    assert len(read(tmp_path, "train")) == 16 and greys(read(tmp_path, "test")) == [100, 101]
    other = "- config_name: small\n  data_files: two.parquet\n"
    (tmp_path/"README.md").write_text(card.format("plain", other))
    with refused(r"has the configurations plain, small \(in README.md\)"): read(tmp_path)
    (tmp_path/"README.md").write_text(card.format("default", other))
    note, = read(tmp_path, "test").notes
    assert note == "the configuration 'default' is read, the default of README.md; also there: small"
    one_split = "- config_name: {}\n  default: {}\n  data_files:\n  - split: train\n    path: {}.parquet\n"
    (tmp_path/"README.md").write_text("---\nconfigs:\n" + one_split.format("large", "true", "one")
                                      + one_split.format("small", "false", "two") + "---\n")
    assert greys(read(tmp_path)) == list(range(16))
    for text in ("# Fruit\n\nPictures of fruit.\n", "---\nFruit: a: b [\n---\n", "---\nlicense: mit\n---\n"):
        (tmp_path/"README.md").write_text(text)
        assert len(read(tmp_path)) == 18
    (tmp_path/"README.md").write_text("---\nconfigs: [\n---\n")
    with refused("header of '.*README.md' cannot be read"): read(tmp_path)


# Columns

@pytest.mark.parametrize("columns, classes, note", [
    (dict(coarse_label=[0]*16, fine_label=alternating), ["0", "1"], "column 'fine_label'"),
    (dict(Class=alternating, caption=["a"]*16), ["0", "1"], None),
    (dict(image_id=list(range(16)), species=["owl", "fox"]*8), ["fox", "owl"], "column 'species'"),
    (dict(target=alternating, label=["a", "b"]*8), ["a", "b"], "column 'label', not target"),
])
def test_the_label_column(tmp_path, columns, classes, note):
    images = read(write(tmp_path, rows=table([0]*16, name=None, **columns)))
    assert images.classes == classes and (note is None or note in images.notes[0]) and bool(images.notes) == bool(note)


def test_declared_classes_go_before_plain_columns_but_not_before_names(tmp_path):
    left = datasets.ClassLabel(names=["left", "right"])
    named = table([i % 4 for i in range(16)], camera=alternating).cast_column("camera", left)
    assert len(read(write(tmp_path/"a", rows=named)).classes) == 4
    assert read(tmp_path/"a", label="camera").classes == ["left", "right"]
    assert read(write(tmp_path/"b", rows=named.rename_column("label", "weather"))).classes == ["left", "right"]
    plain = named.rename_column("label", "weather").cast_column("camera", datasets.Value("int64"))
    with refused("2 columns that could be the label: weather, camera; .*--label weather"):
        read(write(tmp_path/"c", rows=plain))
    with refused("label 'colour' is not a column of .*; expected one of label, camera"):
        read(tmp_path/"a", label="colour")


def test_the_image_column(tmp_path):
    rows = table(alternating, image="before", after=[dict(bytes=png(200), path=None)]*16)
    write(tmp_path, rows=rows.cast_column("after", datasets.Image()))
    with refused("could be the image: before, after; .*--image before"): read(tmp_path)
    assert greys(read(tmp_path, image="after")) == [200]*16
    with refused("image 'label' is no column of encoded images .*; expected one of before, after"):
        read(tmp_path, image="label")
    with refused("has the columns path, label; expected one of encoded images"):
        read(write(tmp_path/"paths", rows=datasets.Dataset.from_dict({"path": ["a", "b"], "label": [0, 1]})))
    with refused("has the columns image, caption; .* one with a label"):
        read(write(tmp_path/"captions", rows=table([0]*4, name=None, caption=list("abcd"))))


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_bare_bytes(tmp_path, kind):
    rows = pa.table({"picture": pa.array([png(i) for i in range(4)], kind), "label": list("baba")})
    images = read(write(tmp_path, rows=rows))
    assert images.classes == ["a", "b"] and images.labels.tolist() == [1, 0, 1, 0] and greys(images) == [0, 1, 2, 3]


# Labels

@pytest.mark.parametrize("labels, classes", [
    ([0., 1.]*8, "01"), ([[0], [1]]*8, "01"), ([[1, 0], [0, 1]]*8, "01"), ([[1., 0.], [0., 1.]]*8, "01"),
    ([[True, False], [False, True]]*8, "01"), ([False, True]*8, ["False", "True"]), ([["a"], ["b"]]*8, "ab"),
    ([3, 7]*8, "37"),
    (["2", "10"]*8, ["2", "10"]), (["img2", "img10"]*8, ["img2", "img10"]), ([-1, 1]*8, ["-1", "1"]),
])
def test_labels_that_mean_one_class(tmp_path, labels, classes):
    images = read(write(tmp_path, rows=table(labels)))
    assert images.classes == list(classes) and images.labels.tolist() == alternating


@pytest.mark.parametrize("kind, values", [
    (pa.dictionary(pa.int8(), pa.string()), ["0", "1"]), (pa.large_string(), ["0", "1"]),
    (pa.string_view(), ["0", "1"]), (pa.uint8(), [0, 1]), (pa.float16(), [np.float16(0), np.float16(1)]),
    (pa.decimal128(5, 1), [0, 1]), (pa.list_(pa.int8(), 1), [[0], [1]]),
])
def test_labels_of_any_arrow_type(tmp_path, kind, values):
    values = values*8
    rows = pa.table({"image": [dict(bytes=png(i), path=None) for i in range(16)], "label": pa.array(values, kind)})
    images = read(write(tmp_path, rows=rows))
    assert images.classes == ["0", "1"] and images.labels.tolist() == alternating


@pytest.mark.parametrize("labels", [
    [0, 1, None, 1, 0, 0], [0, 1, -1, 1, 0, 0], [0., 1., -1., 1., 0., 0.], ["0", "1", "-1", "1", "0", "0"],
    ["a", "b", None, "b", "a", "a"], [[0], [1], [], [1], [0], [0]], [[1, 0], [0, 1], None, [0, 1], [1, 0], [1, 0]],
])
def test_rows_without_a_label_are_left_out_and_counted(tmp_path, labels):
    images = read(write(tmp_path, rows=table(labels)))
    assert greys(images) == [0, 1, 3, 4, 5] and images.labels.tolist() == [0, 1, 1, 0, 0] and len(images.classes) == 2
    assert any("1 of 6 images" in note and "left out" in note for note in images.notes)


@pytest.mark.parametrize("labels, words", [
    ([0., float("nan")]*4, "column 'label' holds nan in row 1 of '.*rows.parquet'; expected whole numbers"),
    ([0., float("inf")]*4, "holds inf in row 1"), ([0., .5]*4, "holds 0.5 in row 1"),
    (["a", ""]*4, "holds '' in row 1 .*; expected the name of a class"), (["a", " "]*4, "holds ' ' in row 1"),
    ([[0], [0, 1]]*4, r"holds \[0, 1\] in row 1 .*; expected one label for each"),
    ([[1, 0], [1, 1]]*4, r"holds \[1, 1\] in row 1"), ([[1, 0], [0, 0]]*4, r"holds \[0, 0\] in row 1"),
    ([[[0]], [[1]]]*4, r"holds \[0\] in row 0"),
    ([dict(id=0, name="a"), dict(id=1, name="b")]*4, "label.id, label.name"),
    ([pd.Timestamp(0)]*8, "holds 1970.* in row 0"), ([None]*8, "holds no labels"), ([-1]*8, "holds no labels"),
])
def test_labels_that_are_none(tmp_path, labels, words):
    rows = pa.table({"image": [dict(bytes=png(i), path=None) for i in range(8)], "label": pa.array(labels)})
    with refused(words): read(write(tmp_path, rows=rows))


def test_declared_classes(tmp_path):
    several = datasets.List(cats)
    assert read(write(tmp_path/"a", rows=table([[0], [1]]*4, feature=several))).classes == ["cat", "dog"]
    write(tmp_path/"b", rows=table([[0, 1]]*4, feature=several))
    with refused(r"holds \[0, 1\] in row 0"): read(tmp_path/"b")
    three = datasets.ClassLabel(names=["ant", "cat", "dog"])
    write(tmp_path/"c", train=table([0, 1, 2, 0], feature=three), test=table([0, 1], feature=cats))
    assert read(tmp_path/"c", "test").labels.tolist() == [1, 2] # by name, whatever the test part numbers
    write(tmp_path/"d", train=table([0, 1], feature=cats), test=table([0], feature=three))
    with refused("has the class 'ant'; expected those that train declares, such as 'cat'"):
        read(tmp_path/"d", "test")
    write(tmp_path/"e", a=table([0], feature=cats), b=table([0], feature=three))
    with refused("b.parquet' declares other classes of label"): read(tmp_path/"e")
    write(tmp_path/"f", rows=table([dict(id=0), dict(id=1)]*4))
    assert read(tmp_path/"f", label="label.id").labels.tolist() == [0, 1]*4


def test_classes_that_the_test_part_lacks_keep_their_numbers(tmp_path):
    write(tmp_path, train=table(list("abc")*4), val=table(["c", "a"]))
    assert read(tmp_path, "train").classes == read(tmp_path, "test").classes == ["a", "b", "c"]
    assert read(tmp_path, "test").labels.tolist() == [2, 0]


def test_wide_numbers_are_classes_of_their_own(tmp_path):
    wide = [2**53, 2**53 + 1]
    for kind in pa.decimal128(20, 0), pa.int64():
        rows = pa.table({"image": [dict(bytes=png(i), path=None) for i in range(16)], "label": pa.array(wide*8, kind)})
        assert read(write(tmp_path, rows=rows)).classes == [str(2**53), str(2**53 + 1)]


def test_the_search_for_labels_reads_no_column_of_bytes(tmp_path, monkeypatch):
    write(tmp_path, rows=table(["owl", "fox"]*8, name="breed", thumb=[png(i) for i in range(16)]))
    asked, files = [], adq.tables._ParquetFiles
    read_one = files.column
    monkeypatch.setattr(files, "column", lambda self, name: asked.append(name) or read_one(self, name))
    assert read(tmp_path).classes == ["fox", "owl"] and set(asked) == {"breed"}


def test_a_first_group_of_rows_may_be_empty(tmp_path):
    rows = pa.table({"image": [dict(bytes=png(i), path=None) for i in range(16)], "label": alternating})
    with pq.ParquetWriter(tmp_path/"rows.parquet", rows.schema) as writer:
        for part in rows.slice(0, 0), rows: writer.write_table(part)
    assert pq.read_metadata(tmp_path/"rows.parquet").row_group(0).num_rows == 0
    assert greys(read(tmp_path)) == list(range(16))


# What is wrong with a file or a row

def test_a_missing_shard_is_named(tmp_path):
    for k in 0, 1, 3: write(tmp_path, **{f"train-{k:05d}-of-00004": table(alternating)})
    with refused("lacks train-00002-of-00004, which its other files count; expected all 4"): read(tmp_path)
    for k in 0, 3: (tmp_path/f"train-{k:05d}-of-00004.parquet").unlink()
    for k in 2, 3, 4: write(tmp_path, **{f"train-{k:05d}-of-00004": table(alternating)}) # counted from 1
    assert len(read(tmp_path)) == 64
    for k in 2, 3: (tmp_path/f"train-{k:05d}-of-00004.parquet").unlink()
    with refused("lacks train-00002-of-00004"): read(tmp_path)
    (tmp_path/"README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: train-*\n---\n")
    with refused("lacks train-00002-of-00004"): read(tmp_path)


def test_columns_of_several_dimensions_are_no_labels(tmp_path):
    features = datasets.Features(image=datasets.Image(), breed=datasets.Value("string"),
                                 places=datasets.Array2D((2, 2), "int32"))
    rows = dict(image=[dict(bytes=png(i), path=None) for i in range(16)], breed=["owl", "fox"]*8,
                places=[[[0, 1], [1, 0]]]*16)
    assert read(write(tmp_path, rows=datasets.Dataset.from_dict(rows, features))).classes == ["fox", "owl"]

def test_shards_that_do_not_fit(tmp_path):
    write(tmp_path, **{"train-00000-of-00003": table([0]).select([]), "train-00001-of-00003": table(alternating),
                       "train-00002-of-00003": table([0]).select([])})
    images = read(tmp_path)
    empty = [f"'{tmp_path}/train-0000{k}-of-00003.parquet' has no rows" for k in (0, 2)]
    assert len(images) == 16 and images.notes == empty
    write(tmp_path, **{"train-00002-of-00003": table(alternating, name="kind")})
    with refused("2-of-00003.parquet' has the columns image, kind; expected label"): read(tmp_path)
    write(tmp_path, **{"train-00002-of-00003": table(["a"]*4)})
    with refused("2-of-00003.parquet' holds label as string, '.*1-of-00003.parquet' as numbers"): read(tmp_path)
    write(tmp_path, **{"train-00002-of-00003": pa.table({"image": [png(0)], "label": [0]})})
    with refused("2-of-00003.parquet' holds image as binary, '.*1-of-00003.parquet' as images"): read(tmp_path)
    undeclared = pa.table({"image": [dict(bytes=png(0), path=None)], "label": pa.nulls(1)})
    assert len(read(write(tmp_path/"mixed", a=table(["a", "b"]), b=undeclared))) == 2
    write(tmp_path/"none", train=table([0]).select([]))
    with refused("has no rows; expected a table"): read(tmp_path/"none")


def test_a_damaged_file_is_named(tmp_path):
    write(tmp_path, a=table(alternating*20), b=table(alternating*20))
    whole = (tmp_path/"b.parquet").read_bytes()
    (tmp_path/"b.parquet").write_bytes(bytes(2000) + whole[2000:])
    with refused("b.parquet' (is damaged|cannot be read)"): read(tmp_path)
    (tmp_path/"b.parquet").write_bytes(whole[:len(whole)//2])
    with refused("b.parquet' is not a Parquet file that can be read"): read(tmp_path)


def test_a_replaced_file_of_the_same_time_is_not_taken_for_the_old_one(tmp_path):
    write(tmp_path, train=table(alternating))
    file = tmp_path/"train.parquet"
    assert greys(read(tmp_path)) == list(range(16))
    old = file.stat()
    write(tmp_path/"new", train=table(alternating, start=100))
    (tmp_path/"new"/"train.parquet").replace(file)
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert greys(read(tmp_path)) == list(range(100, 116))


def test_parts_of_other_columns_or_classes(tmp_path):
    write(tmp_path, train=table(alternating), test=table(["cat", "dog"]))
    with refused("train and test have no class in common, as '0' and 'cat'"): read(tmp_path, "test")
    write(tmp_path, test=table([0, 1], image="img"))
    with refused("has the columns img, label; expected image as in the other files"): read(tmp_path, "test")


@pytest.mark.parametrize("row, words", [
    (None, "row 1 of .*rows.parquet' holds no image bytes; expected"),
    (dict(bytes=None, path=None), "holds no image bytes"), (dict(bytes=b"", path=None), "holds no image bytes"),
    (dict(bytes=None, path=__file__), "row 1 of .* the path '.*test_tables.py'"),
    (dict(bytes=b"junk", path="a.png"), "row 1 of .* is not an image that can be read"),
])
def test_a_row_without_an_image_is_named(tmp_path, row, words):
    good = dict(bytes=png(0), path=__file__)
    rows = pa.table({"image": pa.array([good, row, good]), "label": [0, 1, 0]})
    with refused(words): read(write(tmp_path, rows=rows))


def test_rows_are_named_as_their_file_counts_them(tmp_path, monkeypatch):
    monkeypatch.setattr(adq.data, "memory_limit", 0)
    write(tmp_path, **{"train-00000-of-00002": table([0, None, 1])})
    pictures = [dict(bytes=data, path=None) for data in (png(0), png(1), b"junk")]
    images = read(write(tmp_path, **{"train-00001-of-00002": pa.table({"image": pictures, "label": [None, 0, 1]})}))
    with refused("row 2 of '.*1-of-00002.parquet' is not an image"): images.subset([3]).images[0]


def test_bytes_go_before_a_path(tmp_path):
    rows = pa.table({"image": [dict(bytes=png(i), path="/etc/hostname") for i in range(4)], "label": [0, 1, 0, 1]})
    assert greys(read(write(tmp_path, rows=rows))) == [0, 1, 2, 3]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    write(tmp_path/"set", rows=table(alternating))
    (tmp_path/"cache").mkdir(mode=0o500)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path/"cache")
    with refused("the cache of datasets, .* cannot be written .*; set HF_HOME"): read(tmp_path/"set")


def test_a_cache_that_is_a_file(tmp_path, monkeypatch):
    write(tmp_path/"set", rows=table(alternating))
    (tmp_path/"cache").write_text("")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path/"cache"/"datasets")
    with refused("the cache of datasets, .* cannot be written .*; set HF_HOME"): read(tmp_path/"set")


def test_views_of_a_table_are_read_through_their_index():
    rows = table(alternating)
    dogs = rows.filter(lambda row: row["label"] == 1)
    both = datasets.concatenate_datasets([rows.select([3]), rows.select([1])])
    for view in (rows.select([5, 2]), rows.shuffle(seed=1), rows.sort("label", reverse=True), dogs,
                 dogs.select(range(3)), both, rows.train_test_split(4, seed=0)["test"]):
        encoded = from_table(view, "it")
        assert [int(encoded[i][0, 0, 0]) for i in range(len(view))] == [int(np.asarray(p)[0, 0]) for p in view["image"]]
        assert encoded.nbytes == sum(len(encoded.data(i)) for i in range(len(view)))
    with refused("image 'img' is not a column of it; expected one of image, label"):
        from_table(rows, "it", "img")


# The hub, saved data sets, lists, archives

def hub(monkeypatch, parts, configs=("default",)):
    def split_names(name, config=None):
        if config not in configs and (config or len(configs) > 1): raise ValueError("Config name is missing.")
        return list(parts)
    monkeypatch.setattr(datasets, "get_dataset_split_names", split_names)
    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda name: list(configs))
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config=None, split=None: parts[split])


def test_hub_data_set(monkeypatch):
    hub(monkeypatch, {"train": table(alternating, "fine_label", "img", cats),
                      "validation": table([1, 0], "fine_label", "img", cats, start=50)})
    assert greys(load_images("hf:owner/name")) == list(range(16))
    assert greys(load_images("hf:owner/name", "test")) == [50, 51]
    with refused("hf:owner/name has train, validation"): load_images("hf:owner/name", "all")
    with refused("label 'x' is not a column of hf:owner/name; expected one of fine_label"):
        hub_images("owner/name", "train", label="x")
    def offline(name): raise ConnectionError("no route to host")
    monkeypatch.setattr(datasets, "get_dataset_split_names", offline)
    with pytest.raises(FileNotFoundError, match="hf:owner/name could not be reached .* download its Parquet files"):
        load_images("hf:owner/name")


def test_hub_configurations(monkeypatch):
    hub(monkeypatch, {"train": table(alternating)}, ("large", "small"))
    assert len(hub_images("owner/name:small", "all")) == 16
    for name in ("owner/name", "owner/name:tiny"):
        with refused("has the configurations large, small; .* as in hf:owner/name:large"):
            hub_images(name, "all")


def test_a_hub_set_that_is_a_script(monkeypatch):
    def split_names(name): raise RuntimeError("Dataset scripts are no longer supported, but found name.py")
    monkeypatch.setattr(datasets, "get_dataset_split_names", split_names)
    monkeypatch.setattr(datasets, "get_dataset_config_names", split_names)
    with refused("hf:owner/name cannot be read .Dataset scripts are no"): hub_images("owner/name", "all")


def test_hub_rows_may_name_files_of_the_cache_only(monkeypatch, tmp_path):
    (tmp_path/"cache").mkdir()
    (tmp_path/"cache"/"0.png").write_bytes(png(7))
    (tmp_path/"0.png").write_bytes(png(8))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path/"cache")
    def parts(path):
        rows = datasets.Dataset.from_dict({"image": [dict(bytes=None, path=str(path))]*2, "label": [0, 1]})
        return {"train": rows.cast_column("image", datasets.Image())}
    hub(monkeypatch, parts(tmp_path/"cache"/"0.png"))
    images = hub_images("owner/name", "all")
    assert greys(images) == [7, 7] and images.nbytes == 2*len(png(7))
    for path in (tmp_path/"0.png", tmp_path/"cache"/".."/"0.png"):
        hub(monkeypatch, parts(path))
        with refused("row 0 of hf:owner/name holds no image bytes but the path"):
            hub_images("owner/name", "all")


def test_saved_to_disk(tmp_path):
    train, test = table(alternating, feature=cats), table([1, 0], feature=cats, start=100)
    datasets.DatasetDict(train=train, test=test).save_to_disk(tmp_path/"both")
    for name, each in {"one": train, "apart/train": train, "apart/val": test}.items(): each.save_to_disk(tmp_path/name)
    for name in ("both", "apart"):
        assert is_saved(tmp_path/name) and greys(saved_images(tmp_path/name, "train")) == list(range(16))
        assert greys(saved_images(tmp_path/name, "test")) == [100, 101]
    assert len(saved_images(tmp_path/"one", "all")) == 16 and not is_saved(tmp_path)
    train.shuffle(seed=0).save_to_disk(tmp_path/"mixed")
    assert saved_images(tmp_path/"mixed", "all").labels.tolist() == train.shuffle(seed=0)["label"][:]
    next((tmp_path/"one").glob("*.arrow")).write_bytes(b"no arrow")
    with refused("one' cannot be read"): saved_images(tmp_path/"one", "all")
    with refused("not written by save_to_disk"): saved_images(tmp_path, "all")


def listed(folder, name="metadata.csv", count=4, **columns):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count): (folder/f"{i}.png").write_bytes(png(i))
    rows = pd.DataFrame({"file_name": [f"{i}.png" for i in range(count)], **columns})
    if name.endswith("csv"): rows.to_csv(folder/name, index=False)
    elif name.endswith("jsonl"): rows.to_json(folder/name, orient="records", lines=True)
    else: rows.to_parquet(folder/name)
    return folder


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_image_files_with_a_list(tmp_path, name):
    listed(tmp_path/"train", name, label=["cat", "dog", "cat", None])
    listed(tmp_path/"val", name, 2, label=["dog", "cat"])
    train, test = metadata_images(tmp_path, "train"), metadata_images(tmp_path, "test")
    assert train.labels.tolist() == [0, 1, 0] and test.labels.tolist() == [1, 0] and train.classes == ["cat", "dog"]
    assert "1 of 4 images" in train.notes[-1]


def test_one_list_above_the_splits(tmp_path):
    for part in ("train", "test"): (listed(tmp_path/part)/"metadata.csv").unlink()
    names = [f"train/{i}.png" for i in range(4)] + [f"test/{i}.png" for i in range(3)]
    rows = pd.DataFrame({"file_name": names, "kind": ["NA", "007", "NA", "007", "NA", "007", "NA"]})
    rows.to_csv(tmp_path/"metadata.csv", index=False)
    images = metadata_images(tmp_path, "test")
    assert images.classes == ["007", "NA"] and images.labels.tolist() == [1, 0, 1]
    assert any("1 images are in no list" in note and "test/3.png" in note for note in images.notes)


def test_a_list_behind_a_link(tmp_path):
    listed(tmp_path/"set"/"train", label=["cat", "dog"]*2)
    listed(tmp_path/"elsewhere", label=["dog", "cat"]*2)
    (tmp_path/"set"/"test").symlink_to(tmp_path/"elsewhere")
    assert metadata_images(tmp_path/"set", "test").labels.tolist() == [1, 0]*2


@pytest.mark.parametrize("file_name, words", [
    ("../secret.png", "names '.*secret.png'; expected files within it"), ("9.png", "9.png', which is not there"),
    ("/etc/hostname", "names '/etc/hostname'; expected files within"),
])
def test_a_list_names_files_of_its_folder_only(tmp_path, file_name, words):
    (tmp_path/"secret.png").write_bytes(png(0))
    listed(tmp_path/"set", label=[0, 1, 0, 1])
    (tmp_path/"set"/"metadata.csv").write_text(f"file_name,label\n0.png,a\n{file_name},b\n")
    with refused(words): metadata_images(tmp_path/"set", "all")


@pytest.mark.parametrize("lines, words", [
    ("", "metadata.csv' cannot be read"), ("file_name,label", "names no images"),
    ("name,label\n0.png,a", "has the columns name, label"), ("file_name,label\n0.png,a\n0.png,b", "0.png' 2 times"),
    ("file_name,label\n,a", "row 0 of '.*metadata.csv' has no file_name"),
    ("file_name\n0.png", "has the columns file_name; .* one with a label"),
])
def test_lists_that_are_none(tmp_path, lines, words):
    (listed(tmp_path, label=[0, 1, 0, 1])/"metadata.csv").write_text(lines)
    with refused(words): metadata_images(tmp_path, "all")


def archive(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in samples:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("ending, data", [
    ("cls", lambda i: str(i % 2)), ("json", lambda i: json.dumps({"label": i % 2, "id": i})),
    ("txt", lambda i: "ab"[i % 2]),
])
def test_webdataset_archives(tmp_path, ending, data):
    for part, count in (("train-000000", 8), ("train-000001", 8), ("val-000000", 4)):
        pairs = [((f"{i:03}.png", png(i)), (f"{i:03}.{ending}", data(i).encode())) for i in range(count)]
        archive(tmp_path/f"{part}.tar", [member for pair in pairs for member in pair])
    train, test = (webdataset_images(tmp_path, tmp_path.glob("*.tar"), split) for split in ("train", "test"))
    assert greys(train) == [*range(8)]*2 and train.labels.tolist() == alternating and greys(test) == [0, 1, 2, 3]


def test_archives_with_several_pictures_each(tmp_path):
    samples = [(f"{i}.{name}", data) for i in range(6)
               for name, data in (("seg.png", png(100 + i)), ("photo.png", png(i)), ("txt", b"ab"[i % 2:][:1]))]
    tar = archive(tmp_path/"a.tar", samples)
    with refused("2 columns that could be the image: seg.png, photo.png;"): webdataset_images(tmp_path, [tar], "all")
    assert greys(webdataset_images(tmp_path, [tar], "all", image="photo.png")) == list(range(6))


def test_archives_of_another_kind(tmp_path):
    def read(*files): return webdataset_images(tmp_path, files, "all")
    with refused("has the columns png, .* one with a label"):
        read(archive(tmp_path/"a.tar", [(f"cat/{i}.png", png(i)) for i in range(6)]))
    (tmp_path/"b.tar").write_bytes(b"no archive")
    with refused("b.tar' does not hold archives in WebDataset's form"): read(tmp_path/"b.tar")
    with refused("has no .tar files"): read()


def test_cifar_parquet(cifar_folder):
    test = load_images(cifar_folder, "test")
    assert len(test) == 10_000 and test.shape == (3, 32, 32) and test.classes[0] == "airplane" and test.notes == []
    assert torch.equal(torch.bincount(torch.from_numpy(test.labels)), torch.full((10,), 1000))
