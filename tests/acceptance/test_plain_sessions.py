"""Installed, but not asked: an ordinary pytest session must not notice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project

IMPORTS = """
import sys
import pytest
code = pytest.main(sys.argv[1:])
wanted = {"requests", "psutil", "git", "msgspec", "tenacity"}
print("imported:", sorted(wanted & set(sys.modules)))
print("ours:", sorted(name for name in sys.modules if name.startswith("deploy_guard")))
sys.exit(code)
"""


def test_no_third_party_module_is_imported_because_of_the_plugin(tmp_path: Path, project: Project) -> None:
    (tmp_path / "deploy-guard.toml").unlink()
    project.write("test_unit.py", "def test_u(): pass\n")
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, "-q", "test_unit.py"],
        cwd=tmp_path,
        env=project.environ(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "imported: []" in done.stdout
    assert "ours: ['deploy_guard', 'deploy_guard.plugin']" in done.stdout


def test_without_a_configuration_nothing_is_hidden(project: Project) -> None:
    (project.root / "deploy-guard.toml").unlink()
    result = project.run(env=None)
    assert result.code == 0, result.out
    assert "1 passed" in result.out
    assert not project.applied


def test_with_a_configuration_the_gates_are_left_out_and_it_says_so_in_one_line(project: Project) -> None:
    project.write("tests/test_unit.py", "def test_u(): pass\n")
    result = project.run(env=None)
    assert result.code == 0, result.out
    assert "1 passed" in result.out
    assert "deploy-guard: gates/ not collected: gates run with --deploy-env=ENV" in result.out


def test_gate_roots_of_every_service_in_a_monorepo_are_left_out(project: Project) -> None:
    project.write("services/shop/pyproject.toml", "[tool.deploy-guard]\ngates = ['ci/gates']\n")
    project.write("services/shop/ci/gates/test_g.py", "def test_g(): assert 0\n")
    project.write("services/shop/tests/test_unit.py", "def test_u(): pass\n")
    project.write("services/other/gates/test_unit2.py", "def test_u(): pass\n")
    result = project.run(env=None)
    assert result.code == 0, result.out
    assert "2 passed" in result.out


@pytest.mark.parametrize("arg", ["gates", "gates/test_first.py", "gates/test_first.py::test_passes"])
def test_naming_a_gate_root_is_a_usage_error_that_says_what_is_missing(project: Project, arg: str) -> None:
    result = project.run(arg, env=None)
    assert result.code == 4
    assert "add --deploy-env=ENV" in result.out


@pytest.mark.parametrize("option", ["--deploy-version=v1", "--no-deploy", "--deploy-plan", "--deploy-reports=x"])
def test_options_that_need_an_environment_say_so(project: Project, option: str) -> None:
    result = project.run(option, env=None)
    assert result.code == 4
    assert f"{option.partition('=')[0]} needs --deploy-env" in result.out


def test_the_options_stand_in_a_help_group_of_their_own(project: Project) -> None:
    out = project.run("--help", env=None).out
    group = out[out.index("deployment gates (deploy-guard):") :]
    for option in (
        "--deploy-env=ENV",
        "--deploy-version=vX.Y.Z",
        "--no-deploy",
        "--deploy-plan",
        "--deploy-reports=DIR",
    ):
        assert option in group
    assert "--deploy-run" not in out
    assert project.run("--help").code == 0


def test_the_marks_are_known_to_strict_sessions(project: Project) -> None:
    (project.root / "deploy-guard.toml").unlink()
    assert project.run("--strict-markers", env=None).code == 0
    assert "@pytest.mark.gate(severity='critical'" in project.run("--markers", env=None).out


def test_fixtures_of_other_plugins_are_not_shadowed(project: Project) -> None:
    (project.root / "deploy-guard.toml").unlink()
    project.write("conftest.py", "import pytest\n@pytest.fixture\ndef service(): return 'mine'\n")
    project.write("tests/test_unit.py", "def test_u(service): assert service == 'mine'\ndef test_m(machine): pass\n")
    result = project.run("tests", env=None)
    assert "fixture 'machine' not found" in result.out
    assert "1 passed, 1 error" in result.out


def test_a_run_inside_another_projects_test_process_is_refused(project: Project) -> None:
    project.write(
        "tests/test_unit.py",
        "import pytest\ndef test_u(): assert pytest.main(['--deploy-env=stage', 'gates']) == 4\n",
    )
    result = project.run("tests", "-s", env=None)
    assert result.code == 0, result.out
    assert "inside a test or gate" in result.out
    assert not project.applied


def test_an_empty_folder_runs_the_packaged_usage_errors(tmp_path: Path) -> None:
    empty = Project(tmp_path)
    result = empty.run()
    assert result.code == 2, result.out
    assert "no gate was collected" in result.out


def test_under_a_debugger_the_session_runs_in_the_process_itself(project: Project) -> None:
    result = project.run("gates", "--pdb")
    assert (result.code, result.outcome, project.target) == (0, "shipped", "v1.0.0"), result.out
    assert 'testsuite name="shop.stage"' in (result.folder / "junit.xml").read_text()
    assert "SHIPPED" in (result.folder / "gate-report.html").read_text()


def test_marks_work_on_functions_classes_modules_and_parameters(project: Project) -> None:
    project.write(
        "gates/test_marks.py",
        """
        import pytest
        from deploy_guard import gate, post_check
        pytestmark = gate("recoverable")
        def test_module(): pass
        @gate("warn")
        class TestBase:
            def test_class(self): pass
            @gate("critical", timeout=7)
            def test_method(self): pass
        @pytest.mark.gate("critical")
        class TestDerived(TestBase):
            pass
        @gate("warn")
        @pytest.mark.parametrize("n", [1, pytest.param(2, marks=gate("critical")), pytest.param(3, marks=post_check())])
        def test_param(n): pass
        @post_check("warn")
        def test_after(): pass
        """,
    )
    result = project.run("gates")
    assert result.code == 0, result.out
    found = {g["id"].partition("::")[2]: (g["severity"], g["phase"]) for g in result.verdict["gates"]}
    assert found == {
        "test_passes": ("critical", "gate"),
        "test_module": ("recoverable", "gate"),
        "TestBase::test_class": ("warn", "gate"),
        "TestBase::test_method": ("critical", "gate"),
        "TestDerived::test_class": ("critical", "gate"),
        "TestDerived::test_method": ("critical", "gate"),
        "test_param[1]": ("warn", "gate"),
        "test_param[2]": ("critical", "gate"),
        "test_param[3]": ("critical", "post-check"),
        "test_after": ("warn", "post-check"),
    }


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        ("gate('fatal')", "use critical, recoverable, warn"),
        ("post_check('recoverable')", "use critical, warn"),
        ("gate(env='moon')", "use dev, stage, prod"),
        ("gate(env=())", "use dev, stage, prod"),
        ("gate(timeout=-1)", "not a number of seconds"),
        ("pytest.mark.gate('warn', 'warn')", "more than one severity"),
        ("pytest.mark.gate(colour='red')", "does not know colour"),
    ],
)
def test_a_bad_mark_is_a_collection_error_that_names_the_test_and_the_valid_values(
    project: Project, mark: str, words: str
) -> None:
    project.write(
        "gates/test_bad.py", f"import pytest\nfrom deploy_guard import gate, post_check\n@{mark}\ndef test_b(): pass\n"
    )
    result = project.run("gates")
    assert result.code == 2, result.out
    assert "collection-error" in result.codes
    assert "gates/test_bad.py::test_b" in result.out
    assert words in result.out


def test_the_fixtures_give_what_their_names_say(project: Project) -> None:
    project.write(
        "deploy-guard.toml",
        "name = 'shop'\nservice-url = 'http://127.0.0.1:1/'\n[settings]\na = 1\n[env.stage.settings]\nb = 2\n",
    )
    (project.root / "proof.txt").write_text("proof")
    project.write(
        "gates/test_nouns.py",
        """
        import pytest
        def test_nouns(deploy_env, deploy_settings, release, machine, repo, service, secrets, evidence):
            assert (deploy_env, dict(deploy_settings)) == ("stage", {"a": 1, "b": 2})
            assert release.version == "v9.9.9"
            assert machine.memory().total
            assert repo.problem
            assert service.url("x") == "http://127.0.0.1:1/x"
            assert secrets["API_KEY"].reveal() == "canary-4711"
            assert evidence.attach("proof.txt").read_text() == "proof"
            assert evidence.attach("proof.txt").name == "proof-1.txt"
        def test_no_rollout_yet(request):
            with pytest.raises(pytest.fail.Exception, match="nothing is rolled out yet"):
                request.getfixturevalue("rollout")
        """,
    )
    result = project.run("gates", "--deploy-version=v9.9.9", API_KEY="canary-4711")
    assert (result.code, result.outcome, project.target) == (0, "shipped", "v9.9.9"), result.out
    assert (result.folder / "attachments/proof.txt").is_file()


def test_a_package_can_be_a_gate_root_and_is_run_without_being_named(project: Project) -> None:
    project.write("lib/acme_gates/__init__.py", "")
    project.write("lib/acme_gates/gates/__init__.py", "")
    project.write("lib/acme_gates/gates/test_acme.py", "def test_acme(): pass\n")
    project.write("deploy-guard.toml", "gates = ['gates', 'acme_gates.gates']\n")
    result = project.run("gates", PYTHONPATH=str(project.root / "lib"))
    assert result.code == 0, result.out
    assert result.gate("test_acme")["outcome"] == "passed"
    project.write("lib/acme_gates/gates/test_acme.py", "def test_acme(): assert 0\n")
    assert project.run("gates", PYTHONPATH=str(project.root / "lib")).code == 2
    assert project.run(PYTHONPATH=str(project.root / "lib")).code == 2


def test_a_driver_registered_by_a_package_is_found_and_a_broken_one_is_told(project: Project) -> None:
    conftest = (project.root / "gates/conftest.py").read_text()
    project.write(
        "lib/acme_driver.py",
        conftest.replace("HERE = pathlib.Path(__file__).resolve().parent.parent", "HERE = pathlib.Path.cwd()").replace(
            "    def __init__(self):",
            "    import msgspec\n    class Config(msgspec.Struct):\n        level: int\n\n    def __init__(self, config, context):\n        assert (config.level, context.env) == (3, 'stage')",
        ),
    )
    project.write("lib/acme-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    project.write(
        "lib/acme-1.dist-info/entry_points.txt",
        "[deploy_guard.drivers]\nacme = acme_driver:FileDriver\nbroken = acme_nonesuch:X\n",
    )
    (project.root / "gates/conftest.py").unlink()
    project.write("deploy-guard.toml", "[env.stage]\ndriver = 'acme'\n[env.stage.acme]\nlevel = 3\n")
    result = project.run("gates", PYTHONPATH=str(project.root / "lib"))
    assert (result.code, result.outcome, project.target) == (0, "shipped", "v1.0.0"), result.out
    project.write("deploy-guard.toml", "[env.stage]\ndriver = 'broken'\n")
    result = project.run("gates", PYTHONPATH=str(project.root / "lib"))
    assert (result.code, result.outcome) == (2, "withheld"), result.out
    assert "of the package acme can't be loaded" in result.out


def test_a_unit_test_configuration_with_warnings_as_errors_does_not_break_the_rollout(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\nfilterwarnings = error\ntimeout = 0.2\naddopts = -x -q --strict-markers\n")
    conftest = (project.root / "gates/conftest.py").read_text()
    project.write(
        "gates/conftest.py",
        conftest.replace(
            '        self._step("wait")',
            "        import warnings; warnings.warn('old'); time.sleep(0.4); self._step('wait')",
        ),
    )
    result = project.run("gates")
    assert (result.code, result.outcome, project.target) == (0, "shipped", "v1.0.0"), result.out


def test_two_configurations_on_one_command_line_are_refused(project: Project) -> None:
    project.write("other/deploy-guard.toml", "")
    project.write("other/gates/test_o.py", "def test_o(): pass\n")
    result = project.run("gates", "other/gates")
    assert result.code == 4
    assert "more than one configuration" in result.out


def test_a_service_in_a_monorepo_uses_its_own_configuration(project: Project) -> None:
    project.write("services/web/deploy-guard.toml", "name = 'web'\n")
    project.write("services/web/gates/test_w.py", "def test_w(): pass\n")
    project.write("services/web/gates/conftest.py", (project.root / "gates/conftest.py").read_text())
    result = project.run("services/web/gates")
    assert result.code == 0, result.out
    assert result.verdict["name"] == "web"
    assert (project.root / "services/web/target.json").exists()


def test_a_reports_folder_that_cannot_be_written_is_a_usage_error(project: Project) -> None:
    (project.root / "reports").write_text("a file")
    result = project.run("gates")
    assert result.code == 4
    assert "--deploy-reports" in result.out


def test_when_even_the_second_session_dies_the_driver_alone_goes_back(project: Project) -> None:
    (project.root / "app").mkdir()
    (project.root / "app/f").write_text("1")
    project.write(
        "deploy-guard.toml", "[env.stage]\ndriver = 'local'\n[env.stage.local]\nroot = 'dep'\nartifact = 'app'\n"
    )
    (project.root / "gates/conftest.py").unlink()
    assert project.run("gates").code == 0
    project.write(
        "gates/test_die.py",
        "import os, pathlib\nfrom deploy_guard import post_check\n"
        "if pathlib.Path('now').exists(): os._exit(0)\n"
        "@post_check()\ndef test_d():\n pathlib.Path('now').touch(); os._exit(0)\n",
    )
    (project.root / "app/f").write_text("2")
    result = project.run("gates", VERSION="v2.0.0")
    assert (result.code, result.outcome) == (2, "rolled-back"), result.out
    assert (project.root / "dep/current/f").read_text() == "1"
    assert (result.folder / "junit.xml").is_file()
    assert "ROLLED BACK" in (result.folder / "gate-report.html").read_text()
    assert "ROLLED BACK" in result.out


def test_a_record_that_cannot_be_read_withholds(project: Project) -> None:
    project.write(".deploy-guard/stage.unfinished.json", "{")
    result = project.run("gates")
    assert result.code == 2, result.out
    assert not project.applied
    assert "can't be read" in result.out
