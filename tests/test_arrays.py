"""Features and labels as they come, from memory and from files: read, or refused in one line that says what to do."""
import json, pickle

import numpy as np, pytest, scipy.sparse, torch

from adq.bins import bin_numbers, graphcut_bins
from adq.cli import main
from adq.pipeline import compress

rng = np.random.default_rng(0)
f = (rng.standard_normal((60, 8)) + np.repeat([1, 0], 30)[:, None]).astype(np.float32)
y = np.repeat([0, 1, 2], 20)
names = np.array(["owl", "fox", "elk"])[y]


def changed(array, row, value):
    array = array.copy()
    array[(row,) if array.ndim == 1 else (row, 2)] = value
    return array


def bins(capsys, folder, features, labels=None, *more):
    "Exit code, order of the samples or None, and standard error of `adq bins`."
    words = ["bins", features, "--out", folder/"out", *(["--labels", labels] if labels else []), *more]
    code = main(list(map(str, words)))
    return code, np.load(folder/"out"/"order.npy") if code == 0 else None, capsys.readouterr().err


def refused(code, order, err, words):
    assert code == 2 and err.startswith("adq: error: ") and err.count("\n") == 1 and words in err, err
    assert not any(unsafe in err for unsafe in ("pickle", "weights_only", "unsafe"))


arrays = [
    *(f.astype(dtype) for dtype in ("f2", ">f4", ">f8", "f8", "g")),
    *((f*30).round().clip(0, 120).astype(dtype) for dtype in ("i1", "u1", "i2", ">i4", "i8", "u8")),
    f > 0, np.asfortranarray(f), f[:, :1], np.tile(f, (1, 2))[:, ::2],
    np.zeros_like(f), np.repeat(f[:6], 10, 0), f.astype(float)*1e200, f.astype(float)*1e-200]

@pytest.mark.parametrize("array", arrays, ids=lambda a: a.dtype.str)
def test_features_of_every_type(capsys, tmp_path, array):
    np.save(tmp_path/"x.npy", array)
    np.savez(tmp_path/"x.npz", array)
    np.savetxt(tmp_path/"x.csv", array.astype(float), delimiter=",")
    expected = np.concatenate(graphcut_bins(np.array(array, np.float64)))
    for ending in "npy", "npz", "csv":
        code, order, _ = bins(capsys, tmp_path, tmp_path/f"x.{ending}", None, "--force")
        assert code == 0 and (order == expected).all()
    assert len(compress(features=array, method="dq", keep=0.5).indices) == 30


@pytest.mark.parametrize("array, words", [
    (f[:, 0], "has shape (60,); expected (N, D), neither of them 0; of one number a sample, features[:, None]"),
    (f.reshape(60, 4, 2), "features.reshape(len(features), -1)"),
    (np.array(1.0), "has shape ()"),
    (f[:0], "has shape (0, 8)"),
    (f[:, :0], "has shape (60, 0)"),
    (f.astype(complex), "expected real numbers"),
    (np.array([(1.0, 2.0)]*60, [("a", "f4"), ("b", "f4")]), "structured_to_unstructured"),
    (np.zeros((60, 8), "V2"), "a cast to float32"), # as NumPy stores bfloat16
    (names[:, None], "text needs an embedding"),
    (np.full((60, 2), "2020-01-01", "M8[D]"), "of dates"),
    (changed(f, 7, np.nan), "not finite in row 7"),
    (changed(f, 7, -np.inf), "not finite in row 7"),
    (changed(f.astype("f2"), 7, np.inf), "not finite in row 7"),
    (changed(f.astype("g"), 7, np.longdouble("1e400")), "not finite in row 7")])
def test_features_that_are_none(capsys, tmp_path, array, words):
    np.save(tmp_path/"x.npy", array)
    refused(*bins(capsys, tmp_path, tmp_path/"x.npy"), words)
    with pytest.raises(ValueError) as e: graphcut_bins(array)
    assert words in str(e.value)


def test_objects_are_never_loaded(capsys, tmp_path):
    class Evil:
        def __reduce__(self): return (open, (str(tmp_path/"ran"), "w"))
    evil = np.array([Evil()], object)
    np.save(tmp_path/"x.npy", evil)
    np.savez(tmp_path/"x.npz", x=evil)
    (tmp_path/"x.pkl").write_bytes(pickle.dumps(Evil()))
    np.save(tmp_path/"f.npy", f)
    for name in "x.npy", "x.npz", "x.pkl":
        refused(*bins(capsys, tmp_path, tmp_path/name), "holds Python objects, which are never read")
        refused(*bins(capsys, tmp_path, tmp_path/"f.npy", tmp_path/name), "holds Python objects, which are never read")
    assert not (tmp_path/"ran").exists()


@pytest.mark.parametrize("name, content, words", [
    ("x.csv", b"1,2\n3,four\n", "has 'four' in line 2, column 2; expected a number"),
    ("x.csv", b"a,b\n1,2\n3\n", "has 1 columns in line 3; expected 2"),
    ("x.csv", b"1,2\n3,\n", "has '' in line 2, column 2"),
    ("x.csv", b"0,1,2\n1,2,3\n", "row or column numbers of pandas"),
    ("x.csv", b",a,b\n0,1,2\n", "row or column numbers of pandas"),
    ("x.csv", b"\n\n", "has no line with a sample"),
    ("x.csv", b"a,b\n", "has no line with a sample"),
    ("x.csv", "1,2\n".encode("utf-16"), "is not text in UTF-8"),
    ("x.csv", b"1,2\n3,nan\n", "not finite in row 1"),
    ("x.csv:a", b"1,2\n", "nothing like 'a' is picked"),
    ("x.npy:a", b"\x93NUMPY", "is damaged"),
    ("x.npy", b"\x93NUMPY\1\0\x10\0{'descr': 'nonsen", "its header tells no array"),
    ("x.npy", b"", "is empty"),
    ("x.npz", b"PK\3\4 cut off", "is damaged"),
    ("x.bin", b"\0\1\2", "is none of the files that can be read"),
    ("x.h5", b"\x89HDF\r\n\x1a\n", "expected an array as numpy.save writes it")])
def test_files_of_other_things(capsys, tmp_path, name, content, words):
    (tmp_path/name.partition(":")[0]).write_bytes(content)
    refused(*bins(capsys, tmp_path, tmp_path/name, None, "--bins", 2), words)


def test_one_of_several_arrays_is_picked(capsys, tmp_path):
    np.savez_compressed(tmp_path/"all.npz", features=f, labels=y)
    refused(*bins(capsys, tmp_path, tmp_path/"all.npz"), "holds 2 arrays: features, labels; pick one, for example")
    refused(*bins(capsys, tmp_path, tmp_path/"all.npz:x"), "has no array 'x': features, labels; pick one")
    code, order, _ = bins(capsys, tmp_path, tmp_path/"all.npz:features", tmp_path/"all.npz:labels")
    assert code == 0 and (order == np.concatenate(graphcut_bins(f, y))).all()


@pytest.mark.parametrize("name, words", [
    ("none.npz", "holds no array"), ("f.pt", "torch.load('f.pt').float().numpy()"), ("sparse.npz", "toarray()"),
    ("cut.npy", "is damaged: it has 2,0"), ("f.npy:x", "is one array"),
    ("folder.npy", "is a folder"), ("nothing.npy", "No such file")])
def test_archives_of_other_things_and_files_cut_off(capsys, tmp_path, name, words):
    np.savez(tmp_path/"none.npz")
    np.save(tmp_path/"f.npy", f)
    torch.save(torch.from_numpy(f), tmp_path/"f.pt")
    scipy.sparse.save_npz(tmp_path/"sparse.npz", scipy.sparse.csr_matrix(f))
    (tmp_path/"cut.npy").write_bytes((tmp_path/"f.npy").read_bytes()[:-9])
    (tmp_path/"folder.npy").mkdir()
    refused(*bins(capsys, tmp_path, tmp_path/name), words)


labels_of_every_type = [
    *(y.astype(dtype) for dtype in ("i1", ">i8", "u8", "f4")), y[:, None], y > 0, y - 1, names, names.astype("S"),
    np.repeat([2**53, 2**53 + 1, -5], 20)]

@pytest.mark.parametrize("labels", labels_of_every_type, ids=lambda a: a.dtype.str)
def test_labels_of_every_type(capsys, tmp_path, labels):
    np.save(tmp_path/"f.npy", f)
    np.save(tmp_path/"y.npy", labels)
    code, order, _ = bins(capsys, tmp_path, tmp_path/"f.npy", tmp_path/"y.npy")
    expected = graphcut_bins(f, np.unique(labels.ravel(), return_inverse=True)[1])
    assert code == 0 and (order == np.concatenate(expected)).all()
    assert json.loads((tmp_path/"out"/"bins.json").read_text())["sizes"] == [6]*10
    for given in labels, labels.ravel().astype(object), labels.ravel().tolist():
        assert (np.concatenate(graphcut_bins(f, given)) == order).all()
    assert len(compress(features=f, labels=labels, method="dq", keep=0.5).indices) == 30


@pytest.mark.parametrize("name, text", [
    ("y.txt", "\n".join(map(str, y))),
    ("y.txt", "\n".join(f"{k}.0" for k in y)),
    ("y.txt", "\r\n".join(names) + "\r\n\r\n"),
    ("y.txt", "\n".join(np.array(["Paris, France", "NA", "10"])[y])),
    ("y.csv", "label\n" + "\n".join(names)),
    ("y.csv", "species\n" + "\n".join(map(str, y))),
    ("y.csv:class", "file;class\n" + "\n".join(f"{k}.png;{n}" for k, n in enumerate(names))),
    ("y.tsv:class", "class\tfile\n" + "\n".join(f'"{n}"\t{k}' for k, n in enumerate(names)))])
def test_labels_in_text(capsys, tmp_path, name, text):
    np.save(tmp_path/"f.npy", f)
    (tmp_path/name.partition(":")[0]).write_text(text)
    code, order, err = bins(capsys, tmp_path, tmp_path/"f.npy", tmp_path/name)
    assert code == 0, err
    assert set(np.bincount(y[order[:6]])) == {2}, "the first bin holds two of each class"


@pytest.mark.parametrize("labels, words", [
    (y[:50], "has shape (50,); expected (60,), one for each row of features"),
    (y[:0], "has shape (0,)"),
    (np.eye(3)[y], "labels.argmax(1)"),
    (y + 0.5, "has 0.5 in row 0"),
    (changed(y.astype(float), 7, np.nan), "has nan in row 7"),
    (changed(y.astype(float), 7, 1e300), "has 1e+300 in row 7"),
    (y.astype(complex), "dtype complex128; expected whole numbers or names"),
    (y.astype("M8[D]"), "dtype datetime64[D]"),
    (np.arange(60), "no class has more than 1 of the 60 samples")])
def test_labels_that_are_none(capsys, tmp_path, labels, words):
    np.save(tmp_path/"f.npy", f)
    np.save(tmp_path/"y.npy", labels)
    refused(*bins(capsys, tmp_path, tmp_path/"f.npy", tmp_path/"y.npy"), words)
    with pytest.raises(ValueError) as e: graphcut_bins(f, labels)
    assert words in str(e.value)


@pytest.mark.parametrize("pair, words", [
    (["owl", None], "has None in row 1"), (["owl", np.nan], "has nan in row 1"), ([1, "a"], "has 'a' in row 1"),
    ([None, 1], "has None in row 0"), ([1, None], "has None in row 1")])
def test_labels_of_several_kinds(pair, words):
    for labels in pair*30, np.array(pair*30, object):
        with pytest.raises(ValueError) as e: graphcut_bins(f, labels)
        assert f"labels {words}; expected whole numbers or names" in str(e.value)


@pytest.mark.parametrize("name, content, words", [
    ("y.csv", "a,b\nowl,1\n", "has the columns a, b; pick one, for example"),
    ("y.csv", "owl\n\nfox\n,\n", "has no label in line 4"),
    ("y.csv:c", "a,b\nowl,1\n", "has no column 'c'; expected one of a, b")])
def test_tables_of_labels_that_do_not_say(capsys, tmp_path, name, content, words):
    np.save(tmp_path/"f.npy", f)
    (tmp_path/"y.csv").write_text(content)
    refused(*bins(capsys, tmp_path, tmp_path/"f.npy", tmp_path/name), words)


@pytest.mark.parametrize("m", [3, 2**16, 2**16 + 1, 70_000])
def test_numbers_of_bins_never_wrap(m):
    order = rng.permutation(m)
    numbers = bin_numbers(list(order[:, None]))
    assert numbers.dtype == (np.uint16 if m <= 2**16 else np.uint32) and (numbers[order] == np.arange(m)).all()
