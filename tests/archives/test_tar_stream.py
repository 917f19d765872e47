import gzip
import io
import tarfile

import pytest
from tests.archives.conftest import image_bytes, web_members, write_tar

from blemish.archives.tar_stream import MAX_HEADER_BYTES, read_tar
from blemish.imaging import LIMITS, Limits


def read(path, limits=LIMITS):
    """Return the addresses with the size of the image or the code of the error."""
    out: list[tuple[str, object]] = []
    for image in read_tar(str(path), limits):
        try:
            out.append((image.address.removeprefix(str(path)), image.read(limits).size_hw))
        except Exception as error:
            out.append((image.address.removeprefix(str(path)), getattr(error, "code", repr(error))))
    return out


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz"])
def test_read_tar_yields_images_in_order(tmp_path, suffix):
    buffer = io.BytesIO()
    write_tar(
        buffer, [*web_members(0, 3), ("more/x.JPG", image_bytes(9, "JPEG")), ("more/._x.jpg", b"hidden")]
    )
    data = buffer.getvalue() if suffix == ".tar" else gzip.compress(buffer.getvalue())
    path = tmp_path / f"cells{suffix}"
    path.write_bytes(data)
    names = ["/0000.png", "/0001.png", "/0002.png", "/more/x.JPG"]
    assert read(path) == [(name, (12, 16)) for name in names]


def test_read_tar_gives_each_bad_member_an_error(tmp_path):
    path = tmp_path / "cells.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in [("damaged.png", b"nothing"), ("phone.heic", b"x"), ("empty.png", b"")]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        large = tarfile.TarInfo("large.png")
        large.size = 2000
        tar.addfile(large, io.BytesIO(bytes(2000)))
        outside = tarfile.TarInfo("../../outside.png")
        outside.size = len(image_bytes(1))
        tar.addfile(outside, io.BytesIO(image_bytes(1)))
    assert read(path, Limits(max_bytes=1999)) == [
        ("/damaged.png", "image-undecodable.unsupported-format"),
        ("/phone.heic", "image-undecodable.unsupported-format"),
        ("/empty.png", "bad-image.empty-file"),
        ("/link.png", "bad-image.tar-member"),
        ("/large.png", "image-too-large.max-bytes"),
        ("/../../outside.png", (12, 16)),
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["cells.tar"]


@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
def test_read_tar_reports_a_cut_anywhere(tmp_path, suffix):
    buffer = io.BytesIO()
    write_tar(buffer, web_members(0, 2))
    data = buffer.getvalue().rstrip(b"\0")
    end = -(-len(data) // 512) * 512 + 512  # with one block of the end mark
    data = buffer.getvalue()[:end] if suffix == ".tar" else gzip.compress(buffer.getvalue())
    path = tmp_path / f"cells{suffix}"
    for length in range(0, len(data), 101):
        path.write_bytes(data[:length])
        rows = read(path)
        assert rows[-1][0] == "" and rows[-1][1].startswith(("image-truncated.tar", "bad-image.tar"))
    path.write_bytes(data)
    assert len(read(path)) == 2


def test_read_tar_reports_a_damaged_header_between_members(tmp_path):
    path = tmp_path / "cells.tar"
    write_tar(path, web_members(0, 3))
    with tarfile.open(path) as tar:
        offset = tar.getmembers()[2].offset
    data = bytearray(path.read_bytes())
    data[offset : offset + 4] = b"zzzz"
    path.write_bytes(data)
    assert read(path) == [("/0000.png", (12, 16)), ("", "image-truncated.tar")]


def test_read_tar_does_not_read_a_huge_header(tmp_path):
    path = tmp_path / "cells.tar"
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, MAX_HEADER_BYTES * 1000
    path.write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + bytes(2048))
    assert read(path) == [("", "bad-image.tar")]


def test_read_tar_ends_at_a_negative_size(tmp_path):
    path = tmp_path / "cells.tar"
    first = tarfile.TarInfo("a.png")
    back = tarfile.TarInfo("b.png")
    back.size = -1024
    path.write_bytes(first.tobuf() + back.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    assert read(path)[-1][1] in ("bad-image.tar", "image-truncated.tar")


@pytest.mark.parametrize(
    ("name", "code"), [("none.tar", "bad-image.unreadable-file"), ("a.tar", "bad-input.no-images")]
)
def test_read_tar_without_images(tmp_path, name, code):
    write_tar(tmp_path / "a.tar", [("0.cls", b"1")])
    assert read(tmp_path / name) == [("", code)]


def test_read_tar_that_is_no_tar_file(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"text " * 1000)
    assert read(tmp_path / "a.tar") == [("", "image-truncated.tar")]
