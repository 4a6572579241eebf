"""Compressed sets on disk: every size and codec there and back, damage, strangers' files, killed writers."""
import hashlib, io, json, os, pickle, signal, struct, subprocess, sys, zlib

import datasets, numpy as np, pyarrow as pa, pyarrow.parquet as pq, pytest, torch
from PIL import Image

from adq import store
from adq.cli import main
from adq.data import ImageData
from adq.sources import load_images
from adq.patches import drop_patches, rank_patches
from adq.reconstruction import cell_grid, fill_mean, load_reconstructor, pixel_mask
from adq.manifest import read_manifest, verify
from adq.store import fill, load, save, to_images


def dropped(images, share=0.75, cell=None):
    return drop_patches(images, rank_patches(images, by="random", cell=cell), share)


@pytest.fixture
def folder(tmp_path, digits):
    few = digits.subset(range(200))
    return save(tmp_path/"set", few, masks=dropped(few))


shard = "data/train-00000-of-00001.parquet"


def rewrite(folder, **columns):
    "Replace columns of the only shard, and its size and checksum in the manifest, as a stranger could."
    path = folder/shard
    table = pq.read_table(path)
    for name, values in columns.items():
        place, field = table.schema.get_field_index(name), table.schema.field(name)
        table = table.set_column(place, field, pa.array(values, field.type))
    pq.write_table(table, path)
    content = path.read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    amend(folder, shards=[dict(name=shard, rows=len(table), bytes=len(content), sha256=checksum)])


def amend(folder, **changes):
    about = json.loads((folder/"compressed.json").read_text())
    (folder/"compressed.json").write_text(json.dumps(about | changes))


def test_a_name_is_no_pattern(tmp_path, digits):
    few = digits.subset(range(40))
    save(tmp_path/"set1", digits.subset(range(100, 140)))
    for name in "set[1]", "set*", "set (copy) [old]":
        assert torch.equal(load(save(tmp_path/name, few)).images[:], few.images[:]), name


def name_shard(folder, name): amend(folder, shards=[dict(name=name, rows=200, bytes=1, sha256="")])


def refused(call, words, kind=ValueError):
    with pytest.raises(kind) as e: call()
    assert words in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("spoil, words, kind", [
    (lambda f: (f/shard).write_bytes((f/shard).read_bytes()[:-9]), "bytes instead of", ValueError),
    (lambda f: (f/shard).unlink(), "lacks data/train-00000-of-00001.parquet", FileNotFoundError),
    (lambda f: (f/"compressed.json").unlink(), "has no compressed.json", FileNotFoundError),
    (lambda f: (f/"compressed.json").write_text("{"), "compressed.json cannot be read", ValueError),
    (lambda f: (f/"compressed.json").write_text("[]"), "compressed.json cannot be read", ValueError),
    (lambda f: amend(f, format=3), "is of format 3, newer than this version of adq", ValueError),
    (lambda f: amend(f, format=1), "compress again", ValueError),
    (lambda f: amend(f, kept=199), "do not add up to 199 images", ValueError),
    (lambda f: name_shard(f, "../../etc/passwd"), "names '../../etc/passwd' as a shard", ValueError),
    (lambda f: name_shard(f, "/etc/passwd"), "names '/etc/passwd' as a shard", ValueError),
    (lambda f: amend(f, classes=["a"]), "labels run from 0 to 9", ValueError),
    (lambda f: amend(f, classes=None), "compressed.json does not tell classes", ValueError),
    (lambda f: amend(f, bytes={}), "compressed.json does not tell stored", ValueError),
    (lambda f: amend(f, quotas="many"), "compressed.json does not tell quotas", ValueError),
    (lambda f: rewrite(f, image=[dict(bytes=None, path="/etc/hostname")]*200), "row 0 of", ValueError),
    (lambda f: rewrite(f, index=[7]*200), "an index occurs twice", ValueError),
    (lambda f: amend(f, cell=1), "expected 8 for 8×8 cells", ValueError),
    (lambda f: amend(f, cell=10**9), "cell is 1000000000; expected a whole number from 1 to 4", ValueError),
    (lambda f: rewrite(f, mask=[b"\xff"]*200), "the mask of row 0 has 1 bytes; expected 2 for 4×4 cells", ValueError),
    (lambda f: rewrite(f, mask=[None]*200), "the mask of row 0 has 0 bytes", ValueError),
    (lambda f: rewrite(f, mask=[b"\0\0"]*200), "the mask of row 0 keeps no cell", ValueError),
    (lambda f: rewrite(f, image=[dict(bytes=b"no image", path=None)]*200), "is not an image that can", ValueError),
    (lambda f: rewrite(f, image=[dict(bytes=absurd(), path=None)]*200), "claims more pixels than an image", ValueError),
])
def test_damage_is_one_clear_error(folder, spoil, words, kind):
    spoil(folder)
    refused(lambda: load(folder), words, kind)


def absurd():
    "A PNG of a few bytes that says it has 10^10 pixels."
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_a_replaced_set_of_the_same_time_is_not_taken_for_the_old_one(folder, digits):
    load(folder)
    old = (folder/"data"/"train-00000-of-00001.parquet").stat()
    save(folder, digits.subset(range(200, 400)), force=True)
    os.utime(folder/"data"/"train-00000-of-00001.parquet", ns=(old.st_atime_ns, old.st_mtime_ns))
    assert torch.equal(load(folder).images, digits.images[200:400])


def test_a_reconstructed_set_is_stored_as_it_is(tmp_path, folder):
    filled = load(folder, reconstruct="blur")
    assert torch.equal(load(save(tmp_path/"again", filled)).images, filled.images)
    as_read = load(folder, reconstruct="blur", cache=False).subset(range(5)) # of which nothing is stored
    assert as_read.encoded is None and torch.equal(load(save(tmp_path/"few", as_read)).images, filled.images[:5])


def test_every_flipped_byte_is_seen(folder):
    path = folder/"data"/"train-00000-of-00001.parquet"
    good = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(good), 50):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1 << int(place) % 8]) + good[place+1:])
        refused(lambda: verify(folder), "does not match its checksum")
        refused(lambda: load(folder), "does not match its checksum")
    path.write_bytes(good)
    assert len(load(folder)) == 200


def test_info_and_verify_on_the_command_line(folder, capsys):
    assert main(["info", str(folder), "--verify", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verified"] and told["kept"] == 200
    assert told["bytes"]["stored"] == sum(p.stat().st_size for p in (folder/"data").iterdir())
    path = folder/"data"/"train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    assert main(["info", str(folder)]) == 0 and main(["info", str(folder), "--verify"]) == 2
    assert "does not match its checksum" in capsys.readouterr().err


def test_many_shards_read_as_one(tmp_path, digits, monkeypatch):
    monkeypatch.setattr(store, "shard_bytes", 40_000)
    monkeypatch.setattr(store, "group_bytes", 10_000)
    save(tmp_path/"set", digits, indices=np.arange(1437)*2)
    files = sorted((tmp_path/"set"/"data").iterdir())
    assert len(files) > 3 and files[0].name == f"train-00000-of-{len(files):05d}.parquet"
    assert max(f.stat().st_size for f in files) < 50_000
    opened = load(tmp_path/"set")
    assert torch.equal(opened.images, digits.images) and (opened.indices == np.arange(1437)*2).all()


@pytest.mark.parametrize("codec", ["webp", "png", "jpeg", "original"])
def test_images_of_different_sizes(tmp_path, write_tree, codec):
    images = load_images(write_tree(tmp_path/"tree", each=6, size=lambda i: (40 + 3*i, 37)), "all")
    masks = None if codec == "original" else dropped(images, cell=16)
    opened = load(save(tmp_path/"set", images, masks=masks, cell=16 if masks else None, codec=codec))
    assert not opened.in_memory and len(opened) == 12
    for i in range(12):
        original, (height, width) = images[i][0], images.sizes[i]
        if codec == "original":
            assert opened.encoded.data(i) == images.encoded.data(i)
            continue
        kept = pixel_mask(torch.from_numpy(masks[i]), 16, height, width)
        assert (opened.masks[i] == masks[i]).all() and masks[i].shape == cell_grid(height, width, 16)
        if codec != "jpeg": assert torch.equal(opened[i][0][:, kept], original[:, kept])
    if codec == "png":
        lazy = load(tmp_path/"set", reconstruct="blur")
        assert not torch.equal(lazy[0][0], opened[0][0]) and torch.equal(lazy.subset([0]).images[0], lazy[0][0])
        refused(lambda: load(tmp_path/"set", reconstruct="self:1"), "is trained on images in memory")


def test_jpeg_keeps_the_tables_of_its_source(tmp_path):
    rng = np.random.default_rng(0)
    smooth = lambda: np.kron(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))
    for name in "ab":
        (tmp_path/"tree"/name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(smooth()).save(tmp_path/"tree"/name/f"{i}.jpg", quality=61, subsampling="4:4:4")
    images = load_images(tmp_path/"tree", "all")
    opened = load(save(tmp_path/"set", images, masks=dropped(images, cell=16), cell=16, codec="jpeg"))
    original, stored = (Image.open(io.BytesIO(each.encoded.data(0))) for each in (images, opened))
    assert original.quantization == stored.quantization and original.size == stored.size
    kept = pixel_mask(torch.from_numpy(opened.masks), 16, 96, 96)[:, None].expand_as(images.images)
    assert (opened.images[kept].int() - images.images[kept].int()).abs().max() <= 4


@pytest.mark.parametrize("options, words", [
    (dict(codec="gif"), "codec 'gif' is unknown"), (dict(codec="original"), "needs encoded images"),
    (dict(codec="jpeg", masks=True), "the cell is 2"),
    (dict(masks=np.ones((5, 4, 4), bool)), "masks has 5 entries for 1437 images"),
    (dict(masks=np.ones((1437, 3, 4), bool)), "mask 0 has shape (3, 4)"),
    (dict(masks=np.zeros((1437, 4, 4), bool)), "with at least one kept"), (dict(cell=5, masks=True), "cell is 5"),
])
def test_what_does_not_fit_is_refused_and_nothing_written(tmp_path, digits, options, words):
    if options.get("masks") is True: options = options | dict(masks=np.ones((1437, 4, 4), bool))
    refused(lambda: save(tmp_path/"set", digits, **options), words)
    assert list(tmp_path.iterdir()) == []


half_a_writer = """
import sys, time
from adq import store
from adq.sources import load_images
write = store._Shards.write
def write_and_stop(*args):
    write(*args) # the first thousand rows
    print("half", flush=True)
    time.sleep(3600)
store._Shards.write = write_and_stop
store.save(sys.argv[1], load_images("digits"), force=True)
"""


def killed_writer(out):
    process = subprocess.Popen([sys.executable, "-c", half_a_writer, str(out)], stdout=subprocess.PIPE, text=True,
                               start_new_session=True)
    assert process.stdout.readline() == "half\n" and list(out.parent.glob(".set.*.new/data/*"))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_kill_while_saving_leaves_the_earlier_result(tmp_path, digits):
    out = tmp_path/"set"
    killed_writer(out)
    assert not out.exists()
    assert [p.suffix for p in sorted(tmp_path.iterdir())] == [".new", ".lock"] # hidden, of the dead process
    save(out, digits.subset(range(50)))
    assert [p.name for p in tmp_path.iterdir()] == ["set"]          # and the next writer clears it away
    before = (out/"compressed.json").read_bytes()
    killed_writer(out)
    assert (out/"compressed.json").read_bytes() == before and len(load(out)) == 50
    save(out, digits.subset(range(60)), force=True)
    assert len(load(out)) == 60 and [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_result_moved_aside_by_a_killed_process_is_put_back(tmp_path, folder):
    folder.rename(folder.with_name(f".set.adq-{'0'*16}.old")) # killed between the two renames
    def save_again(): return save(folder, load(folder) if folder.exists() else load_images("digits"))
    refused(save_again, "is not empty")
    assert len(load(folder)) == 200


def test_nothing_is_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self): return os.mkdir, (str(tmp_path/"exploded"),)
    for name, content in [("weights.pth", pickle.dumps(Bomb(), 2)), ("zip.pth", None)]:
        if content: (tmp_path/name).write_bytes(content)
        else: torch.save({"model": Bomb()}, tmp_path/name)
        refused(lambda: load_reconstructor(str(tmp_path/name)), "is not a file of weights that can be read safely")
    assert not (tmp_path/"exploded").exists()


def test_hub_weights_without_a_network_are_one_error(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    unreachable = lambda: load_reconstructor("nobody/no-such-mae")
    refused(unreachable, "nor to be had from the Hugging Face hub", FileNotFoundError)


def test_class_names_stay_inside_the_folder(tmp_path, digits):
    few = ImageData(digits.images[:4], [0, 1, 2, 3], ["../../evil", "..", "a/b", "."])
    to_images(save(tmp_path/"set", few), tmp_path/"tree")
    assert sorted(p.name for p in (tmp_path/"tree").iterdir()) == ["%2E", "%2E.", "%2E.%2F..%2Fevil", "a%2Fb"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set", "tree"]


def test_reconstruction_keeps_kept_pixels_and_is_the_same_at_once_and_when_read(tmp_path, digits):
    few = digits.subset(range(300))
    masks = dropped(few)
    save(tmp_path/"set", few, masks=masks)
    at_once = load(tmp_path/"set", reconstruct="self:2", flip=False)
    kept = pixel_mask(torch.from_numpy(masks), 2, 8, 8)[:, None]
    assert torch.equal(at_once.images[kept], few.images[kept])
    assert torch.equal(load(tmp_path/"set").images, fill_mean(few.images, torch.from_numpy(masks), 2))
    from_originals = fill(few, masks, "self:2", cell=2, flip=False) # dropped pixels play no part
    assert torch.equal(from_originals.images, at_once.images)


def test_train_on_a_compressed_folder(capsys, tmp_path):
    line = f"compress digits --profile smoke --sample 0.2 --patch-keep 0.75 --out {tmp_path/'o'} --json"
    assert main(line.split()) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kept"] == 287 and read_manifest(tmp_path/"o").settings["keep"] == pytest.approx(0.15)
    for how in "mean", "blur", "self:1":
        assert main(f"train {tmp_path/'o'} --test digits --profile smoke --reconstruct {how} --json".split()) == 0
        assert json.loads(capsys.readouterr().out)["images"] == 287
    assert main(f"train digits --indices {tmp_path/'o'} --profile smoke --json".split()) == 0


def test_a_damaged_image_is_named_and_not_stored(tmp_path, capsys):
    rng, root = np.random.default_rng(0), tmp_path/"in"
    for i in range(60): # sizes differ, so they stay encoded, and by method random nothing else looks at them
        path = root/("cat" if i < 30 else "dog")/f"{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8 + i % 5, 9, 3), dtype=np.uint8)).save(path)
    broken = [root/"dog"/f"{i}.jpg" for i in range(40, 45)]
    for path in broken: path.write_bytes(path.read_bytes()[:-25])
    line = f"compress {root} --split all --profile smoke --method random --keep 1 --out {tmp_path/'set'}".split()
    assert main(line) == 2
    err = capsys.readouterr().err
    assert f"{broken[0]} is damaged" in err and err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]
    for path in broken: path.unlink()
    assert main(line) == 0 and len(load(tmp_path/"set")) == 55


@pytest.mark.parametrize("bins", [2**15, 2**16, 10**6])
def test_numbers_of_bins_do_not_wrap(tmp_path, digits, bins):
    few = digits.subset(range(4))
    numbers = np.array([0, 1, bins - 1, bins])
    opened = load(save(tmp_path/"set", few, bins=numbers))
    again = load(save(tmp_path/"again", few, bins=numbers % 100))
    assert (opened.bins == numbers).all() and (again.bins == numbers % 100).all()
    table = datasets.load_dataset(str(tmp_path/"set"), split="train", cache_dir=str(tmp_path/"cache"))
    assert table["bin"][:] == numbers.tolist()
