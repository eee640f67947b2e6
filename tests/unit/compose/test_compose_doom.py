"""When a container is well, when it is waited for, and when the rollout is doomed."""

from __future__ import annotations

from typing import Any

from deploy_guard.drivers.compose.doom import Expected, Judge, Look
from deploy_guard.drivers.compose.state import Container


def container(
    status: str = "running",
    *,
    health: str = "",
    restarts: int = 0,
    code: int = 0,
    started: str = "2026-01-01T00:00:00.123456789Z",
    policy: str = "no",
    ports: bool = False,
    streak: int = 3,
    service: str = "web",
    **state: Any,
) -> Container:
    log = [{"ExitCode": 1, "Output": "first\nrefused\n"}] if health else []
    return Container(
        {
            "Id": "c" * 64,
            "Name": f"/shop-{service}-1",
            "Image": "sha256:1",
            "RestartCount": restarts,
            "State": {
                "Status": status,
                "ExitCode": code,
                "StartedAt": started,
                **({"Health": {"Status": health, "FailingStreak": streak, "Log": log}} if health else {}),
                **state,
            },
            "Config": {
                "Image": "shop:1",
                "Labels": {"com.docker.compose.service": service},
                **({"Healthcheck": {"Test": ["CMD", "true"]}} if health else {}),
            },
            "HostConfig": {
                "RestartPolicy": {"Name": policy},
                "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "80"}]} if ports else {},
            },
        }
    )


def judge(**words: Any) -> Judge:
    return Judge(Expected({"web": 1}, dwell=5.0, **words))


def text(look: Look) -> str:
    return "; ".join([*(f"DOOMED {finding.text}" for finding in look.doomed), *look.waiting])


def test_what_has_no_healthcheck_must_run_for_the_dwell() -> None:
    one = judge()
    assert text(one.look([container()], at=100.0, now=0)) == "web: runs for 0 of 5 s"
    assert text(one.look([container()], at=104.9, now=0)) == "web: runs for 5 of 5 s"
    assert one.look([container()], at=105.0, now=0).healthy


def test_what_has_run_for_long_by_the_engine_s_clock_is_not_waited_for() -> None:
    started = 1767225600
    assert not judge().look([container()], at=100.0, now=started + 5).healthy, "a clock of whole seconds is not sure"
    assert judge().look([container()], at=100.0, now=started + 7).healthy


def test_a_healthcheck_alone_decides_where_there_is_one() -> None:
    one = judge()
    assert text(one.look([container(health="starting")], at=900.0, now=10**10)) == "web: health: starting"
    assert one.look([container(health="healthy")], at=900.1, now=0).healthy
    doomed = text(one.look([container(health="unhealthy")], at=901.0, now=0))
    assert doomed == "DOOMED is unhealthy: 3 checks failed in a row, the last with exit code 1: refused"


def test_unhealthy_without_a_failed_check_is_a_crash_and_not_a_verdict() -> None:
    look = judge().look([container("restarting", health="unhealthy", streak=0, code=5)], at=1.0, now=0)
    assert text(look) == "web: crashed with exit code 5, is started again"


def test_a_crash_starts_the_dwell_anew_and_doubles_it() -> None:
    one = judge()
    one.look([container(policy="always")], at=0.0, now=0)
    again = container(policy="always", restarts=1, started="2026-01-01T00:00:04.0Z")
    assert text(one.look([again], at=4.0, now=0)) == "web: runs for 0 of 10 s"
    assert not one.look([again], at=13.9, now=0).healthy
    assert one.look([again], at=14.0, now=0).healthy


def test_a_crash_loop_is_doomed_once_it_outlasts_the_dwell() -> None:
    one = judge()
    looks = [
        (0.2, 1, "restarting"),
        (1.0, 2, "restarting"),
        (3.0, 3, "running"),
        (5.1, 4, "restarting"),
        (5.3, 4, "restarting"),
    ]
    said = [text(one.look([container(s, policy="always", restarts=r, code=3)], at=at, now=0)) for at, r, s in looks]
    assert not any(line.startswith("DOOMED") for line in said[:4])
    assert said[-1] == "DOOMED crashes again and again: 5 times, the last time with exit code 3"


def test_what_crashed_twice_and_then_runs_is_waited_for() -> None:
    one = judge()
    for at, count in ((0.0, 0), (0.5, 1), (1.0, 2)):
        one.look([container(policy="always", restarts=count, started=f"{count}")], at=at, now=0)
    steady = container(policy="always", restarts=2, started="2")
    assert not one.look([steady], at=9.0, now=0).doomed
    assert one.look([steady], at=11.0, now=0).healthy


def test_restarts_from_before_the_rollout_don_t_count() -> None:
    one = Judge(Expected({"web": 1}, dwell=5.0), restarts={"c" * 64: 7})
    one.look([container(policy="always", restarts=7)], at=0.0, now=0)
    assert one.look([container(policy="always", restarts=7)], at=5.0, now=0).healthy
    started_by_hand = container(policy="always", restarts=0, started="later")
    assert text(one.look([started_by_hand], at=6.0, now=0)) == "web: runs for 0 of 5 s"


def test_a_task_may_end_and_a_server_may_not() -> None:
    assert judge().look([container("exited")], at=0.0, now=0).healthy
    server = judge().look([container("exited", ports=True)], at=0.0, now=0)
    assert text(server) == "DOOMED ended with exit code 0, though it publishes a port and so is no task that ends"
    assert judge(completed={"web"}).look([container("exited", ports=True)], at=0.0, now=0).healthy
    assert text(judge().look([container("exited", policy="always")], at=0.0, now=0)) == "DOOMED was stopped"


def test_another_exit_code_says_why() -> None:
    assert text(judge().look([container("exited", code=137, OOMKilled=True)], at=0.0, now=0)) == (
        "DOOMED ended with exit code 137, out of memory"
    )
    said = text(judge().look([container("exited", code=127, Error="no such file")], at=0.0, now=0))
    assert said == "DOOMED ended with exit code 127 (no such file)"


def test_missing_containers_are_doomed_only_when_all_are_made() -> None:
    one = Judge(Expected({"web": 2}))
    assert text(one.look([container()], at=0.0, now=10**10, complete=False)) == "web: not made yet"
    assert text(one.look([container()], at=0.0, now=10**10)) == "DOOMED web: 1 of 2 containers is gone"


def test_containers_that_are_replaced_and_others_are_not_judged() -> None:
    old = container("exited", code=143)
    assert judge().look([old], at=0.0, now=0, but={old.id}).healthy
    assert Judge(Expected({})).look([old], at=0.0, now=0).healthy


def test_what_was_not_well_before_need_not_be_well_afterwards() -> None:
    sick = container(health="unhealthy")
    assert judge(tolerated={sick.id}).look([sick], at=0.0, now=0).healthy


def test_created_paused_and_vanishing_containers_are_waited_for() -> None:
    assert text(judge().look([container("created")], at=0.0, now=0)) == "web: not started yet"
    assert text(judge().look([container("paused")], at=0.0, now=0)) == "web: paused"
    assert text(judge().look([container("removing")], at=0.0, now=0)) == "web: is being removed"
