"""Nothing ships unless every gate demonstrably passed: each way to a rollout by accident, in a real pytest process."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from conftest import Project


@dataclass(frozen=True)
class Accident:
    """One way: what is written into the project, how pytest is started, which exit code is right."""

    files: dict[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ("gates",)
    env: dict[str, str] = field(default_factory=dict)
    code: tuple[int, ...] = (1, 2)


def gate(body: str, *, head: str = "") -> Accident:
    """A second gate with this text."""
    return Accident({"gates/test_second.py": f"import os, pytest\nfrom deploy_guard import gate\n{head}\n{body}\n"})


TWO = "def test_a(): pass\ndef test_b(): pass\n"
CASES: dict[str, Accident] = {
    "a gate that fails": gate("def test_x(): assert 0"),
    "a gate whose setup fails": gate("@pytest.fixture\ndef f(): raise OSError\ndef test_x(f): pass"),
    "a gate whose teardown fails": gate("@pytest.fixture\ndef f():\n yield\n raise OSError\ndef test_x(f): pass"),
    "a skipped gate": gate("@pytest.mark.skip\ndef test_x(): pass"),
    "a gate that skips itself": gate("def test_x(): pytest.skip('no')"),
    "a skipif gate": gate("@pytest.mark.skipif(True, reason='x')\ndef test_x(): pass"),
    "an xfail gate": gate("@pytest.mark.xfail\ndef test_x(): assert 0"),
    "an xpass gate": gate("@pytest.mark.xfail\ndef test_x(): pass"),
    "an imperative xfail": gate("def test_x(): pytest.xfail('x')"),
    "an empty parameter set": gate("@pytest.mark.parametrize('n', [])\ndef test_x(n): pass"),
    "one parameter of two that fails": gate("@pytest.mark.parametrize('n', [1, 2])\ndef test_x(n): assert n == 1"),
    "a module-level skip": gate("pytest.skip('all', allow_module_level=True)"),
    "importorskip of a missing module": gate("pytest.importorskip('nonesuch_module')\ndef test_x(): pass"),
    "a module that can't be imported": gate("import nonesuch_module"),
    "a module with a syntax error": gate("def test_x(:"),
    "a module-level skip behind continue-on-collection-errors": Accident(
        gate("import nonesuch_module").files, ("gates", "--continue-on-collection-errors")
    ),
    "pytest.exit with code 0": gate("def test_x(): pytest.exit('bye', returncode=0)"),
    "pytest.exit while collecting": gate("pytest.exit('bye', returncode=0)"),
    "Ctrl-C in a gate": gate("def test_x(): raise KeyboardInterrupt"),
    "a SystemExit with 0": gate("import sys\ndef test_x(): sys.exit(0)"),
    "a signal that the gate swallows": gate(
        "import signal, time\ndef test_x():\n try:\n  os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)\n except BaseException: pass"
    ),
    "a session timeout": Accident(
        {"gates/test_second.py": "import time\ndef test_c(): time.sleep(0.5)\n" + TWO},
        ("gates", "--session-timeout=0.2"),
    ),
    "a gate that runs past its timeout": gate("import time\n@gate(timeout=0.3)\ndef test_x(): time.sleep(9)"),
    "a gate that swallows its timeout": gate(
        "import time\n@gate(timeout=0.3)\ndef test_x():\n try: time.sleep(9)\n except BaseException: pass"
    ),
    "collect-only": Accident(args=("gates", "--collect-only")),
    "setup-only": Accident(args=("gates", "--setup-only")),
    "setup-plan": Accident(args=("gates", "--setup-plan")),
    "fixtures": Accident(args=("gates", "--fixtures")),
    "fixtures-per-test": Accident(args=("gates", "--fixtures-per-test")),
    "markers": Accident(args=("gates", "--markers")),
    "-k": Accident({"gates/test_second.py": TWO}, ("gates", "-k", "test_a")),
    "-m": Accident({"gates/test_second.py": TWO}, ("gates", "-m", "not gate")),
    "--deselect": Accident({"gates/test_second.py": TWO}, ("gates", "--deselect=gates/test_second.py::test_b")),
    "--ignore": Accident({"gates/test_second.py": TWO}, ("gates", "--ignore=gates/test_second.py")),
    "--ignore-glob": Accident({"gates/test_second.py": TWO}, ("gates", "--ignore-glob=*second*")),
    "--noconftest": Accident(args=("gates", "--noconftest")),
    "--stepwise": Accident(args=("gates", "--stepwise")),
    "--lf": Accident(args=("gates", "--lf")),
    "-x after a failure": Accident({"gates/test_a.py": "def test_x(): assert 0"}, ("gates", "-x")),
    "one file": Accident({"gates/test_second.py": TWO}, ("gates/test_first.py",)),
    "one node id": Accident({"gates/test_first.py": TWO}, ("gates/test_first.py::test_a",)),
    "a folder inside the gate root": Accident({"gates/sub/test_sub.py": TWO}, ("gates/sub",)),
    "python_files that misses a gate": Accident(
        {"gates/test_second.py": TWO}, ("gates", "-o", "python_files=test_first.py")
    ),
    "python_functions that misses a gate": Accident(args=("gates", "-o", "python_functions=check_*")),
    "python_classes that misses a gate": Accident(args=("gates", "-o", "python_classes=Check*")),
    "norecursedirs that misses a folder": Accident(
        {"gates/sub/test_sub.py": TWO}, ("gates", "-o", "norecursedirs=sub")
    ),
    "a folder that pytest leaves out by itself": Accident({"gates/build/test_sub.py": TWO}),
    "collect_ignore in a conftest": Accident(
        {"gates/sub/conftest.py": "collect_ignore = ['test_sub.py']", "gates/sub/test_sub.py": TWO}
    ),
    "a conftest that edits items": Accident(
        {
            "gates/sub/conftest.py": "def pytest_collection_modifyitems(items): del items[:1]",
            "gates/sub/test_sub.py": TWO,
        }
    ),
    "a conftest that turns failures into passes": Accident(
        {
            "gates/sub/conftest.py": "import pytest\n@pytest.hookimpl(wrapper=True)\ndef pytest_runtest_makereport():\n"
            " r = yield\n r.outcome = 'passed'\n return r\n",
            "gates/sub/test_sub.py": "def test_x(): assert 0",
        }
    ),
    "a conftest that runs no test": Accident(
        {
            "gates/sub/conftest.py": "import pytest\n@pytest.hookimpl(tryfirst=True)\n"
            "def pytest_runtest_protocol(item): return True\n",
            "gates/sub/test_sub.py": TWO,
        }
    ),
    "a plugin that asks pytest to stop": Accident(
        {
            "gates/sub/conftest.py": "def pytest_runtest_logfinish(nodeid): pass\n"
            "import pytest\n@pytest.fixture(autouse=True)\ndef stop(request):\n request.session.shouldstop = 'enough'\n",
            "gates/sub/test_sub.py": TWO,
        }
    ),
    "an internal error of a plugin": Accident(
        {
            "gates/sub/conftest.py": "def pytest_runtest_setup(item): pass\n"
            "def pytest_runtest_logreport(report):\n if report.when == 'call': raise ValueError('plugin')\n",
            "gates/sub/test_sub.py": TWO,
        }
    ),
    "two items with one node id": Accident(
        {
            "conftest.py": "import copy\ndef pytest_collection_modifyitems(items):\n"
            " items.extend([copy.copy(i) for i in items if i.name == 'test_passes'])\n",
        },
    ),
    "a fork inside a gate that returns twice": gate("def test_x():\n if os.fork() == 0: return\n os.wait()"),
    "pytest.main inside a gate": gate(
        "def test_x():\n assert pytest.main(['--deploy-env=stage', '--deploy-reports=r2', 'gates/test_first.py']) == 0"
    ),
    "a release run as a child of a gate": gate(
        "import subprocess, sys\ndef test_x():\n"
        " subprocess.run([sys.executable, '-m', 'pytest', '--deploy-env=stage', '--deploy-reports=r2', 'gates'], check=True)"
    ),
    "os._exit(0) in a gate": gate("def test_x(): os._exit(0)"),
    "os._exit(0) in a fixture": gate("@pytest.fixture\ndef f(): os._exit(0)\ndef test_x(f): pass"),
    "os._exit(0) in a module": gate("os._exit(0)"),
    "os._exit(0) in a conftest": Accident(
        {"gates/sub/conftest.py": "import os; os._exit(0)", "gates/sub/test_s.py": TWO}
    ),
    "os._exit(0) in the first conftest": Accident({"conftest.py": "import os; os._exit(0)"}),
    "SIGKILL in a gate": gate("import signal\ndef test_x(): os.kill(os.getpid(), signal.SIGKILL)"),
    "a crash in a gate": gate("import ctypes\ndef test_x(): ctypes.string_at(0)"),
    "a gate that hangs where no signal is seen": gate(
        "import signal, time\n@gate(timeout=0.5)\ndef test_x():\n"
        " signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32)); time.sleep(60)"
    ),
    "a flaky pass by rerun": Accident(
        {"gates/test_second.py": "N = []\ndef test_x():\n N.append(1)\n assert len(N) > 1\n"}, ("gates", "--reruns=2")
    ),
    "--dist=each": Accident(args=("gates", "--dist=each", "--tx=2*popen"), code=(4,)),
    "--looponfail": Accident(args=("gates", "--looponfail"), code=(4,)),
    "-p no:deploy_guard": Accident(args=("gates", "-p", "no:deploy_guard"), code=(4,)),
    "-p no:timeout": Accident(args=("gates", "-p", "no:timeout"), code=(4,)),
    "-p no:junitxml": Accident(args=("gates", "-p", "no:junitxml"), code=(4,)),
    "PYTHONOPTIMIZE with plain asserts": Accident(env={"PYTHONOPTIMIZE": "1"}, code=(4,)),
    "PYTEST_ADDOPTS with -k": Accident({"gates/test_second.py": TWO}, env={"PYTEST_ADDOPTS": "-k test_a"}),
    "PYTEST_ADDOPTS with --collect-only": Accident(env={"PYTEST_ADDOPTS": "--collect-only"}),
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": Accident(env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, code=(4,)),
    "a unit-test configuration that deselects": Accident(
        {
            "pytest.ini": "[pytest]\naddopts = -m 'not slow'\nmarkers = slow\n",
            "gates/test_second.py": "import pytest\n@pytest.mark.slow\ndef test_x(): pass\n",
        },
    ),
    "a unit-test configuration with other file names": Accident(
        {"pytest.ini": "[pytest]\npython_files = check_*.py test_first.py\n", "gates/test_second.py": TWO}
    ),
    "no gate at all": Accident({"gates/test_first.py": ""}),
    "only gates for another environment": Accident(
        {"gates/test_first.py": "from deploy_guard import gate\n@gate(env='prod')\ndef test_x(): pass\n"}, code=(2,)
    ),
    "only post-checks": Accident(
        {"gates/test_first.py": "from deploy_guard import post_check\n@post_check()\ndef test_x(): pass\n"}, code=(2,)
    ),
    "a deselected post-check": Accident(
        {"gates/test_second.py": "from deploy_guard import post_check\n@post_check()\ndef test_x(): pass\n"},
        ("gates", "-k", "passes"),
    ),
    "a warn gate that was deselected": Accident(
        {"gates/test_second.py": "from deploy_guard import gate\n@gate('warn')\ndef test_x(): pass\n"},
        ("gates", "-k", "passes"),
        code=(1,),
    ),
    "an unknown severity": gate("@gate('fatal')\ndef test_x(): pass"),
    "an unknown environment in a mark": gate("@gate(env='moon')\ndef test_x(): pass"),
    "two marks at one level": gate("@gate('warn')\n@gate('critical')\ndef test_x(): pass"),
    "a unittest gate that fails": gate(
        "import unittest\nclass TestX(unittest.TestCase):\n def test_x(self): self.assertEqual(1, 2)"
    ),
    "a unittest gate with a skip": gate(
        "import unittest\nclass TestX(unittest.TestCase):\n @unittest.skip('x')\n def test_x(self): pass"
    ),
    "a unittest expected failure": gate(
        "import unittest\nclass TestX(unittest.TestCase):\n @unittest.expectedFailure\n def test_x(self): assert 0"
    ),
    "a failing subtest of unittest": gate(
        "import unittest\nclass TestX(unittest.TestCase):\n def test_x(self):\n  with self.subTest(n=1): assert 0"
    ),
    "an async gate that nobody runs": gate("async def test_x(): assert 0"),
    "a gate that returns False": gate("def test_x(): return False"),
    "a gate that yields": gate("def test_x(): yield 1"),
    "a failing doctest": Accident(
        {"gates/test_second.py": '"""\n>>> 1 + 1\n3\n"""\ndef test_x(): pass\n'}, ("gates", "--doctest-modules")
    ),
    "a wrong command line path": Accident(args=("gates", "nonesuch"), code=(4,)),
    "an unknown environment": Accident(args=("gates", "--deploy-env=moon"), code=(4,)),
    "a broken configuration": Accident({"deploy-guard.toml": "name = 1\nnonsense = 2\n"}, code=(4,)),
    "no gate folder": Accident({"deploy-guard.toml": 'gates = ["nonesuch"]\n'}, code=(4,)),
    "a second gate root that is not named": Accident(
        {"deploy-guard.toml": 'gates = ["gates", "more"]\n', "more/test_more.py": "def test_x(): assert 0\n"}
    ),
    "a class that pytest leaves out for its __init__": gate(
        "def test_a(): pass\nclass TestX:\n def __init__(self): pass\n def test_x(self): assert 0"
    ),
    "a gate with a name that pytest does not collect": gate(
        "def test_a(): pass\n@gate()\ndef disk_has_room(): assert 0"
    ),
    "a post-check with a name that pytest does not collect": gate(
        "from deploy_guard import post_check\ndef test_a(): pass\n@post_check()\ndef answers(): assert 0"
    ),
    "-p no:unittest": Accident(
        gate("import unittest\ndef test_a(): pass\nclass X(unittest.TestCase):\n def test_x(self): assert 0").files,
        ("gates", "-p", "no:unittest"),
    ),
    "a test that a conftest keeps from being collected": Accident(
        {
            "gates/sub/conftest.py": "def pytest_pycollect_makeitem(name): return [] if name == 'test_b' else None",
            "gates/sub/test_sub.py": TWO,
        }
    ),
    "--confcutdir": Accident(
        {"conftest.py": "import pytest\n@pytest.fixture(autouse=True)\ndef f(): assert 0\n"},
        ("gates", "--confcutdir=gates"),
    ),
    "an imperative xfail behind --runxfail": Accident(
        gate("def test_x(): pytest.xfail('x')").files, ("gates", "--runxfail")
    ),
    "a gate that a conftest adds after the collection": Accident(
        {
            "gates/sub/conftest.py": "import pytest\ndef late(): assert 0\ndef pytest_collection_finish(session):\n"
            " session.items.insert(0, pytest.Function.from_parent(session.items[0].parent, name='late', callobj=late))\n",
            "gates/sub/test_sub.py": TWO,
        }
    ),
    "a gate that unregisters the session that decides": gate(
        "def test_x(request):\n request.config.pluginmanager.unregister(name='deploy_guard_session')\n assert 0"
    ),
    "a fixture that fails when the session is torn down": gate(
        "@pytest.fixture(scope='session')\ndef f():\n yield\n raise OSError('late')\n"
        "def test_x(f): pass\ndef test_z(): assert 0"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_ships_after(name: str, project: Project) -> None:
    accident = CASES[name]
    for path, text in accident.files.items():
        project.write(path, text)
    result = project.run(*accident.args, more=accident.env)
    assert not project.applied, result.out
    assert project.target is None
    assert result.code in accident.code, result.out
    if result.code != 4:
        assert result.verdict["exit_code"] == result.code
        assert result.outcome in ("withheld", "interrupted")
        assert result.verdict["reasons"]


def test_the_same_project_ships_when_nothing_goes_wrong(project: Project) -> None:
    """The control of the table above: what it holds back is not held back by the harness."""
    result = project.run("gates")
    assert (result.code, result.outcome, project.target) == (0, "shipped", "v1.0.0"), result.out


DISTRIBUTED = [
    "a gate that fails",
    "a skipped gate",
    "an xfail gate",
    "a module-level skip",
    "a module that can't be imported",
    "pytest.exit with code 0",
    "-k",
    "--ignore",
    "one file",
    "a conftest that edits items",
    "a fork inside a gate that returns twice",
    "os._exit(0) in a gate",
    "SIGKILL in a gate",
    "a flaky pass by rerun",
    "an unknown severity",
    "--collect-only",
    "a gate that runs past its timeout",
    "a class that pytest leaves out for its __init__",
    "a gate that a conftest adds after the collection",
]


@pytest.mark.parametrize("name", [name for name in DISTRIBUTED if name in CASES])
def test_nothing_ships_from_workers_after(name: str, project: Project) -> None:
    accident = CASES[name]
    for path, text in accident.files.items():
        project.write(path, text)
    result = project.run(*accident.args, "-n", "2", more=accident.env)
    assert not project.applied, result.out
    assert result.code in (1, 2), result.out


def test_nothing_ships_when_a_worker_ran_a_test_that_the_controller_does_not_know(project: Project) -> None:
    project.write(
        "gates/test_second.py",
        "import os\nif 'PYTEST_XDIST_WORKER' in os.environ:\n def test_x(): assert 0\ndef test_y(): pass\n",
    )
    result = project.run("gates", "-n", "2")
    assert not project.applied, result.out
    assert (result.code, result.outcome, result.codes) == (2, "withheld", ["unknown-test"]), result.out


@pytest.mark.parametrize("distribution", ["load", "loadscope", "loadfile", "loadgroup", "worksteal"])
def test_every_way_to_distribute_gates_ships_what_is_good(distribution: str, project: Project) -> None:
    project.write(
        "gates/test_x.py",
        "import pytest\n@pytest.mark.xdist_group('db')\ndef test_a(): pass\n"
        "@pytest.mark.xdist_group('db')\n@pytest.mark.parametrize('n', ['a@b', 2])\ndef test_n(n): pass\n",
    )
    result = project.run("gates", "-n", "2", "--dist", distribution)
    assert (result.code, result.outcome) == (0, "shipped"), result.out


@pytest.mark.parametrize("severity", ["critical", "warn"])
def test_a_swallowed_timeout_counts_from_the_timer_not_from_the_phases(severity: str, project: Project) -> None:
    """The gate's phases are made to look quick, as they can be by the parts of a millisecond between them."""
    with (project.root / "gates/conftest.py").open("a") as file:
        file.write(
            "\n@pytest.hookimpl(trylast=True)\ndef pytest_runtest_makereport(item, call):\n    call.duration = 0.0\n"
        )
    project.write(
        "gates/test_x.py",
        f"import time\nfrom deploy_guard import gate\n@gate({severity!r}, timeout=0.3)\ndef test_x():\n"
        "    try: time.sleep(9)\n    except BaseException: pass\n",
    )
    result = project.run("gates")
    if severity == "warn":
        assert (result.code, result.gate("test_x")["outcome"]) == (0, "warned"), result.out
    else:
        assert (result.code, result.gate("test_x")["outcome"]) == (2, "timed-out"), result.out
        assert not project.applied
    assert "did not end when it was told to" in result.gate("test_x")["message"]
