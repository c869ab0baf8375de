"""Image files: what is found, what is decoded, what is refused."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from robustpolicy import UserError
from robustpolicy.data.images import decode_images, image_files

GREY = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4) * 10
RGB = np.stack([GREY, 255 - GREY, GREY // 2], 2)


def save(path, pixels, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def test_files_are_found_at_any_depth_by_path_without_hidden_and_other_ones(tmp_path):
    for name in ("b/2.PNG", "b/1.jpg", "a.webp", "b/c/d.pgm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    for name in ("notes.txt", ".hidden.png", "._a.png", ".git/x.png", "Thumbs.db"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in image_files(tmp_path)]
    assert found == ["a.webp", "b/1.jpg", "b/2.PNG", "b/c/d.pgm"]
    (tmp_path / "b" / "scan.TIFF").write_bytes(b"")
    with pytest.raises(UserError, match=r"scan.TIFF is in a format that is not read"):
        image_files(tmp_path)


@pytest.mark.parametrize("ending", ["png", "bmp", "webp", "ppm"])
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_lossless_formats_give_the_pixels(tmp_path, ending, pixels):
    options = {"lossless": True, "exact": True} if ending == "webp" else {}
    path = save(tmp_path / f"x.{ending}", pixels, **options)
    (image,) = decode_images([path])
    expected = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    if ending == "webp" and pixels.ndim == 2:  # WebP has no grey
        expected = np.repeat(expected, 3, 0)
    assert np.array_equal(image, expected)


def test_a_pgm_written_by_hand(tmp_path):
    (tmp_path / "x.pgm").write_bytes(b"P5\n4 6\n255\n" + GREY.tobytes())
    assert np.array_equal(decode_images([tmp_path / "x.pgm"])[0, 0], GREY)


def test_jpeg_within_its_losses(tmp_path):
    smooth = np.linspace(0, 255, 32 * 32).reshape(32, 32).astype(np.uint8)
    path = save(tmp_path / "x.jpeg", smooth, quality=95)
    difference = decode_images([path])[0, 0].astype(int) - smooth
    assert np.abs(difference).max() <= 8


def test_grey_becomes_colour_where_some_are(tmp_path):
    files = [save(tmp_path / "a.png", GREY), save(tmp_path / "b.png", RGB)]
    images = decode_images(files)
    assert images.shape == (2, 3, 6, 4)
    assert all(np.array_equal(channel, GREY) for channel in images[0])
    assert np.array_equal(images[1], RGB.transpose(2, 0, 1))
    assert decode_images(files[:1]).shape == (1, 1, 6, 4)
    assert decode_images(files[:1], channels=3).shape == (1, 3, 6, 4)
    with pytest.raises(UserError, match=r"b.png is in colour"):
        decode_images(files, channels=1)


def test_palettes_opaque_alpha_and_one_bit_are_what_they_look_like(tmp_path):
    flat = np.kron(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8), np.ones((4, 4, 1), np.uint8))
    palette = save(tmp_path / "palette.png", flat, "P")
    assert np.array_equal(decode_images([palette])[0], flat.transpose(2, 0, 1))
    alpha = save(tmp_path / "alpha.png", np.dstack([RGB, np.full_like(GREY, 255)]))
    assert np.array_equal(decode_images([alpha])[0], RGB.transpose(2, 0, 1))
    bits = save(tmp_path / "bits.png", (GREY > 100).astype(np.uint8) * 255, "1")
    assert np.array_equal(decode_images([bits])[0, 0], (GREY > 100) * np.uint8(255))


def test_a_photograph_is_turned_as_viewers_do(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    path = save(tmp_path / "x.png", GREY, exif=exif)
    assert np.array_equal(decode_images([path])[0, 0], np.rot90(GREY, -1))


class TestImageSize:
    #: Sizes at which the cut lies between pixels, which is all that torch can do.
    @pytest.mark.parametrize(
        ("height", "width", "size"),
        [(28, 28, 14), (28, 28, 41), (28, 18, 36), (16, 28, 8), (16, 28, 32)],
    )
    def test_shorter_side_then_centre_as_torch_has_it(self, tmp_path, digits, height, width, size):
        pixels = digits.train_images[0][:, :height, :width]
        path = save(tmp_path / "x.png", pixels[0].numpy())
        scale = size / min(height, width)
        whole = F.interpolate(
            pixels[None].double(), scale_factor=scale, mode="bicubic", antialias=True
        ).clamp(0, 255)
        top, left = ((length - size) // 2 for length in whole.shape[2:])
        theirs = whole[0, :, top : top + size, left : left + size]
        ours = torch.from_numpy(decode_images([path], size)[0])
        assert (ours.double() - theirs).abs().max() <= 2  # Pillow rounds between its two passes

    def test_different_sizes_become_one(self, tmp_path):
        files = [
            save(tmp_path / "a.png", np.full((30, 40), 7, np.uint8)),
            save(tmp_path / "b.png", np.full((5, 3), 9, np.uint8)),
        ]
        images = decode_images(files, 4)
        assert images.shape == (2, 1, 4, 4)
        assert images[0].min() == images[0].max() == 7
        assert images[1].min() == images[1].max() == 9

    def test_its_own_size_changes_nothing(self, tmp_path):
        path = save(tmp_path / "x.png", GREY[:4])
        assert np.array_equal(decode_images([path], 4)[0, 0], GREY[:4])


def test_a_size_is_not_negative(tmp_path):
    with pytest.raises(UserError, match="image_size is -1; give a side"):
        decode_images([save(tmp_path / "x.png", GREY)], -1)


def test_two_sizes_are_named_with_a_way_out(tmp_path):
    files = [save(tmp_path / "a.png", GREY), save(tmp_path / "b.png", GREY[:5])]
    with pytest.raises(UserError, match=r"a.png is 4 x 6, but .*b.png is 4 x 5.*--image-size 4"):
        decode_images(files)


def test_many_files_are_in_order(tmp_path):
    files = [save(tmp_path / f"{n}.png", np.full((2, 2), n % 251, np.uint8)) for n in range(1500)]
    images = decode_images(files)
    assert images[:, 0, 0, 0].tolist() == [n % 251 for n in range(1500)]


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", "cut"])
def test_a_damaged_image_is_named(tmp_path, content):
    path = save(tmp_path / "x.png", np.kron(RGB, np.ones((9, 9, 1), np.uint8)))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if content == "cut" else content)
    with pytest.raises(UserError, match=r"x.png is not a readable image"):
        decode_images([path])


def test_what_is_no_plain_8_bit_image_is_refused(tmp_path):
    deep = save(tmp_path / "deep.png", GREY.astype(np.uint16) * 256)
    with pytest.raises(UserError, match=r"deep.png has pixels of Pillow's mode I;16"):
        decode_images([deep])
    clear = save(tmp_path / "clear.png", np.dstack([RGB, GREY]))
    with pytest.raises(UserError, match=r"clear.png is transparent in parts"):
        decode_images([clear])
    keyed = save(tmp_path / "keyed.png", GREY, transparency=10)
    with pytest.raises(UserError, match=r"keyed.png is transparent in parts"):
        decode_images([keyed])
    Image.fromarray(GREY).save(tmp_path / "gif.png", "GIF")  # in a format that is not read
    with pytest.raises(UserError, match=r"gif.png is not a readable image"):
        decode_images([tmp_path / "gif.png"])
