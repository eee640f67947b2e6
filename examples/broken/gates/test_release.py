from deploy_guard import Release, gate, post_check
from deploy_guard.probes.service import Service


@gate("critical")
def test_the_old_release_is_healthy(service: Service) -> None:
    """A rollout over a service that is down already would hide the cause."""
    assert service.get("/health").json()["status"] == "ok"


@post_check("critical")
def test_the_service_reports_the_release(service: Service, release: Release) -> None:
    """What answers is the new version."""
    assert service.version() == release.version
