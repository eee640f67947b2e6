"""A package, so that the fixtures of its folders are not taken for ``tests/conftest.py``, from which others import."""
