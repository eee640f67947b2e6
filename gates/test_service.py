"""Is the service well before the rollout, and does it have the released version after it?"""

import pytest

from deploy_guard import Release, gate, post_check
from deploy_guard.config import EnvironmentConfig
from deploy_guard.probes.service import Service
from deploy_guard.session.fixtures import EvidenceLog

NOT_CONFIGURED = "not configured"


@gate("recoverable")
def test_the_service_is_healthy_before(
    service: Service, deploy_config: EnvironmentConfig, evidence: EvidenceLog
) -> None:
    """What runs now is healthy, so that a failure after the rollout is the release's own."""
    if deploy_config.health_url is None:
        evidence.record("health before", NOT_CONFIGURED)
        return
    answer = service.get(deploy_config.health_url)
    evidence.record("health before", f"status {answer.status_code}")
    evidence.record("answered in", round(1000 * answer.elapsed.total_seconds()), "ms")


@gate("warn")
def test_the_certificate_lasts(service: Service, deploy_config: EnvironmentConfig, evidence: EvidenceLog) -> None:
    """The certificate of the service is valid for some time to come."""
    if not service.has_tls:
        evidence.record("certificate", "not asked over https" if service.is_known else "no service URL is known")
        return
    limits = deploy_config.certificate_days
    certificate = service.certificate
    evidence.record("certificate", f"{certificate.subject}, from {certificate.issuer}")
    evidence.record("certificate expires", f"{certificate.not_after:%Y-%m-%d %H:%M} UTC")
    evidence.threshold(
        "certificate", certificate.days_left, warn=limits.warn, fail=limits.fail, unit="days", worse="below"
    )


@post_check("critical")
def test_the_service_reports_the_release(service: Service, release: Release, evidence: EvidenceLog) -> None:
    """Every address behind the service's name answers with the new version, several times over."""
    problems = []
    for address, found in service.versions().items():
        if not found:
            evidence.record(f"version at {address}", "not asked: this machine has no route to it")
            continue
        said = ", ".join(dict.fromkeys(found))
        evidence.record(f"version at {address}", f"{said} ({len(found)} samples)")
        if set(found) != {release.version}:
            problems.append(f"{address} serves {said}, not {release.version}")
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
