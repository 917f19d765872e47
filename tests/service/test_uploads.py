"""`read_form`: what a multipart form may contain, and the words for what it may not."""

import asyncio
import gzip

import pytest

from blemish.service.problem_details import Problem
from blemish.service.settings import Settings
from blemish.service.uploads import MemoryBudget, read_form

HEADERS = {"content-type": "multipart/form-data; boundary=cut"}
IMAGE = b"\x89PNG\r\n\x1a\n\0\0"


def part(content=IMAGE, name="image", file_name="a.png", more=""):
    """Return one part of a form with its boundary; `file_name` is None for a field that is not a file."""
    disposition = f'form-data; name="{name}"' + ("" if file_name is None else f'; filename="{file_name}"')
    head = f"--cut\r\nContent-Disposition: {disposition}\r\n{more}\r\n"
    return head.encode() + content + b"\r\n"


END = b"--cut--\r\n"


def read(body, *, headers=HEADERS, chunk_size=10_000, settings=None, **options):
    """Return the form of a body that arrives in chunks, and check that nothing stays reserved otherwise."""
    budget = MemoryBudget(10**6)

    async def stream():
        for start in range(0, len(body), chunk_size):
            yield body[start : start + chunk_size]

    try:
        form = asyncio.run(read_form(headers, stream(), settings or Settings(), budget, **options))
    except Problem:
        assert budget.used_bytes == 0
        raise
    assert budget.used_bytes == form.size_bytes
    return form


def refused(body, **options):
    """Return the problem of a body."""
    with pytest.raises(Problem) as caught:
        read(body, **options)
    return caught.value


@pytest.mark.parametrize("chunk_size", [1, 7, 10_000])
@pytest.mark.parametrize("beginning", [b"", b"\r\n", b"\r\n\r\n"])
def test_read_form_in_chunks(chunk_size, beginning):
    body = beginning + part() + part(b"fusion", "mode", None) + part(IMAGE * 9, "file") + END
    form = read(body, chunk_size=chunk_size, max_images=2, fields=("mode",))
    assert form.images == [IMAGE, IMAGE * 9]
    assert form.fields == {"mode": "fusion"}


@pytest.mark.parametrize("chunk_size", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"This is a form.\r\n" + part() + END, "bad-upload.preamble"),
        (b"\r\n" * 30 + part() + END, "bad-upload.preamble"),
        (b"--cup" + part() + END, "bad-upload.preamble"),
        (part() + END + b"That was a form.\r\n", "bad-upload.epilogue"),
        (part() + END + part(b"second") + END, "bad-upload.epilogue"),
        (part(), "bad-upload"),
        (b"", "bad-upload"),
        (part(name=""), "bad-upload.no-name"),
        (part(more="Content-Transfer-Encoding: base64\r\n"), "bad-upload.transfer-encoding"),
        (part(b"", file_name=None) + END, "image-missing.empty-field"),
        (part(b"", file_name="") + END, "image-missing.empty-field"),
        (part(b"image.jpg", file_name=None) + END, "image-missing.text-field"),
        (part(b"iVBORw0KGgoAAAANSUhEUg==\r\n", file_name=None) + END, "image-missing.text-field"),
    ],
)
def test_read_form_refuses_in_words_of_its_own(body, code, chunk_size):
    assert refused(body, chunk_size=chunk_size).code == code


def test_read_form_accepts_images_without_file_name_and_plain_encodings():
    assert read(part(file_name=None) + END).images == [IMAGE]
    assert read(part(more="Content-Transfer-Encoding: binary\r\n") + END).images == [IMAGE]
    assert read(part(b"") + END).images == [b""]  # an empty file is refused with the other bad images


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity"])
def test_read_form_refuses_compressed_bodies(encoding):
    problem = refused(gzip.compress(part() + END), headers={**HEADERS, "content-encoding": encoding})
    assert (problem.code, problem.status) == ("unsupported-encoding", 415)
    assert problem.headers == {"Accept-Encoding": "identity"}
    assert read(part() + END, headers={**HEADERS, "content-encoding": "identity"}).images == [IMAGE]


def test_read_form_refuses_unknown_fields_by_name():
    problem = refused(part(b"0.5", "conf", None) + part() + END, query_names=("model", "min_score"))
    assert (problem.code, problem.status) == ("bad-parameter.unknown", 422)
    for word in ("'conf'", "'min_score'", "query", "image, file"):
        assert word in problem.detail
    moved = refused(part() + part(b"0.5", "min_score", None) + END, query_names=("model", "min_score"))
    assert moved.code == "bad-parameter.unknown"
    assert "query" in moved.detail
    assert "'mode'" in refused(part() + part(b"x", "mod", None) + END, fields=("mode",)).detail


def test_read_form_refuses_repeated_and_large_fields():
    twice = part(b"resnet", "mode", None) + part(b"fusion", "mode", None)
    assert refused(twice + part() + END, fields=("mode",)).code == "bad-parameter.repeated"
    assert refused(part(bytes(100_000), "mode", None) + END, fields=("mode",)).code == "bad-upload"


def test_read_form_counts_every_byte():
    settings = Settings(max_upload_bytes=20_000)
    body = part() + END + b"\r\n" * 200_000
    assert refused(body, settings=settings).code == "upload-too-large"
