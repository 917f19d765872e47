import pytest


@pytest.fixture
def model(tmp_path, tiny):
    return tiny.write_scores_model(tmp_path / "model.onnx", labels=("fine", "dented", "scratched"))
