"""Some three hundred odd image files, made by Pillow and by hand, and whether each can be used."""

import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps

HW = (48, 64)
MODES = (
    *("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX"),
    *("CMYK", "YCbCr", "LAB", "HSV", "I;16", "I", "F"),
)
Y, X = np.mgrid[: HW[0], : HW[1]]
PHOTO = Image.fromarray(np.stack([20 + 2.8 * Y + 1.2 * X] * 3, -1).astype(np.uint8))
COMMON = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "TGA")


def saved(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def by_format():
    """Every format that Pillow writes, in every mode that it has: (name, bytes, usable)."""
    Image.init()
    for form in sorted(Image.SAVE):
        for mode in MODES:
            try:
                image = PHOTO.convert("L").convert(mode) if mode == "I;16" else PHOTO.convert(mode)
                content = saved(image, form)
            except Exception:  # there is no such file
                continue
            try:
                with Image.open(io.BytesIO(content)) as opened:
                    usable = opened.format != "EPS" and opened.convert("RGB").size == HW[::-1]
            except Exception:  # Pillow writes some that it cannot read, PDF for one
                usable = False
            yield f"{form} {mode}", content, usable


def cut():
    """Files that end too soon."""
    for form in COMMON:
        whole = saved(PHOTO, form, **({"compression": "tiff_lzw"} if form == "TIFF" else {}))
        for share in (0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.85):
            yield f"{form} cut at {share}", whole[: int(len(whole) * share)], False
    whole = saved(PHOTO, "JPEG", progressive=True)
    for share in (0.2, 0.4, 0.6, 0.8):
        yield f"progressive cut at {share}", whole[: int(len(whole) * share)], False


def damaged():
    """Files with bytes changed: usable or not, but never more than a message."""
    rng = np.random.default_rng(0)
    for form in (*COMMON, "ICO", "JPEG2000", "DDS", "PCX", "SGI", "QOI"):
        try:
            whole = saved(PHOTO, form)
        except Exception:  # not in every build of Pillow
            continue
        for k in range(7):
            data = bytearray(whole)
            for at in rng.integers(0, min(len(data), 200), 1 + k):
                data[at] = rng.integers(256)
            yield f"{form} with {1 + k} bytes changed", bytes(data), None


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth=8, colour=2, body=b"", extra=b""):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def by_hand():
    """What people and other programs leave in a folder of images."""
    for name, content in {
        "nothing": b"",
        "one byte": b"\xff",
        "zeros": bytes(5000),
        "a web page": b"<!DOCTYPE html><html>404</html>",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48"/>',
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\n",
        "JSON": b'{"images": []}',
        "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
        "an archive": b"PK\x03\x04" + bytes(100),
        "a program": b"\x7fELF" + bytes(100),
        "HEIC": b"\0\0\0\x18ftypheic" + bytes(100),
        "PNG without pixels": png(64, 48),
        "PNG of other pixels": png(64, 48, body=zlib.compress(bytes(10))),
        "PNG of no width": png(0, 48),
        "PNG of 2^31 px": png(2**31 - 1, 2**31 - 1),
        "PNG with text that unpacks to 5 MB": png(
            64, 48, extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(5_000_000)))
        ),
        "PPM of 10^10 px": b"P6 99999 99999 255\n",
        "PPM of negative px": b"P6 -64 48 255\n",
        "PPM of 10^4300 px": b"P6 " + b"9" * 4300 + b" 48 255\n",
        "BMP of 2^31 px": b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 2**31 - 1, 48, 1, 24, 0),
        "GIF of 65535 px": b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x08\0;",
    }.items():
        yield name, content, False
    other = PHOTO.resize((65, 48))
    yield "another size", saved(other, "PNG"), False
    yield (
        "turned without saying so",
        saved(PHOTO.transpose(Image.Transpose.ROTATE_90), "PNG"),
        False,
    )
    deep = Image.fromarray(np.zeros(HW, np.uint16))
    yield "16 bits, PNG", saved(deep, "PNG"), True
    yield "16 bits, TIFF", saved(deep, "TIFF"), True
    for value, usable in ((0, True), (-1, False), (70000, False), (np.nan, False)):
        numbers = Image.fromarray(np.full(HW, value, np.float32))
        yield f"32 bits, {value}, TIFF", saved(numbers, "TIFF"), usable
    rows = b"".join(b"\0" + bytes(64 * 6) for _ in range(48))
    yield "16 bits, RGB", png(64, 48, 16, 2, zlib.compress(rows)), True
    for name, options in {
        "progressive": {"form": "JPEG", "progressive": True},
        "quality 1": {"form": "JPEG", "quality": 1},
        "subsampled": {"form": "JPEG", "subsampling": 2},
        "profile of nonsense": {"form": "JPEG", "icc_profile": b"nonsense" * 100},
        "profile of nonsense, PNG": {"form": "PNG", "icc_profile": b"nonsense" * 100},
        "profile of nonsense, WebP": {"form": "WEBP", "icc_profile": b"nonsense" * 100},
        "comment": {"form": "JPEG", "comment": b"\xff\xd8" * 1000},
        "transparent colour": {"form": "PNG", "transparency": (20, 20, 20)},
        "lossless": {"form": "WEBP", "lossless": True},
        "JPEG in TIFF": {"form": "TIFF", "compression": "jpeg"},
        "deflate": {"form": "TIFF", "compression": "tiff_adobe_deflate"},
        "big": {"form": "TIFF", "big_tiff": True},
    }.items():
        yield name, saved(PHOTO, **options), True
    palette = PHOTO.convert("P", palette=Image.Palette.ADAPTIVE)
    yield "palette with transparency", saved(palette, "PNG", transparency=bytes(range(200))), True
    frames = [PHOTO.convert("L").point(lambda v, k=k: v - k) for k in range(3)]
    for form in ("GIF", "PNG", "WEBP", "TIFF"):
        many = saved(PHOTO, form, save_all=True, append_images=frames)
        yield f"animated {form}", many, True
    yield "trailing bytes", saved(PHOTO, "JPEG") + bytes(1000), True
    yield "two in one", saved(PHOTO, "JPEG") * 2, True


def by_exif():
    """Broken orientations, which leave an image as it is stored."""
    for value in (0, 9, 255, 65535):
        exif = Image.Exif()
        exif[0x0112] = value
        for form in ("JPEG", "PNG", "WEBP"):
            yield f"{form} orientation {value}", saved(PHOTO, form, exif=exif), True
    whole = Image.Exif()
    whole[0x0112], whole[0x010F] = 6, "maker"
    raw = whole.tobytes()
    for end in range(6, len(raw), 6):
        for form in ("JPEG", "PNG", "WEBP"):
            yield f"{form} EXIF cut at {end}", saved(PHOTO, form, exif=raw[:end]), None
    for name, data in {
        "nonsense": b"Exif\0\0nonsense",
        "loop": raw[:10] + b"\x08\0\0\0" * 5,
    }.items():
        yield f"EXIF {name}", saved(PHOTO, "JPEG", exif=data), None


def by_size():
    """(name, bytes, usable, size) of images that are hardly images."""
    for width, height in ((1, 1), (1, 3000), (3000, 1), (2, 2), (1, 2), (5000, 3)):
        for form in ("JPEG", "PNG", "BMP"):
            image = Image.new("RGB", (width, height), "#456")
            yield f"{form} {width}x{height}", saved(image, form), True, (height, width)


def all_images():
    """[(name, bytes, usable or None for either, (height, width))]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = [entry for part in (by_format, cut, damaged, by_hand, by_exif) for entry in part()]
        return [*((*entry, HW) for entry in plain), *by_size()]


def oriented(form, orientation, image=PHOTO):
    """A file whose pixels are `image` once its orientation is applied."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    back = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)  # undoes it
    undo = Image.Exif()
    undo[0x0112] = back
    stored = Image.open(io.BytesIO(saved(image, "PNG", exif=undo)))
    options = {"quality": 95} if form == "JPEG" else {"lossless": True} if form == "WEBP" else {}
    return saved(ImageOps.exif_transpose(stored), form, exif=exif, **options)


def decode(content, hw, exif="apply"):
    """The pixels, by the function that training uses."""
    from pse_jax.data import transforms

    return transforms.decode(content, "x", hw, exif)
