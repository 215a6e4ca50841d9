"""Imports go down the floors only, third parties stay in their rooms, and ``import refimpl`` is light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import refimpl

ROOT = Path(refimpl.__file__).parent
CLONE = ROOT.parent

# Ground floor first; a room imports itself and what stands before it.
ROOMS = (
    *("errors", "arrays"),
    *("operators", "affinity", "spaces"),
    *("bounds", "objective", "combined", "rates", "lengths", "masks", "functions"),
    *("sets", "problem", "variances", "constants", "checks"),
    *("datasets", "zoo", "networks"),
    *("counting", "solvers", "draws"),
    *("exact", "moments", "measure", "curvature"),
    "approximate",
    *("algorithms", "training"),
    "cli",
)
UPWARD = {  # from, to: why a lazy import up the stairs is right there
    (
        "objective",
        "masks",
    ): "objective.with_dropout(…) is a shorthand for the decorator, which is an objective",
    ("problem", "measure"): "problem.check(lam, w) is a shorthand for a function of the fifth floor",
}
THIRD_PARTIES = {  # who may import it, inside functions; NumPy alone is imported at the top of modules
    "scipy": {"arrays"},
    "flint": {"arrays", "exact"},
    "autograd": {"arrays", "functions", "checks", "networks"},
    "array_api_strict": {"arrays"},
    "cupy": {"arrays"},
    "jax": {"arrays"},
    "torch": {"arrays"},
    "sklearn": {"datasets"},
}
HEAVY = (
    *THIRD_PARTIES,
    "array_api_compat",
    "matplotlib",
    "hypothesis",
    "jinja2",
    "rich",
    "pytest",
    "mpmath",
)


@dataclass(frozen=True)
class Import:
    """One import of one module: where it stands, what it names, and whether it waits for a call."""

    path: Path
    line: int
    target: str
    lazy: bool

    @property
    def room(self) -> str:
        return self.path.relative_to(ROOT).with_suffix("").parts[0]

    def __str__(self) -> str:
        return f"{self.path.relative_to(CLONE)}:{self.line} imports {self.target}"


def _imports(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    waiting = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative imports hide the floor"
            module = str(node.module)
            names = [f"refimpl.{a.name}" for a in node.names] if module == "refimpl" else [module]
        else:
            continue
        for name in names:
            yield Import(path, node.lineno, name, id(node) in waiting)


EVERY = [i for path in sorted(ROOT.rglob("*.py")) for i in _imports(path)]
INTERNAL = [i for i in EVERY if i.target.startswith("refimpl.")]


def _target_room(found: Import) -> str:
    return found.target.split(".")[1]


def test_every_room_has_a_floor():
    rooms = {
        p.stem if p.suffix else p.name
        for p in ROOT.iterdir()
        if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    assert rooms - {"__init__"} == set(ROOMS)


def test_imports_go_down_only():
    wrong = [
        str(i)
        for i in INTERNAL
        if i.room != "__init__"
        and ROOMS.index(_target_room(i)) > ROOMS.index(i.room)
        and not (i.lazy and (i.room, _target_room(i)) in UPWARD)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_stairs_up_are_used():
    """An exception that no import needs any more is one too many."""
    used = {(i.room, _target_room(i)) for i in INTERNAL if i.lazy}
    assert set(UPWARD) <= used


def test_third_parties_stay_in_their_rooms():
    standard = sys.stdlib_module_names
    for i in EVERY:
        top = i.target.split(".")[0]
        if top in ("refimpl", "numpy") or top in standard:
            continue
        assert top in THIRD_PARTIES, str(i)
        assert i.lazy, f"{i} at the top: `import refimpl` would wait for it"
        assert i.room in THIRD_PARTIES[top], str(i)


def test_tests_and_verification_are_not_imported():
    assert not [str(i) for i in EVERY if i.target.split(".")[0] in ("tests", "verification", "benchmarks")]


def test_import_refimpl_loads_nothing_else():
    """A room, and what it needs, is loaded by whoever asks for it; then NumPy alone of the third parties."""
    program = (
        "import sys, refimpl\n"
        f"def loaded(): return sorted({{m for m in sys.modules if m.split('.')[0] in {(*HEAVY, 'numpy')!r}"
        " or m.startswith('refimpl.')})\n"
        "print(loaded())\n"
        "[getattr(refimpl, name) for name in refimpl.__all__]\n"
        "print(sorted({m.split('.')[0] for m in loaded()}))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["[]", "['numpy', 'refimpl']"]


def test_gpu_tests_need_neither_scipy_autograd_nor_flint():
    """A GPU machine may have NumPy, CuPy and pytest only; here the same tests run on the strict backend."""
    tests = CLONE / "tests"
    files = [p for p in sorted(tests.glob("test_*.py")) if "everywhere" in p.read_text(encoding="utf-8")]
    files.remove(Path(__file__))  # it names the word, above
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "tests.bare",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    ]
    ran = subprocess.run([*command, *map(str, files)], cwd=CLONE, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]
    assert int(re.findall(r"(\d+) passed", ran.stdout)[-1]) > 200


def test_the_blocker_blocks():
    program = (
        "import tests.bare as b; b.pytest_configure(); import refimpl; refimpl.arrays.backend('rational')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=CLONE, capture_output=True, text=True, check=False
    )
    assert "python-flint is not installed" in ran.stderr


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(CLONE)))
def test_modules_have_a_ceiling(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


# -- what must not be committed ----------------------------------------------------------------------------
def _committed() -> list[Path]:
    if (CLONE / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=CLONE,
            capture_output=True,
            text=True,
            check=True,
        )
        return [p for name in listed.stdout.splitlines() if (p := CLONE / name).is_file()]
    return [p for p in CLONE.rglob("*") if p.is_file() and ".venv" not in p.parts]


def test_no_file_names_a_machines_own_paths():
    """Home and working directories of whoever wrote it: they exist nowhere else."""
    homes = "|".join(("home", "root", "Users", "work"))
    pattern = re.compile(rf"(?<![\w.:~/-])/(?:{homes})/[\w.]|[A-Z]:\\Users|/tmp/[a-z]{{1,3}}/")
    found = []
    for path in _committed():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(CLONE)}:{number}: {line.strip()[:80]}"
            for number, line in enumerate(text.splitlines(), 1)
            if pattern.search(line)
        ]
    assert not found, "\n".join(found)
