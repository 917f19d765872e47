"""Tasks and labeling interfaces of Label Studio, and predictions in its words."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qs, quote, unquote, urlsplit

from blemish.data.formats.labelstudio_writer import task_results
from blemish.data.write_context import WriteContext
from blemish.service.problem_details import Problem
from blemish.service.settings import Settings
from blemish.structures import GroundTruth, Prediction, Sample

TOKEN_VARIABLE = "LABEL_STUDIO_API_KEY"  # noqa: S105 - the name of an environment variable
LOCAL_FILES = "/data/local-files/"
# What each tag of a labeling interface can show.
KINDS = {
    "RectangleLabels": "rectanglelabels",
    "PolygonLabels": "polygonlabels",
    "BrushLabels": "brushlabels",
    "Choices": "choices",
}


def label_studio_problem(detail: str, reason: str) -> Problem:
    """Return the problem of a request that cannot be answered for Label Studio."""
    return Problem(f"label-studio.{reason}", detail)


@dataclass(frozen=True)
class Interface:
    """The part of a labeling interface that predictions go into.

    Attributes:
        controls: by type of result, such as "rectanglelabels", the name of the tag and its labels.
        image: name of the image tag.
        key: the key of the task's data with the address of the image.
    """

    controls: Mapping[str, tuple[str, frozenset[str]]]
    image: str
    key: str


def read_interface(config: object) -> Interface:
    """Return the controls of a labeling interface that belong to its first image.

    Args:
        config: the XML of the interface.

    Raises:
        Problem: it is not XML, or has no image with a control for boxes, outlines, masks or choices.
    """
    try:
        if not isinstance(config, str) or "<!ENTITY" in config or "<!DOCTYPE" in config:
            raise ValueError
        view = ET.fromstring(config)  # noqa: S314 - without entities
    except (ET.ParseError, ValueError) as error:
        raise label_studio_problem(
            "label_config: expected the labeling interface of the project, as XML.", "interface"
        ) from error
    image = next(iter(view.iter("Image")), None)
    name = "" if image is None else image.get("name", "")
    key = "" if image is None else image.get("value", "").removeprefix("$")
    controls: dict[str, tuple[str, frozenset[str]]] = {}
    for tag, kind in KINDS.items():
        for control in view.iter(tag):
            if control.get("toName") == name and kind not in controls:
                labels = frozenset(child.get("alias") or child.get("value") or "" for child in control)
                controls[kind] = (control.get("name", ""), labels)
    if not name or not key or not controls:
        raise label_studio_problem(
            f"label_config: expected an Image tag, and one of {', '.join(KINDS)} for it.", "interface"
        )
    return Interface(controls, name, key)


def results_of(prediction: Prediction, interface: Interface, *, prefix: str) -> list[dict[str, Any]]:
    """Return a prediction as results of a task.

    Objects below the threshold of their label, and labels that the interface does not have, are left out.
    Objects become the most exact shape that the interface can show: a mask, a polygon or a rectangle.

    Args:
        prediction: of one image.
        interface: where the results are shown.
        prefix: the beginning of the id of each region.

    Raises:
        Problem: the interface cannot show this task.
    """
    kinds = interface.controls.keys()
    if not (kinds & {"choices"} if prediction.boxes_xyxy is None else kinds - {"choices"}):
        wanted = "Choices" if prediction.boxes_xyxy is None else "RectangleLabels"
        raise label_studio_problem(
            f"The model's task is {prediction.task}: expected {wanted} in the labeling interface.",
            "interface",
        )
    kept = prediction.filter_scores()
    masks = kept.masks if kinds & {"brushlabels", "polygonlabels"} else None
    scores = kept.scores
    ground_truth = GroundTruth(
        task=kept.task,
        labels=kept.labels,
        size_hw=kept.size_hw,
        label_index=kept.label_index,
        boxes_xyxy=kept.boxes_xyxy,
        masks=masks,
    )
    sample = Sample(id="task", path=Path(), size_hw=kept.size_hw, ground_truth=ground_truth)
    context = WriteContext(scores={"task": scores})
    found = task_results(sample, context, prefix=prefix, holds_masks="brushlabels" in kinds)
    results = []
    for result in found:
        kind = result["type"]
        if kind not in interface.controls:
            continue
        name, labels = interface.controls[kind]
        value = dict(result["value"])
        value[kind] = [label for label in value[kind] if label in labels]
        if value[kind]:
            results.append({**result, "from_name": name, "to_name": interface.image, "value": value})
    return results


class ImageSource:
    """Finds the images of tasks: in one folder, and at one Label Studio server, nowhere else."""

    def __init__(self, settings: Settings) -> None:
        """Remember the folder and the server; the token of the server is in the environment."""
        self._settings = settings
        self._root = None if settings.label_studio_root is None else settings.label_studio_root.resolve()
        self._server = (settings.label_studio_url or "").rstrip("/")
        self._token = os.environ.get(TOKEN_VARIABLE, "")

    def read(self, address: object) -> bytes:
        """Return the bytes of an image; call it in a thread.

        Args:
            address: as in the task's data: `/data/local-files/?d=a.jpg`, `/data/upload/1/a.jpg`, or the whole
                address of a file of the server.

        Raises:
            Problem: it is not in the folder or at the server, or cannot be read.
        """
        if not isinstance(address, str) or not address:
            raise label_studio_problem("data: expected the address of an image.", "image")
        parts = urlsplit(address)
        if parts.path == LOCAL_FILES and self._root is not None and not parts.netloc:
            return self._read_file(unquote(parse_qs(parts.query).get("d", [""])[0]))
        if self._server:
            if address.startswith("/") and not address.startswith("//"):
                return self._fetch(self._server + address)
            if address.startswith(self._server + "/"):
                return self._fetch(address)
        known = ["/data/local-files/ below the folder of --label-studio-root"] * (self._root is not None)
        known += [f"files of {self._server}"] * bool(self._server)
        raise label_studio_problem(
            f"The image cannot be fetched: this server reads {' and '.join(known) or 'no addresses'}. Start"
            " it with --label-studio-root or --label-studio-url.",
            "image",
        )

    def _read_file(self, name: str) -> bytes:
        assert self._root is not None  # noqa: S101  (checked by the caller)
        path = (self._root / name.lstrip("/")).resolve()
        try:
            if not path.is_relative_to(self._root) or not path.is_file():
                raise FileNotFoundError(name)
            if path.stat().st_size > self._settings.max_upload_bytes:
                self._too_large()
            return path.read_bytes()
        except OSError as error:
            raise label_studio_problem(
                "The image is not in the folder of --label-studio-root.",
                "image",
            ) from error

    def _fetch(self, address: str) -> bytes:
        request = urllib.request.Request(quote(address, safe="%/:=&?~#+!$,;'@()*[]"))  # noqa: S310
        if self._token:
            request.add_header("Authorization", f"Token {self._token}")
        opener = urllib.request.build_opener(_NoRedirect)
        try:
            with opener.open(request, timeout=self._settings.read_timeout_seconds) as response:
                data: bytes = response.read(self._settings.max_upload_bytes + 1)
        except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError
            status = ""
            if isinstance(error, urllib.error.HTTPError):
                error.close()
                status = f" (status {error.code})"
            raise label_studio_problem(
                f"The image cannot be fetched from Label Studio{status}. Set {TOKEN_VARIABLE} if it needs a"
                " token.",
                "image",
            ) from error
        if len(data) > self._settings.max_upload_bytes:
            self._too_large()
        return data

    def _too_large(self) -> NoReturn:
        raise Problem(
            "upload-too-large",
            "The image of a task is larger than this server accepts.",
            limit=("max_upload_bytes", self._settings.max_upload_bytes),
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, which could lead to another server."""

    def redirect_request(self, *args: Any, **options: Any) -> None:
        """Follow none."""
