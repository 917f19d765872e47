"""The page states which photos should be taken again, beside their results."""

import shutil

from playwright.sync_api import expect

from blemish.model_file import CaptureLimit, CaptureSpec, read_graph, read_model_file, write_model_file


def test_photo_to_take_again_has_a_mark_and_a_note(visit, tools, page_models, tmp_path):
    from tests.page.conftest import serving

    file = read_model_file(page_models / "finder.onnx")
    limits = (CaptureLimit(measure="enlargement", side="above", value=0.5),)
    spec = CaptureSpec(images=99, rate=0.005, flagged=0.0, limits=limits)
    contract = file.contract.model_copy(update={"capture": spec})
    write_model_file(tmp_path / "finder.onnx", read_graph(file.path), contract)
    shutil.copy(page_models / "classifier.onnx", tmp_path / "classifier.onnx")
    with serving(tmp_path) as server:
        page = visit(server.address)
        small = tools.damaged(size=(64, 48))
        page.set_input_files("#files", [tools.file("usual.png"), tools.file("small.png", small)])
        tools.settled(page, 2)
        expect(page.locator(".photo .chip")).to_have_count(1)
        expect(page.locator(".photo .chip")).to_have_text("Retake: too small")
        expect(page.locator("#batch")).to_contain_text("1 to take again")
        expect(page.locator("[data-key=retake]")).to_have_count(0)
        page.locator(".photo .face").nth(1).click()
        page.get_by_role("tab", name="Prediction").click()
        expect(page.locator("[data-key=retake]")).to_contain_text("too small")
        expect(page.locator("#summary")).to_contain_text("dent")
