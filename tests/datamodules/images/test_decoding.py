"""Images of every mode and format come out as their pixels say; what is no image is refused with a reason."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.images.decoding import BrokenImageError, centre_box, decode_image, image_suffixes
from datamodules.images.input_spec import INK, InputSpec
from tests.datamodules.image_makers import picture

SIZE = 12
RGB, GREY = InputSpec((3, SIZE, SIZE)), InputSpec((1, SIZE, SIZE))


def stored(image: Image.Image, kind: str = "PNG", **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def luma(pixels: np.ndarray) -> np.ndarray:
    """ITU-R 601-2, rounded."""
    r, g, b = np.moveaxis(pixels.astype(np.int64), -1, 0)
    return ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA"])
def test_rgb_pixels_are_kept(kind: str):
    pixels = picture(1)
    np.testing.assert_array_equal(decode_image(stored(Image.fromarray(pixels), kind), RGB), np.moveaxis(pixels, -1, 0))
    np.testing.assert_array_equal(decode_image(stored(Image.fromarray(pixels), kind), GREY)[0], luma(pixels))


def test_grey_becomes_three_equal_channels():
    pixels = picture(2)[..., 0]
    found = decode_image(stored(Image.fromarray(pixels)), RGB)
    np.testing.assert_array_equal(found, np.stack([pixels] * 3))


def test_one_bit_is_black_and_white():
    bits = picture(3)[..., 0] > 127
    np.testing.assert_array_equal(decode_image(stored(Image.fromarray(bits)), GREY)[0], np.where(bits, 255, 0))


def test_palette_is_looked_up():
    pixels = picture(4)[..., 0] % 5
    image = Image.fromarray(pixels.astype(np.uint8), "P")
    colours = picture(5, 1, 5)[0]
    image.putpalette(colours.flatten().tolist())
    np.testing.assert_array_equal(decode_image(stored(image), RGB), np.moveaxis(colours[pixels], -1, 0))


def test_a_transparent_palette_entry_is_white():
    pixels = picture(4)[..., 0] % 3
    image = Image.fromarray(pixels.astype(np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    found = decode_image(stored(image, transparency=1), RGB)
    assert (found[:, pixels == 1] == 255).all()
    assert (found[:, pixels == 2] == np.array([[70], [80], [90]])).all()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_laid_on_white(kind: str):
    pixels = np.concatenate([picture(6), np.full((SIZE, SIZE, 1), 255, np.uint8)], -1)
    pixels[:6, :, 3] = 0
    pixels[6:9, :, 3] = 128
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    found = decode_image(stored(Image.fromarray(pixels), kind, **options), RGB).astype(float)
    alpha = pixels[..., 3:] / 255
    expected = np.moveaxis(pixels[..., :3] * alpha + 255 * (1 - alpha), -1, 0)
    assert np.abs(found - expected).max() <= 1


def test_grey_with_alpha_is_laid_on_white():
    pixels = np.stack([picture(7)[..., 0], np.full((SIZE, SIZE), 255, np.uint8)], -1)
    pixels[0, :, 1] = 0
    found = decode_image(stored(Image.fromarray(pixels, "LA")), GREY)[0]
    assert (found[0] == 255).all()
    np.testing.assert_array_equal(found[1:], pixels[1:, :, 0])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight(kind: str):
    pixels = np.arange(SIZE * SIZE, dtype=np.uint16).reshape(SIZE, SIZE) * 455
    found = decode_image(stored(Image.fromarray(pixels), kind), GREY)[0]
    np.testing.assert_array_equal(found, pixels >> 8)


def test_sixteen_bit_colours_become_eight():
    """Pillow writes none, so the PNG is put together here."""
    pixels = (picture(8).astype(np.uint16) << 8) | 77
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", SIZE, SIZE, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode_image(io.BytesIO(png), RGB), np.moveaxis(picture(8), -1, 0))


@pytest.mark.parametrize(("top", "dtype"), [(1.0, np.float32), (255.0, np.float32), (255, np.int32), (65535, np.int32)])
def test_floats_and_wide_integers_are_scaled_by_their_range(top: float, dtype: type):
    ramp = np.linspace(0, 1, SIZE * SIZE).reshape(SIZE, SIZE)
    found = decode_image(stored(Image.fromarray((ramp * top).astype(dtype)), "TIFF"), GREY)[0]
    assert np.abs(found - ramp * 255).max() <= 1


def test_cmyk_is_converted():
    pixels = picture(9)
    found = decode_image(stored(Image.fromarray(pixels).convert("CMYK"), "TIFF"), RGB).astype(int)
    assert np.abs(found - np.moveaxis(pixels, -1, 0)).max() <= 2


def test_of_an_animation_the_first_image_counts():
    frames = [Image.fromarray(np.full((SIZE, SIZE), value, np.uint8)) for value in (30, 200)]
    file = stored(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode_image(file, GREY) == 30).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(orientation: int):
    """As EXIF defines them: what the stored rows and columns are of the picture as it was seen."""
    seen = picture(10)
    undo = {
        1: seen,
        2: seen[:, ::-1],
        3: seen[::-1, ::-1],
        4: seen[::-1],
        5: seen.transpose(1, 0, 2),
        6: np.rot90(seen, 1),
        7: seen[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(seen, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = stored(Image.fromarray(np.ascontiguousarray(undo[orientation])), "PNG", exif=exif)
    np.testing.assert_array_equal(decode_image(file, RGB), np.moveaxis(seen, -1, 0))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_no_reason_to_refuse():
    file = stored(Image.fromarray(picture(11)), "PNG", exif=b"Exif\0\0MM\0*\0\0\xff\xff")
    assert decode_image(file, RGB).shape == (3, SIZE, SIZE)


def test_oblong_images_are_squeezed_or_cut():
    pixels = np.zeros((SIZE, 3 * SIZE, 3), np.uint8)
    pixels[:, SIZE : 2 * SIZE] = picture(12)
    cut = decode_image(stored(Image.fromarray(pixels)), InputSpec((3, SIZE, SIZE), fit="crop"))
    np.testing.assert_array_equal(cut, np.moveaxis(picture(12), -1, 0))
    squeezed = decode_image(stored(Image.fromarray(pixels)), InputSpec((3, SIZE, SIZE), fit="squash"))
    assert (squeezed[:, :, :2] == 0).all()
    assert (squeezed[:, :, 5:7] > 0).any()


@pytest.mark.parametrize(
    ("size", "target", "box"), [((30, 10), (5, 5), (10, 0, 20, 10)), ((9, 9), (3, 3), (0, 0, 9, 9))]
)
def test_the_centre_box_has_the_targets_aspect(size, target, box):
    assert centre_box(size, target) == box


def test_the_filter_is_pillows():
    image = Image.fromarray(picture(13, 40, 40))
    for name in ("bilinear", "bicubic", "lanczos"):
        expected = np.moveaxis(np.asarray(image.resize((SIZE, SIZE), Image.Resampling[name.upper()])), -1, 0)
        np.testing.assert_array_equal(decode_image(stored(image), InputSpec((3, SIZE, SIZE), name)), expected)


def test_a_large_jpeg_is_about_what_the_whole_one_gives():
    ramp = np.linspace(0, 255, 900).astype(np.uint8)
    pixels = np.stack(
        [np.tile(ramp, (900, 1)), np.tile(ramp[:, None], (1, 900)), np.full((900, 900), 90, np.uint8)], -1
    )
    image = Image.fromarray(pixels)
    found = decode_image(stored(image, "JPEG", quality=95), RGB).astype(int)
    expected = np.moveaxis(np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)).astype(int), -1, 0)
    assert np.abs(found - expected).max() <= 4


@pytest.mark.parametrize("paper", [0, 255])
def test_ink_comes_out_white_on_black_whatever_the_paper(paper: int):
    pixels = np.full((SIZE, SIZE), paper, np.uint8)
    pixels[4:8, 5] = 255 - paper
    found = decode_image(stored(Image.fromarray(pixels)), InputSpec((1, SIZE, SIZE), ink=INK))[0]
    np.testing.assert_array_equal(found, np.where(pixels == paper, 0, 255))


def cut_short(data: bytes) -> bytes:
    return data[: len(data) // 2]


def of_text(data: bytes) -> bytes:
    return b"these are notes, not a picture"


def of_nothing(data: bytes) -> bytes:
    return b""


def a_bomb(data: bytes) -> bytes:
    """A PNG of a few bytes that claims a billion pixels."""
    return (
        data[:16]
        + struct.pack(">II", 40000, 40000)
        + data[24:29]
        + struct.pack(">I", zlib.crc32(data[12:16] + struct.pack(">II", 40000, 40000) + data[24:29]))
        + data[33:]
    )


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(cut_short, "broken"), (of_text, "no image"), (of_nothing, "no image"), (a_bomb, "more pixels than are safe")],
)
def test_what_is_no_image_is_refused_with_a_reason(tmp_path: Path, damage, reason: str):
    path = tmp_path / "holiday.png"
    path.write_bytes(damage(stored(Image.fromarray(picture(14, 60, 60))).getvalue()))
    with pytest.raises(BrokenImageError, match=reason):
        decode_image(path, RGB)


def test_postscript_is_handed_to_no_other_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever its name: Pillow would have Ghostscript run it."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    path = tmp_path / "photo.jpg"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    with pytest.raises(BrokenImageError):
        decode_image(path, RGB)
    assert not (tmp_path / "ran").exists()


def test_an_error_of_a_decoders_own_is_a_broken_image():
    header = (
        b"DDS "
        + struct.pack("<7I", 124, 0x1007, 4, 4, 16, 0, 0)
        + b"\0" * 44
        + struct.pack("<2I4s5I", 32, 4, b"????", 0, 0, 0, 0, 0)
    )
    with pytest.raises(BrokenImageError):
        decode_image(io.BytesIO(header + b"\0" * 36), RGB)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_photograph_of_a_hundred_megapixels_is_no_bomb():
    image = Image.new("L", (12_000, 9_000), 90)
    assert (decode_image(stored(image, "JPEG"), GREY) == 90).all()


def test_the_usual_formats_are_known():
    assert {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"} <= image_suffixes()
    assert not {".txt", ".eps", ".ps", ".mpg", ".h5"} & image_suffixes()


@pytest.mark.parametrize("shape", [(2, 8, 8), (3, 0, 8)])
def test_impossible_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"channel|image_size"):
        InputSpec(shape)


def test_a_spec_survives_a_checkpoint():
    spec = InputSpec((1, 28, 28), "lanczos", "crop", INK)
    assert InputSpec.from_dict(spec.as_dict()) == spec
    with pytest.raises(ValueError, match="no images"):
        InputSpec.from_dict({"image_shape": [1]})
