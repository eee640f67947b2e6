"""The gate report: what stands on it, in which order, and what can't get into it."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
import samples

from deploy_guard.flow.model import (
    Evidence,
    GateOutcome,
    GateResult,
    Mode,
    Outcome,
    Phase,
    Reason,
    Severity,
    StepOutcome,
    StepResult,
    measure,
)
from deploy_guard.flow.record import Record
from deploy_guard.redact import Redactor
from deploy_guard.report import rows, sections
from deploy_guard.report.bars import bar
from deploy_guard.report.origin import Origin, ci_job, commands, origin_of
from deploy_guard.report.page import render, tone
from deploy_guard.report.text import LONGEST, Writer, cut, told, visible
from deploy_guard.report.transcript import Transcript

VOID = {"meta", "link", "input"}


class Page(HTMLParser):
    """Reads a page; fails on markup that is not balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.headings: list[int] = []
        self.text = ""
        self.tags: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice"
        values = dict(attrs)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if tag == "a":
            self.links.append(str(values["href"]))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data


def page(record: Record, transcript: Transcript | None = None, redactor: Redactor | None = None) -> str:
    write = Writer(redactor.redact if redactor else str)
    return render(record, transcript or Transcript(), samples.origin(), write)


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcomes_page_is_balanced_with_unique_ids_and_links_that_lead_somewhere(outcome: Outcome) -> None:
    read = Page(samples.page_of(outcome))
    assert len(read.ids) == len(set(read.ids))
    inside = {link[1:] for link in read.links if link.startswith("#")}
    assert inside <= set(read.ids)
    assert read.headings[0] == 1
    assert read.headings.count(1) == 1
    steps = zip(read.headings, read.headings[1:], strict=False)
    assert all(after <= before + 1 for before, after in steps), "no level of headings is left out"


@pytest.mark.parametrize("outcome", Outcome)
def test_the_decision_comes_first_and_in_the_records_words(outcome: Outcome) -> None:
    record = samples.record_of(outcome)
    text = Page(samples.page_of(outcome)).text
    badge, _, said = record.headline.partition(": ")
    places = [text.index(part) for part in (badge, said, record.next_step)]
    assert places == sorted(places)
    tables = [text.index(name) for name in ("Why", "Time", "Plan", "Steps", "Gates") if name in text]
    assert tables == sorted(tables)
    for reason in record.reasons[:1]:
        assert places[1] < text.index(reason.text) < tables[0], "its own words stand before any table"


def test_colours_follow_the_exit_code() -> None:
    shown = {outcome: tone(samples.record_of(outcome)) for outcome in Outcome}
    assert shown[Outcome.SHIPPED] == shown[Outcome.UNCHANGED] == "good"
    assert shown[Outcome.PLANNED] == "calm", "nothing was shipped"
    assert {shown[o] for o in (Outcome.WITHHELD, Outcome.ROLLED_BACK, Outcome.INCOMPLETE, Outcome.CHECKED)} == {"bad"}
    record = samples.record_of(Outcome.SHIPPED)
    record.reasons = [Reason("tag", Severity.RECOVERABLE, "the tag could not be pushed")]
    assert tone(record) == "warn", "shipped, and yet somebody has to act"


def test_reasons_are_listed_worst_first_and_lead_to_their_rows() -> None:
    text = samples.page_of(Outcome.WITHHELD)
    why = text[text.index('id="why"') : text.index('id="time"')]
    assert re.findall(r'<li class="(\w+)"><span class="sev">', why) == ["critical", "recoverable", "warn"]
    assert f'href="#{samples.DISK}"' in why
    assert f'id="{samples.DISK}"' in text


def test_many_reasons_are_a_click_away() -> None:
    text = page(samples.many(60, failed=60))
    assert "35 more reasons" in text
    assert Page(text).text.count("assert 1 == 2") >= 60


def test_no_text_becomes_markup_or_leaks() -> None:
    bad = "</pre><script>alert(1)</script><img src=x onerror=alert(1)> \" ' canary-4711 \x00\x1b[31m\u202e"
    record = samples.record_of(Outcome.ROLLED_BACK)
    record.name = record.env = record.version = record.commit = record.branch = record.previous = bad
    record.target = record.started = record.digest = record.run = record.recovered = bad
    record.notices = [bad]
    record.gates = [
        GateResult(bad, Severity.CRITICAL, phase, outcome, 1.0, bad, (measure(bad, 1, fail=2, unit=bad),), bad)
        for phase in Phase
        for outcome in GateOutcome
    ]
    record.steps = [StepResult(bad, StepOutcome.FAILED, 1.0, bad), StepResult(bad, StepOutcome.SKIPPED, 0.0, bad)]
    record.reasons = [Reason(bad, severity, bad, bad) for severity in Severity]
    record.changes = [{"action": bad, "object": bad, "diff": f"+{bad}\n-{bad}"}]
    transcript = Transcript()
    transcript.add(samples.report(bad, "failed", bad, [(bad, bad)]))
    origin = Origin(bad, bad, "https://x/" + bad, ((bad, bad),), (bad,), (bad,))
    text = render(record, transcript, origin, Writer(Redactor({"API_KEY": "canary-4711"}).redact))
    read = Page(text)
    assert read.tags.count("script") == 1
    assert "img" not in read.tags
    assert "canary-4711" not in text
    assert not {"\x00", "\x1b", "\u202e"} & set(text)
    assert "API_KEY redacted" in text


def test_the_only_script_that_may_run_is_the_pages_own() -> None:
    text = samples.page_of(Outcome.SHIPPED)
    script = text[text.index("<script>") + 8 : text.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text
    assert not re.search(r'(src|href)="(?!#|data:,"|https://jenkins|verdict|junit|audit)', text), (
        "it needs no other file"
    )


def test_what_cannot_be_seen_is_shown() -> None:
    assert visible("a\tb\nc") == "a\tb\nc"
    assert visible("\x00\x1b\x7f\x85\u202e\ud800") == "␀␛␡\\u0085\\u202e\\ud800"
    assert Writer(str).block("\x1b[31mred\x1b[0m\r\n<b>") == "red\n&lt;b&gt;", "colours of a terminal are not text"


def test_long_output_is_cut_in_the_middle_and_says_so() -> None:
    text = cut("a" * LONGEST + "b" * LONGEST)
    assert len(text) < LONGEST + 200
    assert text.startswith("a")
    assert text.endswith("b")
    assert "65,536 characters were cut out here" in text
    transcript = Transcript()
    for phase in range(4):
        transcript.add(samples.report("x", sections=[(f"Captured {phase}", "c" * LONGEST)]))
    output = transcript.of("x")
    assert output is not None
    assert output.size < LONGEST + 4 * 2048
    assert all("were cut out" in text for _, text in output.sections[1:])


def test_what_is_repeated_in_each_phase_is_kept_once() -> None:
    transcript = Transcript()
    transcript.add(samples.report("x@group", sections=[("Captured stdout setup", "one")]))
    transcript.add(samples.report("x", sections=[("Captured stdout setup", "one"), ("Captured stdout call", "two")]))
    transcript.add(samples.report("x", sections=[("Captured stdout call", "again")]))
    transcript.add(samples.report("y", "skipped", ("file", 1, "Skipped: why")))
    output = transcript.of("x")
    assert output is not None
    assert [text for _, text in output.sections] == ["one", "two", "again"]
    assert transcript.of("y") is None


def test_a_page_that_would_grow_too_large_keeps_the_failures_output() -> None:
    record = samples.many(60, failed=2)
    transcript = Transcript()
    for gate in record.gates:
        transcript.add(samples.report(gate.id, sections=[("Captured stdout call", gate.id + " " * LONGEST)]))
    text = page(record, transcript)
    assert len(text) < 1.5 * rows.BUDGET
    assert text.count("Its output is left out") > 20
    assert "left out" not in text[text.index("2 did not pass") : text.index("58 passed")]


def test_rows_come_failed_by_severity_first_then_warned_then_the_rest() -> None:
    record = samples.record_of(Outcome.WITHHELD)
    record.gates.append(
        GateResult("gates/test_z.py::test_late", Severity.CRITICAL, Phase.GATE, GateOutcome.TIMED_OUT, 30.0, "too late")
    )
    text = page(record)
    found = re.findall(r'<li id="[^"]*" data-o="([a-z-]+)">', text[text.index('id="gates"') :])
    assert found[:4] == ["failed", "timed-out", "skipped", "warned"], "critical ones before recoverable ones"
    assert found[-2:] == ["not-applicable"] * 2
    assert found[-4:-2] == ["not-run"] * 2, "post-checks that had no turn are no findings"


def test_filters_count_every_row() -> None:
    text = samples.page_of(Outcome.WITHHELD)
    buttons = dict(re.findall(r'data-show="([a-z-]*)" aria-pressed="\w+">[^<]*<b>(\d+)</b>', text))
    assert buttons == {
        "": "25",
        "failed": "1",
        "skipped": "1",
        "not-run": "2",
        "warned": "1",
        "passed": "18",
        "not-applicable": "2",
    }
    assert "not for prod <b>2</b>" in text
    assert '<div class="tools" hidden>' in text, "without its script a page shows no buttons that do nothing"


def test_failures_and_warnings_stand_open_and_what_passed_is_collapsed() -> None:
    text = samples.page_of(Outcome.WITHHELD)
    groups = re.findall(r'class="group[^"]*"( open)?><summary><h3>\d+ ([^<]*)<', text)
    assert {name: bool(is_open) for is_open, name in groups} == {
        "did not pass": True,
        "warned": True,
        "passed": False,
        "not reached": False,
        "not for prod": False,
    }


def test_ids_are_the_same_in_each_run_and_fit_for_a_link() -> None:
    write = Writer(str)
    assert write.anchor("gates/test_a.py::test_x") == "gates/test_a.py::test_x"
    assert write.anchor("test_x[a b/\u00e9]") == "test_x-a-b/-"
    assert write.anchor("test_x[a-b/!]") == "test_x-a-b/--2"


def styles(drawn: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"--(\w):(-?[\d.]+)%", drawn)}


def test_bars_are_drawn_to_scale_with_what_they_say_in_words() -> None:
    above = bar(measure("disk", 63, warn=75, fail=85, unit="%"))
    assert styles(above) == {"a": 75, "b": 85, "v": 63}
    assert 'aria-label="within its limits"' in above
    below = bar(measure("days", 10, warn=21, fail=7, worse="below"))
    found = styles(below)
    assert found["a"] / found["b"] == pytest.approx(7 / 21, abs=0.01)
    assert found["v"] / found["b"] == pytest.approx(10 / 21, abs=0.01)
    assert "past its warn limit" in below
    small = styles(bar(measure("5xx", 2.4, warn=0.2, fail=0.5, unit="%")))
    assert small["v"] > 80, "small percentages are not lost at the left end"
    one = styles(bar(measure("x", 5, fail=10)))
    assert one["a"] == one["b"], "without a warn limit there is no zone of warnings"
    negative = styles(bar(measure("dBm", -90, warn=-70, fail=-80, worse="below")))
    assert 0 < negative["v"] < negative["a"] < negative["b"] < 100


@pytest.mark.parametrize(
    ("entry", "drawn"),
    [
        (measure("x", 50, warn=75, fail=85, unit="%"), True),
        (measure("x", 5, fail=1), True),
        (measure("x", 5, warn=9), True),
        (measure("x", 0, fail=0), True),
        (measure("x", float("inf"), fail=1), False),
        (Evidence("x", "text"), False),
        (measure("x", None, fail=1), False),
        (measure("x", 1), False),
    ],
)
def test_bars_are_drawn_for_values_with_limits(entry: Evidence, drawn: bool) -> None:
    assert ('class="bar' in bar(entry)) == drawn


def test_the_timeline_is_to_scale_and_marks_what_took_longest() -> None:
    record = samples.record_of(Outcome.ROLLED_BACK)
    found = sections.spans(record, {})
    assert [span.name for span in found] == [
        *("gates", "plan", "snapshot", "apply", "wait", "post-checks"),
        *("restore_feature_flags", "rollback", "verify"),
    ]
    text = samples.page_of(Outcome.ROLLED_BACK)
    drawn = [(float(a), float(b)) for a, b in re.findall(r'<i style="left:([\d.]+)%;width:([\d.]+)%">', text)]
    total = sum(span.seconds for span in found)
    for span, (left, width) in zip(found, drawn, strict=True):
        assert width == pytest.approx(100 * span.seconds / total, abs=0.01), span.name
        before = sum(other.seconds for other in found[: found.index(span)])
        assert left == pytest.approx(100 * before / total, abs=0.02), span.name
    assert text.count('<span class="tag">longest</span>') == 1
    assert re.search(r'longest"><span class="n"><a href="#rollout::wait">wait</a>', text)


def test_gates_that_ran_side_by_side_take_the_time_that_passed() -> None:
    record = samples.many(100)
    assert sections.spans(record, {})[0].seconds == record.gates_seconds == 3.1
    record.gates_seconds = 0.0
    assert sections.spans(record, {})[0].seconds == pytest.approx(1.2)


def test_steps_that_did_not_run_say_why() -> None:
    text = Page(samples.page_of(Outcome.WITHHELD)).text
    assert "Not run: plan, snapshot, apply, wait (withheld: test_disk_has_room)" in text
    assert "Steps" not in text
    record = Record("r", "shop", "prod", Mode.DEPLOY, steps=[StepResult("plan", StepOutcome.SKIPPED, 0.0, "no")])
    assert "Not run: plan (no)" in Page(page(record)).text


def test_release_notes_are_shown_as_text_and_only_where_there_are_any() -> None:
    html = page(samples.record_of(Outcome.SHIPPED))
    assert "&lt;b&gt;Basket&lt;/b&gt; keeps its items" in html
    assert 'id="notes"' not in page(replace(samples.record_of(Outcome.SHIPPED), notes=""))


def test_the_plan_shows_what_was_restored() -> None:
    back, failed = samples.page_of(Outcome.ROLLED_BACK), samples.page_of(Outcome.ROLLBACK_FAILED)
    assert back.count(">restored</span>") == 2
    assert back.count(">removed again</span>") == 1, "what was created"
    assert "restored</span>" not in failed
    assert '<span class="del">-  image: registry.example/shop:1.4.1\n</span>' in back
    assert '<span class="add">+  image: registry.example/shop:1.4.2\n</span>' in back
    record = samples.record_of(Outcome.PLANNED)
    record.changes = [{"action": "change", "object": f"o{n}", "diff": "+a\n" * 30} for n in range(30)]
    text = page(record)
    assert "5 more changes" in text
    assert '<details open><summary><span class="act' not in text, "a long diff is a click away"


def test_a_step_that_failed_says_all_it_said() -> None:
    text = Page(samples.page_of(Outcome.ROLLBACK_FAILED)).text
    assert text.count("next: kubectl -n shop rollout undo deployment/web") >= 2


def test_durations_are_read_at_a_glance() -> None:
    assert [rows.seconds(s) for s in (0.0124, 1.25, 599.94, 754)] == ["12 ms", "1.2 s", "599.9 s", "12 min 34 s"]


def test_the_ci_job_and_who_started_it_are_known() -> None:
    jenkins = {
        "BUILD_URL": "https://ci/job/shop/812/",
        "JOB_NAME": "shop",
        "BUILD_NUMBER": "812",
        "BUILD_USER_ID": "dana",
    }
    assert ci_job(jenkins) == ("dana", "Jenkins shop #812", "https://ci/job/shop/812/")
    assert ci_job({"BUILD_URL": "javascript:alert(1)", "BUILD_TAG": "jenkins-shop-8"}) == (
        "",
        "Jenkins jenkins-shop-8",
        "",
    )
    github = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_REPOSITORY": "acme/shop",
        "GITHUB_RUN_ID": "77",
        "GITHUB_WORKFLOW": "release",
        "GITHUB_RUN_NUMBER": "5",
        "GITHUB_ACTOR": "dana",
    }
    assert ci_job(github) == (
        "dana",
        "GitHub Actions release #5",
        "https://github.com/acme/shop/actions/runs/77",
    )
    gitlab = {
        "GITLAB_CI": "true",
        "CI_JOB_URL": "https://gitlab/acme/-/jobs/9",
        "CI_JOB_NAME": "deploy",
        "CI_JOB_ID": "9",
        "GITLAB_USER_LOGIN": "dana",
    }
    assert ci_job(gitlab) == ("dana", "GitLab deploy #9", "https://gitlab/acme/-/jobs/9")
    assert ci_job({}) == ("", "", "")


def test_a_run_by_hand_is_somebodys_on_some_machine(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SimpleNamespace(required_variables=("SERVICE_URL", "VERSION"), secret_groups=(("API_KEY", "TOKEN"),))
    run: Any = SimpleNamespace(arguments=("gates",), config=config, folder=tmp_path)
    (tmp_path / "junit.xml").touch()
    monkeypatch.setattr("getpass.getuser", lambda: "dana")
    monkeypatch.setattr("socket.gethostname", lambda: "build7")
    origin = origin_of(run, samples.record_of(Outcome.SHIPPED), {})
    assert (origin.who, origin.needs, origin.files) == (
        "dana@build7",
        ("SERVICE_URL", "API_KEY or TOKEN"),
        ("junit.xml",),
    )

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert origin_of(run, samples.record_of(Outcome.SHIPPED), {}).who == "unknown user@build7"


def test_what_is_not_known_is_left_out() -> None:
    text = Page(render(samples.record_of(Outcome.INCOMPLETE), Transcript(), Origin(), Writer(str))).text
    assert "INCOMPLETE" in text
    assert not re.search("run by|Reproduce|It needs", text)
    assert "No gate was collected." in text


def test_the_command_to_run_again_is_whole() -> None:
    record = samples.record_of(Outcome.SHIPPED)
    same, gates = commands(("--deploy-env=prod", "gates/test a.py"), record)
    assert same[1] == "git checkout 3f9c2e1b7d5a\nVERSION=v1.4.2 pytest --deploy-env=prod 'gates/test a.py'"
    assert gates[1] == f"{same[1]} --no-deploy"
    only = commands(("--deploy-version=v1",), replace(record, mode=Mode.PLAN, commit=None))
    assert [command for _, command in only] == ["pytest --deploy-version=v1"]


DOOM = "\n".join(
    [
        "Deployment/web: pod web-7d9f, container app: CrashLoopBackOff (exit code 1)",
        "events:",
        *(f"  Warning BackOff back-off {n} restarting failed container" for n in range(6)),
        "last 25 lines of the log:",
        *(f"  {n:02} ERROR </pre><script>alert(1)</script>" for n in range(25)),
        "  next: kubectl -n shop logs web-7d9f --previous",
    ]
)


def test_a_long_text_is_taken_apart_into_its_point_the_rest_and_what_to_do_next() -> None:
    found = told(DOOM)
    assert found.first == DOOM.splitlines()[0]
    assert (found.count, found.rest.splitlines()[0]) == ("33 more lines", "events:")
    assert found.following == "kubectl -n shop logs web-7d9f --previous"
    assert found.brief == f"{found.first}\n… 33 more lines\nnext: {found.following}"
    short = "one\ntwo\n  next: three"
    assert (told(short).first, told(short).brief) == (short, short)
    wide = told("x" * 5000)
    assert (len(wide.first), wide.rest, wide.following) == (602, "x" * 5000, "")
    assert told("").brief == ""


def test_of_a_long_failure_the_first_line_stands_under_why_and_the_rest_is_folded() -> None:
    record = samples.record_of(Outcome.ROLLED_BACK)
    record.reasons = [Reason("wait-failed", Severity.CRITICAL, DOOM, "rollout::wait")]
    record.steps = [StepResult("wait", StepOutcome.FAILED, 21.4, DOOM)]
    transcript = Transcript()
    transcript.add(samples.report("rollout::wait", "failed", DOOM))
    text = page(record, transcript)
    Page(text)
    decision, why = text[text.index('id="decision"') : text.index('id="why"')], text[text.index('id="why"') :]
    why, steps = why[: why.index('id="time"')], why[why.index('id="steps"') :]
    assert "CrashLoopBackOff (exit code 1) …" in decision
    assert "BackOff back-off" not in decision
    assert '<p class="said">Deployment/web: pod web-7d9f, container app: CrashLoopBackOff (exit code 1)</p>' in why
    assert '<details class="out"><summary>More <small>33 lines</small></summary>' in why
    assert '<p class="said">next: kubectl -n shop logs web-7d9f --previous</p>' in why
    assert '<details class="out" open><summary>More <small>33 lines</small></summary>' in steps
    assert steps.count("24 ERROR") == 1, "the failure's text is not shown twice"
    assert "<script>alert" not in text


def test_one_line_is_one_line() -> None:
    record = samples.record_of(Outcome.PLANNED)
    record.notes = "one"
    record.changes = [{"action": "change", "object": "ConfigMap/shop", "diff": "+x"}]
    record.changes += [{"action": "none", "object": "Service/web", "diff": ""}]
    text = Page(page(record)).text
    assert "1 lines" not in text
    assert "1 objects" not in text
    assert "1 object unchanged" in text
    assert text.count("1 line") == 2


def test_objects_that_stay_as_they_are_are_counted() -> None:
    record = samples.record_of(Outcome.PLANNED)
    record.changes = [{"action": "none", "object": f"ConfigMap/same-{n}", "diff": ""} for n in range(1500)]
    record.changes += [{"action": "change", "object": "ConfigMap/other", "diff": "+x"}]
    text = page(record)
    assert "1,500 objects unchanged" in text
    assert "same-" not in text
    assert len(text) < len(samples.page_of(Outcome.PLANNED)) + 500


def test_a_page_with_many_long_diffs_can_still_be_opened() -> None:
    record = samples.record_of(Outcome.PLANNED)
    record.changes = [{"action": "change", "object": f"ConfigMap/{n}", "diff": "+x\n" * 5000} for n in range(50)]
    text = page(record)
    assert "ConfigMap/49" in text
    assert text.count("its diff is left out") > 10
    assert len(text) < 2 * rows.BUDGET


def test_notes_beyond_the_first_are_a_click_away() -> None:
    record = samples.record_of(Outcome.SHIPPED)
    record.notices = [f"left behind: ConfigMap/old-{n}" for n in range(5)]
    text = page(record)
    Page(text)
    assert "<summary>1 more note</summary>" in text
    assert "old-4" in text
