import json
import urllib.request

import pytest

from deploy_guard import rollback
from deploy_guard.probes.service import Service


@pytest.fixture
def version_before(service: Service) -> str:
    """What serves before the rollout; saved with the snapshot."""
    with urllib.request.urlopen(service.url("/version"), timeout=5) as answer:
        return str(json.load(answer)["version"])


@rollback(saves=["version_before"])
def tell_the_team(version_before: str) -> None:
    print(f"going back to {version_before}")
