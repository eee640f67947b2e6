"""Does the service that answers after the rollout have the version that was released?"""

from deploy_guard import Release, post_check
from deploy_guard.probes.service import Service
from deploy_guard.session.fixtures import EvidenceLog


@post_check("critical")
def test_the_service_reports_the_release(service: Service, release: Release, evidence: EvidenceLog) -> None:
    """What answers is the new version, not the old one or somebody else's."""
    version = service.version()
    evidence.record("served version", version)
    assert version == release.version
