"""Images as people have them, and how they are decoded: in threads, the same on every machine."""
import io, os, subprocess, sys, textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np, pytest, torch
from PIL import Image

from adq.data import Encoded, ImageData, batches, decode
from adq.settings import seeded
from adq.sources import load_images
from adq.texture import texture_level

grey = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
colour = np.stack([grey, 255 - grey, grey//2], 2)


def coded(image, kind="PNG", **options):
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, kind, **options)
    return out.getvalue()


def late_exif(png, exif):
    "The EXIF block after the pixels, as some programs write it."
    import struct, zlib
    body = b"eXIf" + exif.tobytes()[6:]
    return png[:-12] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + png[-12:]


@pytest.mark.parametrize("kind", ["PNG", "PNG, late", "TIFF", "WebP", "JPEG", "AVIF"])
@pytest.mark.parametrize("orientation, turned", [
    (1, lambda x: x), (2, np.fliplr), (3, lambda x: np.rot90(x, 2)), (4, np.flipud), (5, lambda x: x.swapaxes(0, 1)),
    (6, lambda x: np.rot90(x, -1)), (7, lambda x: np.rot90(x, 2).swapaxes(0, 1)), (8, np.rot90),
])
def test_photographs_are_upright(kind, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    kind, _, late = kind.partition(", ")
    if kind == "AVIF" and ".avif" not in Image.registered_extensions(): pytest.skip("this Pillow has no AVIF")
    large = colour.repeat(8, 0).repeat(8, 1)
    options = dict(lossless=True) if kind == "WebP" else {}
    data = late_exif(coded(large, kind), exif) if late else coded(large, kind, exif=exif, **options)
    encoded, expected = Encoded([data], ""), turned(large)
    assert encoded.size(0) == expected.shape[:2] == tuple(encoded[0].shape[1:])
    difference = np.abs(encoded[0].permute(1, 2, 0).numpy().astype(int) - expected)
    assert difference.max() == 0 if kind not in ("JPEG", "AVIF") else np.median(difference) < 8


def test_damaged_exif_says_nothing():
    data = coded(colour, "JPEG", quality=95, exif=b"Exif\0\0XX*\0\x08\0\0\0\xff\xff")
    assert Encoded([data], "").size(0) == (4, 6) == Encoded([data], "")[0].shape[1:]


@pytest.mark.parametrize("image, kind", [
    (grey.astype(np.uint16)*257, "PNG"), (grey.astype(np.uint16)*257, "TIFF"), (grey.astype(">u2")*257, "TIFF"),
    (grey.astype(np.uint16)*257, "PPM"), (grey.astype(np.float32)/255, "TIFF"),
    (Image.fromarray(grey).convert("P"), "GIF"), (Image.fromarray(grey).convert("LA"), "PNG"),
])
def test_grey_of_any_depth(image, kind):
    assert torch.equal(Encoded([coded(image, kind)], "")[0], torch.from_numpy(grey).expand(3, -1, -1))


def test_palettes_transparency_and_print_colours():
    image = Image.fromarray(colour)
    for mode, tolerance in ("RGBA", 0), ("CMYK", 3):
        pixels = Encoded([coded(image.convert(mode), "TIFF")], "")[0]
        assert np.abs(pixels.permute(1, 2, 0).numpy().astype(int) - colour).max() <= tolerance
    moving = coded(image, "WebP", save_all=True, append_images=[Image.fromarray(255 - colour)], lossless=True)
    assert np.array_equal(Encoded([moving], "")[0].permute(1, 2, 0).numpy(), colour) # the first picture


@pytest.mark.parametrize("image, words", [
    (np.float32([[-1, 0.5]]), "row 0 of x has values from -1 to 0.5; expected 0 to 1"),
    (np.float32([[0, 255]]), "expected 0 to 1"), (np.float32([[0, np.nan]]), "expected 0 to 1"),
    (np.int32([[0, 70000]]), "row 0 of x has whole numbers of 32 bits; expected 8 or 16 bits"),
])
def test_values_without_a_scale_are_refused(image, words):
    with pytest.raises(ValueError, match=words): Encoded([coded(image, "TIFF")], "x")[0]


def test_many_pixels(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.warns(Image.DecompressionBombWarning): pixels = Encoded([coded(colour)], "x")[0]
    assert pixels.shape == (3, 4, 6)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match="row 0 of x claims more pixels than .* expected at most 20"):
        Encoded([coded(colour)], "x")[0]


@pytest.mark.parametrize("kind, ending", [("GIF", "gif"), ("JPEG", "jfif"), ("JPEG", "JPG"), ("BMP", "bmp"),
                                          ("JPEG2000", "jp2"), ("AVIF", "avif"), ("TIFF", "tif")])
def test_what_pillow_reads_is_read(tmp_path, kind, ending):
    if f".{ending}".lower() not in Image.registered_extensions(): pytest.skip(f"this Pillow has no {kind}")
    for c in "ab":
        (tmp_path/c).mkdir()
        for i in range(2): (tmp_path/c/f"{i}.{ending}").write_bytes(coded(colour.repeat(4, 0).repeat(4, 1), kind))
    assert load_images(tmp_path, "all").shape == (3, 16, 24)


def test_an_item_that_fails_is_named_whatever_fails(monkeypatch):
    encoded = Encoded([coded(colour), "/nowhere/0.png", coded(colour)], "x")
    with pytest.raises(ValueError, match="/nowhere/0.png cannot be read: .*No such file"):
        list(decode(encoded, 1, list))
    def fail(self): raise RuntimeError("decoder fell over")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(ValueError, match="row 0 of x is damaged: decoder fell over"): encoded[0]
    class Items:
        def __len__(self): return 3
        def __getitem__(self, i): raise RuntimeError("not a matter of memory")
    with pytest.raises(RuntimeError, match="^not a matter of memory$"): list(decode(Items(), 2, list))


def test_random_parts_depend_on_seed_and_image_only(monkeypatch):
    encoded = Encoded([coded(colour.repeat(8, 0).repeat(8, 1))]*20, "")
    images = ImageData(encoded, np.zeros(20, int), ["a"])
    def parts(batch_size, threads, order=None):
        monkeypatch.setattr(os, "cpu_count", lambda: threads)
        torch.manual_seed(3)
        return torch.cat([x for x, _ in batches(images, batch_size, size=16, crop="random", order=order)])
    whole = parts(20, 1)
    assert torch.equal(whole, parts(3, 4)) and torch.equal(whole[[7, 2]], parts(1, 2, [7, 2]))
    next_pass, = (x for x, _ in batches(images, 20, size=16, crop="random"))
    assert len(whole.unique(dim=0)) == 20 and not torch.equal(whole, next_pass)


def test_decoding_leaves_the_threads_of_a_process_that_has_not_asked_for_them():
    script = ("import os, torch; from adq.data import decode; child = os.fork(); child or list(decode([0], 1, len)); "
              "print(torch.get_num_threads(), flush=True); child and os.wait()")
    words, settings = [sys.executable, "-c", script], os.environ | {"OMP_NUM_THREADS": "2"}
    told = subprocess.run(words, env=settings, capture_output=True, text=True, check=True).stdout
    assert told.split() == ["2", "2"] # of a process that has decoded, and of its twin that has not


def test_a_script_without_a_main_guard(tmp_path, digits):
    "Where processes are spawned each would run the script again."
    (tmp_path/"script.py").write_text(textwrap.dedent("""
        import multiprocessing, sys
        multiprocessing.set_start_method("spawn")
        import adq, adq.data, adq.store
        from adq.data import batches
        adq.store.save(sys.argv[1], adq.load_images("digits").subset(range(143)))
        images = adq.load(sys.argv[1], cache=False)
        seen = sum(len(x) for x, _ in batches(images, 10))
        print(len(images), images.in_memory, seen, len(multiprocessing.active_children()))
    """))
    done = subprocess.run([sys.executable, tmp_path/"script.py", tmp_path/"set"], capture_output=True, text=True)
    assert done.stdout.split() == ["143", "False", "143", "0"], done.stderr


def test_threads_fill_as_one_does():
    "A masked auto-encoder is told through itself how many tokens are masked."
    from adq.reconstruction import Reconstructor, _fresh
    with seeded(0): filler = Reconstructor(_fresh(32, 4), (0.5,)*3, (0.25,)*3)
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (40, 1, 3, 32, 32), dtype=np.uint8))
    masks = torch.from_numpy(rng.random((40, 1, 8, 8)) > rng.random((40, 1, 1, 1))/2)
    def filled(i): return filler(pixels[i], masks[i], 4)
    with ThreadPoolExecutor(8) as threads: at_once = list(threads.map(filled, range(40)))
    assert all(torch.equal(one, filled(i)) for i, one in enumerate(at_once))
