from collections.abc import Iterator
from typing import Any

import pytest

from tests.isolation.database import opened
from tests.isolation.stage import Stage


@pytest.fixture(scope="module")
def stage(postgres: Any) -> Iterator[Stage]:
    with opened(postgres) as stage:
        yield stage
