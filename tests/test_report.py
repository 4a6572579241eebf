"""`adq report`: the page in a browser, its numbers, sets without their source, bad input."""
import json, re, shutil, sys, types
from importlib.machinery import ModuleSpec

import datasets, numpy as np, papermill, pytest

from adq.cli import main
from adq.execute import pages_folder
from adq.report import add_accuracy, open_set, plane, read_accuracies
from adq.manifest import readable_size
from adq.sources import load_images
from adq.store import encode


def run(*words): return main(list(map(str, words)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    small = tmp_path_factory.mktemp("report")/"small"
    assert run("compress", "digits", "--profile", "smoke", "--keep", 0.1, "--patch-keep", 0.75, "--out", small) == 0
    assert run("train", small, "--test", "digits", "--profile", "smoke", "--reconstruct", "mean") == 0
    assert run("train", "digits", "--indices", small, "--profile", "smoke", "--seed", 1) == 0
    return small


@pytest.fixture(scope="module")
def page(folder):
    assert run("report", folder) == 0
    return folder.with_name("small-report.html")


@pytest.fixture(scope="module")
def lonely(folder, pages_here):
    "The page of the same set where its source is gone."
    copy = folder.with_name("lonely")
    shutil.copytree(folder, copy)
    about = json.loads((copy/"compressed.json").read_text())
    about["settings"]["source"] = "holidays"
    (copy/"compressed.json").write_text(json.dumps(about))
    (copy/"accuracy.jsonl").unlink()
    assert run("report", copy, "--out", copy.with_name("alone.html")) == 0
    return copy.with_name("alone.html")


look_at_images = """[...document.images].map(i =>
    [i.complete && i.naturalWidth > 0, i.alt.length, i.getBoundingClientRect().right])"""


@pytest.mark.parametrize("which", ["page", "lonely"])
def test_in_a_browser(which, tab, request):
    path = request.getfixturevalue(which)
    for width in (400, 1600):
        tab.set_viewport_size(dict(width=width, height=800))
        tab.goto(path.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        images = tab.evaluate(look_at_images)
        assert len(images) > 15 and all(loaded and alt > 10 and right <= width for loaded, alt, right in images)
    assert tab.evaluate("document.querySelectorAll('.input, .prompt, script').length") == 0
    assert "Traceback" not in tab.inner_text("main")


def test_numbers_are_those_of_the_set(page, folder):
    bare = re.sub(r"<style>.*?</style>|data:image[^\"]*", "", page.read_text(), flags=re.S)
    text, about = re.sub(r"<[^>]*>", " ", bare), json.loads((folder/"compressed.json").read_text())
    of, rows = about["bytes"], read_accuracies(folder)
    assert f"{about['kept']:,} of {about['images']:,}" in text and f"{of['stored']:,} of {of['source']:,} bytes" in text
    assert f"{readable_size(of['source'])} → {readable_size(of['stored'])}" in text
    sizes, columns = np.bincount(np.load(folder/"bins.npy")), (about[c] for c in ("quotas", "rs", "ds", "importance"))
    for b, (size, quota, *scores) in enumerate(zip(sizes, *columns)):
        line = [str(b), str(size), str(quota), f"{quota/size:.1%}", *(f"{s:.4f}" for s in scores)]
        assert re.search(r"\b" + r"\s+".join(line), text), b
    assert [r["trained_on"] for r in rows] == ["the set", "its images in their original form"]
    assert all(f"{r['accuracy']:.2%}" in text for r in rows)
    assert about["command"] == "adq compress digits --profile smoke --keep 0.1 --patch-keep 0.75 --out small"
    assert about["command"] in text and about["settings"]["fingerprint"] in text and about["versions"]["torch"] in text
    metadata = json.loads(page.with_suffix(".ipynb").read_text())["metadata"]
    assert page.stat().st_size < 15e6 and str(folder.parent) not in metadata["papermill"]["output_path"]


def test_without_its_source_the_page_says_so(lonely):
    text = lonely.read_text()
    assert "The source is not here: source 'holidays' is neither" in text
    assert text.count("Not shown: the images of the source are needed") == 3
    assert "None yet." in text and "as they were" not in text


def test_accuracies_leave_the_set_as_it_is(folder, tmp_path):
    rows = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path/"cache"))
    assert len(rows) == len(open_set(folder).kept)
    copy = tmp_path/"copy"
    shutil.copytree(folder, copy)
    assert run("info", copy, "--verify") == 0
    assert run("compress", "digits", "--profile", "smoke", "--method", "random", "--out", copy, "--force") == 0
    assert read_accuracies(copy) == []
    (copy/"accuracy.jsonl").write_text('{"accuracy": 1}\n{"accu')
    add_accuracy(copy, {"accuracy": 0.5}) # a torn line swallows nothing
    assert read_accuracies(copy) == [{"accuracy": 1}, {"accuracy": 0.5}]
    assert (copy/"torn.txt").read_text() == '{"accu\n'
    (copy/"accuracy.jsonl").write_text('{"accuracy": 1}\n{"accu\n{"accuracy": 0.5}\n')
    with pytest.raises(ValueError, match="line 2 of .* is not the result of a training"): read_accuracies(copy)


@pytest.mark.parametrize("words, told", [
    (["{here}"], "has no compressed.json"),
    (["{small}", "--out", "{here}/page.pdf"], "does not end in .html"),
    (["{small}", "--out", "{here}/file/page.html"], "is a file; expected another folder"),
    (["{small}", "--out", "{here}/taken.html"], "exists; expected a new name, or force"),
    (["{small}", "--out", "{here}/taken.html", "--force"], "is not a report that adq wrote"),
    (["{small}", "--reconstruct", "paint", "--out", "{here}/new.html"], "reconstructor 'paint' is unknown"),
    (["{small}", "--device", "cuda:77", "--out", "{here}/new.html"], "device 'cuda:77' is not on this machine"),
    (["{small}", "--source", "{here}/tree", "--out", "{here}/new.html"], "does not match"),
])
def test_bad_input(folder, tmp_path, write_tree, capfd, pages_here, words, told):
    write_tree(tmp_path/"tree", each=5)
    (tmp_path/"taken.html").write_text("<p>years of work")
    (tmp_path/"file").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    assert run("report", *(w.format(here=tmp_path, small=folder) for w in words)) == 2
    err = capfd.readouterr().err
    assert err.startswith("adq: error: ") and told in err and err.count("\n") == 1, err
    assert sorted(tmp_path.rglob("*")) == before


def test_source_and_bins_are_checked(folder, tmp_path):
    with pytest.raises(ValueError, match="source 'digitz' is neither"): open_set(folder, "digitz")
    copy = tmp_path/"copy"
    shutil.copytree(folder, copy)
    np.save(copy/"bins.npy", np.zeros(3))
    with pytest.raises(ValueError, match="bins.npy does not hold"): open_set(copy)
    (copy/"bins.npy").unlink()
    with pytest.raises(FileNotFoundError, match="lacks bins.npy"): open_set(copy)
    about = json.loads((copy/"compressed.json").read_text())
    del about["settings"]
    (copy/"compressed.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="does not tell how it was made"): open_set(copy)


def test_a_source_that_is_not_here_is_not_fetched(folder, tmp_path, monkeypatch):
    about = json.loads((folder/"compressed.json").read_text())
    monkeypatch.setattr("adq.sources._download", lambda *given: pytest.fail("a download that nobody asked for"))
    monkeypatch.setattr("adq.sources.cache", tmp_path/"empty")
    monkeypatch.setattr("adq.sources.hub_images", lambda *given, **columns: pytest.fail("nobody named the hub"))
    for source in "cifar10", "hf:owner/name":
        copy = shutil.copytree(folder, tmp_path/source.replace("/", "-").replace(":", "-"))
        (copy/"compressed.json").write_text(json.dumps(about | dict(settings=about["settings"] | dict(source=source))))
        opened = open_set(copy)
        assert opened.images is None and source in opened.absent


def test_umap_where_the_user_has_it(monkeypatch):
    class UMAP:
        def __init__(self, random_state): pass
        def fit_transform(self, x): return x[:, :2]
    umap = types.ModuleType("umap")
    umap.UMAP, umap.__spec__ = UMAP, ModuleSpec("umap", None)
    monkeypatch.setitem(sys.modules, "umap", umap)
    assert plane(np.eye(4))[1] == "UMAP"


def test_the_page_by_itself_looks_at_some_images(tmp_path):
    page = papermill.execute_notebook(pages_folder()/"report.ipynb", tmp_path/"page.ipynb", dict(looked_at=300),
                                      engine_name="here", progress_bar=False)
    assert "The page looked at 300 of the 1,437 images" in json.dumps(page)


def test_the_columns_that_were_read_are_read_again(tmp_path, capsys):
    "A set compressed with --label is reported on without saying it once more."
    digits = load_images("digits")
    pictures = [dict(bytes=encode(image), path=None) for image in digits.images[:80]]
    columns = dict(image=pictures, label=[0, 1]*40, digit=digits.labels[:80].tolist())
    datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image()).to_parquet(tmp_path/"in"/"rows.parquet")
    words = f"compress {tmp_path/'in'} --split all --label digit --method random --keep 0.5 --out {tmp_path/'out'}"
    assert main(words.split()) == 0
    opened = open_set(tmp_path/"out")
    assert opened.images.columns == dict(image="image", label="digit") and len(opened.images.classes) == 10


def test_a_set_of_one_bin(tmp_path, pages_here):
    small = tmp_path/"small"
    assert run("compress", "digits", "--profile", "smoke", "--method", "dq", "--bins", 1, "--out", small) == 0
    assert run("report", small) == 0
