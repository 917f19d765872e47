"""The store: the same on SQLite and PostgreSQL."""

import threading
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from tests.inspections.conftest import image_bytes

from blemish.errors import BadImage, StorageFull, UnknownName
from blemish.inspections import tables
from blemish.inspections.access import User
from blemish.inspections.database import Database
from blemish.inspections.finding_records import NewFinding
from blemish.inspections.store import InspectionStore
from blemish.testing import raises


def test_open_migrates_to_the_tables_of_the_code(store):
    with store.access.database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_open_refuses_what_is_not_a_store(tmp_path):
    with raises("bad-store.not-found"):
        InspectionStore.open(tmp_path / "none")
    (tmp_path / "file.txt").write_text("x")
    with raises("bad-store.not-a-store"):
        InspectionStore.open(tmp_path, create=True)
    with raises("bad-input.database-url"):
        InspectionStore.open(tmp_path / "new", create=True, database="mysql://host/name")


def test_open_refuses_the_database_of_a_later_version(tmp_path):
    store = InspectionStore.open(tmp_path / "s", create=True)
    with store.access.database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    with raises("bad-store.later-version"):
        InspectionStore.open(tmp_path / "s")


def test_sqlite_is_configured_for_durability(sqlite_store):
    with sqlite_store.access.database.read() as connection:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        values = [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]
    assert values == ["wal", 2, 1, 30_000]


def test_records_are_read_as_they_were_stored(case):
    store = case.store
    assert store.assets.get(case.asset.id) == case.asset
    assert store.assets.find("vehicle", "B-XY 12") == case.asset
    assert store.images.of_inspection(case.inspection.id) == tuple(case.images)
    assert store.images.content(case.images[0].id) == image_bytes(0)
    assert (case.images[0].height, case.images[0].width) == (48, 64)
    (run,) = store.findings.runs(case.inspection.id)
    assert run == case.run
    finding = case.findings[0]
    assert finding.area_share == pytest.approx(32 * 24 / (48 * 64))
    assert (finding.severity_level, finding.severity_rule) == ("2", "large dent")
    assert finding.state == "open" and finding.origin == "model"
    changed = store.inspections.get(case.inspection.id)
    assert changed.open_findings == 2 and changed.version > case.inspection.version


def test_findings_and_reviews_cannot_be_changed_behind_the_store(case):
    case.store.reviews.decide(case.findings[0].id, "accept")
    for statement in (
        "UPDATE finding SET label = 'scratch'",
        "UPDATE finding SET score = 0.1",
        "UPDATE review SET action = 'reject'",
        "DELETE FROM review",
        "DELETE FROM audit_event",
        "UPDATE prediction_run SET model_digest = 'b'",
    ):
        with (
            pytest.raises(sa.exc.DBAPIError, match="append-only"),
            case.store.access.database.engine.begin() as connection,
        ):
            connection.execute(sa.text(statement))


def test_reviews_change_the_state_and_keep_what_the_model_found(case):
    store, (first, second) = case.store, case.findings
    store.reviews.decide(first.id, "reject", reason="reflection", reviewer="Ada")
    store.reviews.decide(second.id, "edit", changes={"label": "scratch", "box_xyxy": [0, 0, 64, 48]})
    one, two = (store.findings.get(f.id) for f in case.findings)
    assert (one.state, two.state) == ("rejected", "accepted")
    assert two.label == "dent" and two.box_xyxy == second.box_xyxy
    assert two.effective()["label"] == two.current_label == "scratch"
    assert two.effective()["severity_level"] == "1"  # graded again by the rules: a large scratch
    review = store.reviews.of_finding(two)[0]
    assert review.before["label"] == "dent" and review.after["label"] == "scratch"
    assert store.inspections.get(case.inspection.id).needs_review == 0
    assert [r.reviewer for r in store.reviews.of_inspection(case.inspection.id)] == ["Ada", "local"]


def test_reviews_add_a_finding_of_a_person(case):
    image = case.images[0]
    new = NewFinding(image_id=image.id, label="scratch", polygons=[[[0, 0], [10, 0], [10, 10], [0, 10]]])
    added = case.store.reviews.add(case.inspection.id, new, reviewer="Ada")
    stored = case.store.findings.get(added.id)
    assert stored == added and stored.state == "accepted" and stored.origin == "person"
    assert stored.box_xyxy == [0, 0, 10, 10]


@pytest.mark.parametrize(
    ("action", "changes", "code"),
    [
        ("explode", None, "unknown-name.action"),
        ("add", None, "unknown-name.action"),
        ("edit", None, "bad-input.changes"),
        ("accept", {"label": "x"}, "bad-input.changes"),
        ("edit", {"score": 1}, "unknown-name.change"),
        ("edit", {"label": " "}, "bad-input.text"),
        ("edit", {"box_xyxy": [9, 9, 4, 4]}, "bad-input.outline"),
        ("edit", {"box_xyxy": [0, 0, 4000, 4]}, "bad-input.outline"),
        ("edit", {"box_xyxy": [0, 0, float("nan"), 4]}, "bad-input.outline"),
        ("edit", {"polygons": [[[0, 0], [1, 1]]]}, "bad-input.outline"),
        ("edit", {"severity_level": "9"}, "unknown-name.severity-level"),
        ("note", None, "bad-input.text"),
    ],
)
def test_reviews_refuse_impossible_decisions(sqlite_case, action, changes, code):
    with raises(code):
        sqlite_case.store.reviews.decide(sqlite_case.findings[0].id, action, changes=changes)
    assert sqlite_case.store.reviews.of_inspection(sqlite_case.inspection.id) == ()


def test_a_version_that_has_changed_is_a_conflict(case):
    finding = case.findings[0]
    case.store.reviews.decide(finding.id, "accept", version=1)
    with raises("conflict.version"):
        case.store.reviews.decide(finding.id, "reject", version=1)
    assert case.store.findings.get(finding.id).state == "accepted"


def test_a_closed_inspection_refuses_changes(case):
    case.store.inspections.set_status(case.inspection.id, "closed")
    for change in (
        lambda: case.store.reviews.decide(case.findings[0].id, "accept"),
        lambda: case.store.images.add(case.inspection.id, image_bytes(9)),
    ):
        with raises("conflict.closed"):
            change()
    case.store.inspections.set_status(case.inspection.id, "open")
    case.store.reviews.decide(case.findings[0].id, "accept")


def test_images_refuse_copies_and_what_is_no_image(case):
    with raises("conflict.image-exists"):
        case.store.images.add(case.inspection.id, image_bytes(0))
    with pytest.raises(BadImage):
        case.store.images.add(case.inspection.id, b"not an image")
    with raises("unknown-name.inspection"):
        case.store.images.add("0" * 26, image_bytes(5))
    assert len(case.store.images.of_inspection(case.inspection.id)) == 2


def test_objects_of_others_do_not_exist(case):
    other = case.store.for_user(User("other", "other"))
    for read in (
        lambda: other.assets.get(case.asset.id),
        lambda: other.inspections.get(case.inspection.id),
        lambda: other.images.get(case.images[0].id),
        lambda: other.images.of_inspection(case.inspection.id),
        lambda: other.findings.get(case.findings[0].id),
        lambda: other.findings.list(inspection_id=case.inspection.id),
        lambda: other.reviews.decide(case.findings[0].id, "accept"),
        lambda: other.inspections.create(case.asset.id),
    ):
        with pytest.raises(UnknownName):
            read()
    assert other.inspections.list().items == other.findings.list().items == other.assets.list().items == ()
    assert other.assets.create("vehicle", "B-XY 12").owner == "other"


def test_lists_are_pages_without_gaps(case):
    store = case.store
    for _ in range(6):
        store.inspections.create(case.asset.id)
    for finding in case.findings:
        store.reviews.decide(finding.id, "accept")
    seen, cursor = [], None
    while True:
        page = store.inspections.list(limit=3, cursor=cursor)
        seen += [item.id for item in page.items]
        if (cursor := page.next_cursor) is None:
            break
    assert len(seen) == len(set(seen)) == 7
    assert seen[-1] == case.inspection.id  # reviewed: after those that need a review
    with raises("bad-input.cursor"):
        store.inspections.list(cursor="x")
    with raises("bad-input.limit"):
        store.findings.list(limit=0)


def test_list_findings_filters_by_the_label_after_reviews(case):
    case.store.reviews.decide(case.findings[0].id, "edit", changes={"label": "scratch"})
    assert [f.id for f in case.store.findings.list(label="scratch").items] == [case.findings[0].id]
    assert [f.id for f in case.store.findings.list(state="open").items] == [case.findings[1].id]
    assert len(case.store.findings.list(severity_level="2").items) == 2


def test_once_answers_a_repetition_from_the_store(case):
    store = case.store

    def work():
        return 201, store.inspections.create(case.asset.id).to_dict()

    status, answer, repeated = store.once("k1", "d1", work)
    again = store.once("k1", "d1", work)
    assert (status, repeated) == (201, False) and again == (201, answer, True)
    assert len(store.inspections.list().items) == 2
    with raises("conflict.idempotency-key"):
        store.once("k1", "d2", work)


def test_once_stores_no_key_if_the_write_fails(case):
    def fail():
        case.store.inspections.create(case.asset.id)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        case.store.once("k2", "d", fail)
    assert len(case.store.inspections.list().items) == 1
    assert case.store.once("k2", "d", lambda: (200, {}))[2] is False


def test_threads_write_without_losing_an_update(case):
    errors = []

    def add(seed):
        try:
            case.store.images.add(case.inspection.id, image_bytes(seed))
        except Exception as error:
            errors.append(error)

    before = case.store.inspections.get(case.inspection.id).version
    threads = [threading.Thread(target=add, args=(100 + k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert case.store.inspections.get(case.inspection.id).version == before + 8
    assert len(case.store.images.of_inspection(case.inspection.id)) == 10


def test_a_full_database_stores_nothing_and_is_an_error(tmp_path):
    database = Database(tmp_path)
    with database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    database.close()
    sa.event.listen(database.engine, "connect", lambda c, _: c.execute(f"PRAGMA max_page_count={pages + 2}"))
    with pytest.raises(StorageFull):
        database.write(lambda t: t.record("x", "y", "z", {"much": "x" * 100_000}), actor="a")
    assert database.write(lambda t: t.record("x", "y", "z"), actor="a") is None


def test_postgresql_that_restarts_is_asked_again_and_nothing_is_written_twice(tmp_path, postgres):
    with InspectionStore.open(tmp_path / "s", database=postgres.new_database(), create=True) as store:
        asset = store.assets.create("free", "one")
        attempts = []

        def restart_once(transaction):
            attempts.append(1)
            created = store.inspections.create(asset.id)
            if len(attempts) == 1:
                postgres.stop()
                postgres.start()
            return created

        created = store.access.write(restart_once)
        assert len(attempts) == 2
        assert [item.id for item in store.inspections.list().items] == [created.id]


def test_postgresql_that_ends_after_the_commit_is_not_written_twice(tmp_path, postgres, monkeypatch):
    with InspectionStore.open(tmp_path / "s", database=postgres.new_database(), create=True) as store:
        asset = store.assets.create("free", "one")
        begin = Database._begin
        lost: list[int] = []

        @contextmanager
        def lose_the_connection_once(self, *, write):
            with begin(self, write=write) as connection:
                yield connection
            if write and not lost:
                lost.append(1)
                raise sa.exc.OperationalError("COMMIT", {}, ConnectionError(), connection_invalidated=True)

        monkeypatch.setattr(Database, "_begin", lose_the_connection_once)
        created = store.inspections.create(asset.id)
        assert lost
        assert [item.id for item in store.inspections.list().items] == [created.id]


@pytest.fixture
def sqlite_case(sqlite_store):
    from tests.inspections.conftest import Case

    from blemish.inspections.severity import load_rules

    return Case(sqlite_store, images=1, rules=load_rules("vehicle"))
