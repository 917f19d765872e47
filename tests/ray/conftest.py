from tests.archives.conftest import model, photos  # noqa: F401  (fixtures)
