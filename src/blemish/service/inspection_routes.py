"""The store of inspections as resources below `/api/v1`; `blemish serve --inspections DIR` adds them."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from blemish.inspections.finding_records import NewFinding
from blemish.inspections.inspector import compare_inspections, inspect_images, inspection_summary
from blemish.inspections.overview import list_overviews
from blemish.inspections.records import to_dicts
from blemish.inspections.report_writer import write_report
from blemish.inspections.severity import SeverityRules, builtin_rules, rules_from_dict
from blemish.inspections.store import InspectionStore
from blemish.service.api_keys import ApiKeys
from blemish.service.inference_service import InferenceService
from blemish.service.inspection_image_routes import add_image_routes
from blemish.service.inspection_label_routes import add_label_routes
from blemish.service.inspection_module_routes import add_module_routes
from blemish.service.inspection_requests import (
    AssetBody,
    AssetChange,
    ComparisonBody,
    FindingBody,
    InspectionBody,
    InspectionChange,
    InspectionRequests,
    LimitedRoute,
    ReportBody,
    ReviewBody,
    RunBody,
    body_bytes,
    expected_version,
    json_answer,
)

Limit = Annotated[int, Query(ge=1, le=500, description="Number of items.")]
Cursor = Annotated[str | None, Query(max_length=300, description="next_cursor of an earlier answer.")]
Filter = Annotated[str | None, Query(max_length=200)]
Requests: TypeAlias = InspectionRequests
_MEDIA = {"pdf": "application/pdf", "html": "text/html; charset=utf-8", "csv": "text/csv; charset=utf-8"}


def inspection_router(service: InferenceService, store: InspectionStore, keys: ApiKeys | None) -> APIRouter:
    """Return the routes of a store.

    Args:
        service: whose models run over images.
        store: of the inspections.
        keys: with their scopes; None accepts every request.
    """
    router = APIRouter(prefix="/api/v1", tags=["inspections"], route_class=LimitedRoute)
    requests = InspectionRequests(store, keys, service.settings.max_pixels)
    _add_asset_routes(router, requests)
    _add_inspection_routes(router, requests)
    add_image_routes(router, requests, service)
    _add_finding_routes(router, requests)
    _add_result_routes(router, requests, service)
    add_label_routes(router, requests)
    add_module_routes(router, requests, service)
    return router


def _add_asset_routes(router: APIRouter, requests: Requests) -> None:
    @router.get("/assets")
    def list_assets(
        request: Request,
        kind: Filter = None,
        reference: Filter = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Response:
        store = requests.store(request, "read")

        def work() -> Response:
            page = store.assets.list(kind=kind, reference=reference, limit=limit, cursor=cursor)
            return json_answer({"items": to_dicts(page.items), "next_cursor": page.next_cursor})

        return requests.answer(work)

    @router.post("/assets", status_code=201)
    def create_asset(request: Request, body: AssetBody) -> Response:
        store = requests.store(request, "write")
        return requests.create(
            request,
            store,
            body_bytes(body),
            lambda: store.assets.create(body.kind, body.reference, body.attributes).to_dict(),
        )

    @router.get("/assets/{asset_id}")
    def read_asset(request: Request, asset_id: str) -> Response:
        store = requests.store(request, "read")

        def work() -> Response:
            asset = store.assets.get(asset_id)
            return json_answer(asset.to_dict(), version=asset.version)

        return requests.answer(work)

    @router.patch("/assets/{asset_id}")
    def change_asset(request: Request, asset_id: str, body: AssetChange) -> Response:
        store = requests.store(request, "write")

        def work() -> Response:
            asset = store.assets.update(asset_id, body.attributes, version=expected_version(request))
            return json_answer(asset.to_dict(), version=asset.version)

        return requests.answer(work)


def _rules(severity: str | dict[str, Any] | None) -> SeverityRules | None:
    """Return rules by the name of built-in ones or by their values; never from a file of the server."""
    if severity is None:
        return None
    if isinstance(severity, dict):
        return rules_from_dict(severity)
    from blemish.inspections.access import check_choice
    from blemish.inspections.severity import load_rules

    check_choice("severity rules", severity, builtin_rules())
    return load_rules(severity)


def _add_inspection_routes(router: APIRouter, requests: Requests) -> None:
    @router.get("/inspections")
    def list_inspections(
        request: Request,
        asset_id: Filter = None,
        status: Filter = None,
        needs_review: bool | None = None,
        reference: Filter = None,
        kind: Filter = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Response:
        store = requests.store(request, "read")

        def work() -> Response:
            page = store.inspections.list(
                asset_id=asset_id,
                status=status,
                needs_review=needs_review,
                reference=reference,
                asset_kind=kind,
                limit=limit,
                cursor=cursor,
            )
            items = list_overviews(store, page.items)
            return json_answer({"items": items, "next_cursor": page.next_cursor})

        return requests.answer(work)

    @router.post("/inspections", status_code=201)
    def create_inspection(request: Request, body: InspectionBody) -> Response:
        store = requests.store(request, "write")
        return requests.create(
            request,
            store,
            body_bytes(body),
            lambda: store.inspections.create(
                body.asset_id,
                kind=body.kind,
                phase=body.phase,
                previous_id=body.previous_id,
                required_views=body.required_views,
                severity=_rules(body.severity),
            ).to_dict(),
        )

    @router.get("/inspections/{inspection_id}")
    def read_inspection(request: Request, inspection_id: str) -> Response:
        store = requests.store(request, "read")

        def work() -> Response:
            inspection = store.inspections.get(inspection_id)
            asset = store.assets.get(inspection.asset_id).to_dict()
            fields = {
                **inspection.to_dict(),
                "asset": asset,
                "summary": inspection_summary(store, inspection_id),
            }
            return json_answer(fields, version=inspection.version)

        return requests.answer(work)

    @router.patch("/inspections/{inspection_id}")
    def change_inspection(request: Request, inspection_id: str, body: InspectionChange) -> Response:
        store = requests.store(request, "write")

        def work() -> Response:
            version = expected_version(request)
            inspection = store.inspections.set_status(inspection_id, body.status, version=version)
            return json_answer(inspection.to_dict(), version=inspection.version)

        return requests.answer(work)


def _add_finding_routes(router: APIRouter, requests: Requests) -> None:
    @router.get("/findings")
    def list_findings(
        request: Request,
        inspection_id: Filter = None,
        image_id: Filter = None,
        label: Filter = None,
        state: Filter = None,
        severity_level: Filter = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Response:
        store = requests.store(request, "read")

        def work() -> Response:
            page = store.findings.list(
                inspection_id=inspection_id,
                image_id=image_id,
                label=label,
                state=state,
                severity_level=severity_level,
                limit=limit,
                cursor=cursor,
            )
            return json_answer({"items": to_dicts(page.items), "next_cursor": page.next_cursor})

        return requests.answer(work)

    @router.get("/findings/{finding_id}")
    def read_finding(request: Request, finding_id: str) -> Response:
        store = requests.store(request, "read")

        def work() -> Response:
            finding = store.findings.get(finding_id)
            fields = {**finding.to_dict(), "effective": finding.effective()}
            reviews = to_dicts(store.reviews.of_finding(finding))
            return json_answer({**fields, "reviews": reviews}, version=finding.version)

        return requests.answer(work)

    @router.post("/inspections/{inspection_id}/findings", status_code=201)
    def add_finding(request: Request, inspection_id: str, body: FindingBody) -> Response:
        store = requests.store(request, "review")
        new = NewFinding(
            image_id=body.image_id,
            label=body.label,
            box_xyxy=body.box_xyxy,
            polygons=body.polygons,
            part=body.part,
        )
        return requests.create(
            request,
            store,
            body_bytes(body),
            lambda: store.reviews.add(
                inspection_id,
                new,
                reason=body.reason,
                note=body.note,
                reviewer=requests.reviewer(request, store, body.reviewer),
            ).to_dict(),
        )

    @router.post("/findings/{finding_id}/reviews", status_code=201)
    def review_finding(request: Request, finding_id: str, body: ReviewBody) -> Response:
        store = requests.store(request, "review")
        return requests.create(
            request,
            store,
            body_bytes(body),
            lambda: store.reviews.decide(
                finding_id,
                body.action,
                changes=body.changes,
                reason=body.reason,
                note=body.note,
                reviewer=requests.reviewer(request, store, body.reviewer),
                version=expected_version(request),
            ).to_dict(),
        )

    @router.get("/inspections/{inspection_id}/reviews")
    def list_reviews(request: Request, inspection_id: str) -> Response:
        store = requests.store(request, "read")
        return requests.answer(
            lambda: json_answer(
                {"items": to_dicts(store.reviews.of_inspection(inspection_id)), "next_cursor": None}
            )
        )


def _add_result_routes(router: APIRouter, requests: Requests, service: InferenceService) -> None:
    @router.post("/inspections/{inspection_id}/runs", status_code=201)
    def run_model(request: Request, inspection_id: str, body: RunBody) -> Response:
        store = requests.store(request, "write")
        model = service.get_model(body.model)
        parts = None if body.parts is None else service.get_model(body.parts)
        return requests.perform(
            request,
            lambda: inspect_images(
                store,
                inspection_id,
                model.loaded,
                model_name=model.name,
                parts=None if parts is None else parts.loaded,
                min_score=body.min_score,
                normal_labels=body.normal_labels,
                max_images=body.max_images,
            ).to_dict(),
        )

    @router.post("/inspections/{inspection_id}/comparison", status_code=201)
    def compare(request: Request, inspection_id: str, body: ComparisonBody) -> Response:
        store = requests.store(request, "write")

        def work() -> dict[str, Any]:
            compare_inspections(store, inspection_id, body.previous_id)
            return store.inspections.get(inspection_id).comparison or {}

        return requests.perform(request, work)

    @router.post("/inspections/{inspection_id}/reports", status_code=201)
    def create_report(request: Request, inspection_id: str, body: ReportBody) -> Response:
        store = requests.store(request, "write")
        return requests.perform(
            request,
            lambda: write_report(store, inspection_id, body.format, options=body.options)[0].to_dict(),
        )

    @router.get("/inspections/{inspection_id}/reports")
    def list_reports(request: Request, inspection_id: str) -> Response:
        store = requests.store(request, "read")
        return requests.answer(
            lambda: json_answer(
                {"items": to_dicts(store.reports.of_inspection(inspection_id)), "next_cursor": None}
            )
        )

    @router.get("/reports/{report_id}")
    def read_report(request: Request, report_id: str) -> Response:
        store = requests.store(request, "read")
        return requests.answer(lambda: json_answer(store.reports.get(report_id).to_dict()))

    @router.get("/reports/{report_id}/content")
    def read_report_content(request: Request, report_id: str) -> Response:
        store = requests.store(request, "read")

        def work() -> Response:
            report = store.reports.get(report_id)
            headers = {
                "Content-Disposition": f'attachment; filename="inspection-{report.id}.{report.format}"'
            }
            return Response(store.reports.content(report), media_type=_MEDIA[report.format], headers=headers)

        return requests.answer(work)
