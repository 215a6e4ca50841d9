"""The ledger judges claims whose verdicts are known, the same way for any seed, jobs or interruption."""

import doctest
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from flint import fmpq
from hypothesis import strategies as st

from refimpl.errors import BadInput
from verification import hunt as hunting
from verification import ledger, model, record, runner
from verification.__main__ import main
from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement
from verification.verdict import judge

ROOT = Path(__file__).resolve().parent.parent
HERE = "tests.test_ledger"
EPS = np.finfo(float).eps
SMALL = Budget(quick=40, full=80)
unit = st.fixed_dictionaries({"x": st.floats(0, 1)})


def get_x(params):
    return params["x"]


def square(p, cross=2):
    a, b = fmpq(*p["a"]), fmpq(*p["b"])
    return model.identity((a + b) ** 2, a**2 + cross * a * b + b**2)


def rotation(p):
    c, s = np.cos(p["angle"]), np.sin(p["angle"])
    return p["q"] * np.array([[c, -s], [s, c]])


def inverse(A, bound=lambda q: 1 / (1 - q)):
    q, size = np.linalg.norm(A, 2), np.linalg.norm(np.linalg.inv(np.eye(2) - A), 2)
    return Measurement(observed=size, bound=bound(q), rounding=20 * EPS * (1 + q) * size**2)


def shrunk(A):
    norm = float(np.linalg.norm(A, 2))
    return norm < 1, norm


def reversed_sum(p, drop=0):
    x = np.random.default_rng(p["seed"]).standard_normal(p["n"])
    forward, backward = float(np.cumsum(x)[-1]), float(np.cumsum(x[::-1])[-1 - drop])
    return Measurement(
        observed=abs(forward - backward),
        bound=0.0,
        rounding=2 * p["n"] * EPS * float(np.abs(x).sum()),  # n-1 additions, each within eps of a partial sum
        detail={"scale": float(np.abs(x).sum())},
    )


def triangular(p, shift=1):
    n = p["n"]
    return model.identity(sum(range(1, n + 1)), Fraction(n * (n + shift), 2))


def contraction(p, power=0):
    """w_t of w <- q w + 1 from w_0 = 0: its distance to the fixed point is exactly q^t / (1 - q)."""
    q, t = p["q"], p["t"]
    w = 0.0
    for _ in range(t):
        w = q * w + 1
    limit = 1 / (1 - q)
    return Measurement(observed=abs(w - limit), bound=q ** (t + power) * limit, rounding=10 * EPS * limit**2)


def contraction_curve(p):
    steps = range(1, 21)
    seen = [contraction({**p, "t": t}) for t in steps]
    lines = {"predicted": [m.bound for m in seen], "measured": [m.observed for m in seen]}
    return {"x": list(steps), **lines, "xlabel": "steps t", "ylabel": "distance to w", "logy": True}


def sleepy(p):
    time.sleep(0.008)
    return Measurement(observed=p["x"], bound=1.0)


def overflow(x):
    return Measurement(observed=float(np.exp(np.float64(1e4 * (x + 1)))), bound=1.0)


def fixture(name, **fields):
    common = {
        "title": name.replace("-", " "),
        "source": "made for the tests",
        "statement": "x \\le 1",
        "strategy": unit,
        "build": get_x,
        "measure": lambda x: Measurement(observed=x, bound=1.0),
        "grade": "exact",
        "controls": (
            Control("halved", kind="formula", measure=lambda x: Measurement(observed=x, bound=0.5)),
        ),
        "budget": SMALL,
    }
    return Claim(id=name if "/" in name else f"fixture/{name}", **{**common, **fields})


SLOW = tuple(
    fixture(
        f"slow/claim-{i}",
        build=dict,
        measure=sleepy,
        controls=(
            Control(
                "never", kind="formula", params={"x": 0.5}, measure=lambda _: Measurement(observed=1, bound=0)
            ),
        ),
    )
    for i in range(9)  # enough that a run is still going when it is interrupted, however busy the machine
)

CLAIMS = (
    fixture(
        "binomial",
        title="The square of a sum",
        statement=r"(a+b)^2 = a^2 + 2ab + b^2",
        strategy=None,
        explicit=[{"a": [i, 3], "b": [j, 7]} for i, j in itertools.product(range(3), repeat=2)],
        build=dict,
        measure=square,
        grade="proved",
        complete="Both sides have degree 2 in $a$ and in $b$, and they agree on a $3 \\times 3$ grid.",
        controls=(Control("$ab$ for $2ab$", kind="formula", measure=lambda p: square(p, cross=1)),),
    ),
    fixture(
        "inverse",
        title="$I - A$ has a bounded inverse when $A$ contracts",
        statement=r"\|A\| \le q < 1 \;\Rightarrow\; \|(I-A)^{-1}\| \le \frac{1}{1-q}",
        hypotheses=(Hypothesis("contraction", r"\|A\| < 1", shrunk),),
        strategy=st.fixed_dictionaries({"q": st.floats(0, 1.1), "angle": st.floats(0, 3)}),
        build=rotation,
        measure=inverse,
        controls=(
            Control("a norm above one", params={"q": 1.5, "angle": 0.0}),
            Control(
                "some norm above one",
                strategy=st.fixed_dictionaries({"q": st.floats(1.1, 2), "angle": st.just(0)}),
            ),
            Control("$1+q$ for $1-q$", kind="formula", measure=lambda A: inverse(A, lambda q: 1 / (1 + q))),
        ),
        equality=Equality(params={"q": 0.5, "angle": 0.0}, reaches=0.999),
    ),
    fixture(
        "reversed-sum",
        title="A sum does not depend on its order",
        statement=r"\sum_{i=1}^n x_i = \sum_{i=1}^n x_{n+1-i}",
        strategy=st.fixed_dictionaries({"n": st.integers(2, 60), "seed": st.integers(0, 999)}),
        build=dict,
        measure=reversed_sum,
        controls=(Control("one term dropped", kind="formula", measure=lambda p: reversed_sum(p, drop=1)),),
    ),
    fixture(
        "erratum-3@printed",
        title="The sum of the first $n$ numbers",
        statement=r"\sum_{i=1}^n i = \frac{n(n-1)}{2}",
        printed=r"1 + \dots + n = n(n-1)/2",
        strategy=st.fixed_dictionaries({"n": st.integers(0, 50)}),
        build=dict,
        measure=lambda p: triangular(p, shift=-1),
        corrected=Correction(
            tex=r"\sum_{i=1}^n i = \frac{n(n+1)}{2}",
            measure=triangular,
            proof="Add the sum to its reverse: $n$ pairs, each $n+1$.",
        ),
        grade="proved",
        controls=(),
        notes="The printed form is the sum of the first $n-1$ numbers.",
    ),
    fixture(
        "rate",
        title="A contraction converges linearly",
        statement=r"|w_t - w| \le \frac{q^t}{1-q}",
        strategy=st.fixed_dictionaries({"q": st.floats(0.1, 0.9), "t": st.integers(0, 40)}),
        build=dict,
        measure=contraction,
        controls=(Control("$q^{t+1}$ for $q^t$", kind="formula", measure=lambda p: contraction(p, power=1)),),
        equality=Equality(params={"q": 0.5, "t": 3}, reaches=0.99),
        curve=contraction_curve,
    ),
    fixture(
        "loose",
        measure=lambda x: Measurement(observed=x, bound=1e6),
        controls=(
            Control("constant a tenth", kind="formula", measure=lambda x: Measurement(observed=x, bound=1e5)),
        ),
        loose="the constant is a million times too large and no dropped factor of ten is felt",
    ),
    fixture(
        "vacuous",
        controls=(Control("doubled", kind="formula", measure=lambda x: Measurement(observed=x, bound=2.0)),),
    ),
    fixture("empty", hypotheses=(Hypothesis("impossible", "x > 2", lambda x: (x > 2, x)),)),
    fixture("crash", measure=overflow),
    fixture("false", measure=lambda x: Measurement(observed=x, bound=0.25)),
    fixture("dear", budget=Budget(quick=None, full=30)),
    *SLOW,
)


EXPECTED = {
    "fixture/binomial": ("holds", "degree 2"),
    "fixture/inverse": ("not refuted", ""),
    "fixture/reversed-sum": ("not refuted", ""),
    "fixture/erratum-3@printed": ("refuted", ""),
    "fixture/rate": ("not refuted", ""),
    "fixture/loose": ("loose", "million"),
    "fixture/vacuous": ("vacuous", "control 'doubled': not refuted by 40 instances"),
    "fixture/empty": ("undecided", "no valid instance"),
    "fixture/crash": ("undecided", "error: RuntimeWarning while measuring"),
    "fixture/false": ("undecided", "no corrected statement"),
    "fixture/dear": ("undecided", "no full result"),
}
BY_ID = {claim.id: claim for claim in CLAIMS}
INVERSE, ERRATUM, LOOSE = (BY_ID[f"fixture/{name}"] for name in ("inverse", "erratum-3@printed", "loose"))


def verdict_of(claim, seed=0):
    judged = judge(claim, budget=40, seed=seed)
    return judged.verdict, judged.reason


def cli(*words, **options):
    command = [sys.executable, "-m", "verification", "--claims-from", HERE, *map(str, words)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, **options
    )


def here(capsys, *words):
    """The same command in this process: exit code and output."""
    code = main(["--claims-from", HERE, "--jobs", "1", *map(str, words)])
    return code, capsys.readouterr().out


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """The fixture document's ledger, run once in two processes."""
    out = tmp_path_factory.mktemp("ledger")
    done = cli("--document", "fixture", "--jobs", 2, "--out", out)
    assert done.returncode == 1, done.stderr  # nothing is recorded yet
    assert not done.stderr
    return out, done.stdout


@pytest.mark.parametrize("claim_id", EXPECTED)
def test_every_verdict_of_the_vocabulary(fresh, claim_id):
    claims = {claim["id"]: claim for claim in json.loads((fresh[0] / "ledger.json").read_text())["claims"]}
    verdict, reason = EXPECTED[claim_id]
    assert set(claims) == set(EXPECTED)
    assert claims[claim_id]["verdict"] == verdict
    assert reason in claims[claim_id]["reason"]
    assert {verdict for verdict, _ in EXPECTED.values()} == set(model.VERDICTS)


def test_the_example_of_the_documentation_runs_and_is_not_refuted():
    names = {}
    example = doctest.DocTestFinder().find(model, globs=names)[0]
    assert doctest.DocTestRunner().run(example, clear_globs=False).failed == 0
    (claim,) = example.globs["CLAIMS"]
    assert verdict_of(claim) == ("not refuted", "")


halved = Control("halved", kind="formula", measure=lambda x: Measurement(observed=x, bound=0.5))
inside = Control("an instance inside", params={"q": 0.5, "angle": 0.0})
flaky = itertools.count()


@pytest.mark.parametrize(
    ("claim", "verdict", "reason"),
    [
        pytest.param(fixture("a", controls=()), "vacuous", "no control mutates", id="no control"),
        pytest.param(
            replace(INVERSE, controls=INVERSE.controls[2:]),
            "vacuous",
            "no control breaks",
            id="no hypothesis control",
        ),
        pytest.param(
            replace(INVERSE, controls=(inside, *INVERSE.controls[1:])),
            "vacuous",
            "breaks no hypothesis",
            id="hypothesis control inside",
        ),
        pytest.param(
            replace(
                INVERSE, measure=lambda A: Measurement(observed=min(inverse(A).observed, 2.0), bound=3.0)
            ),
            "vacuous",
            "the equality case reaches 0.667",
            id="equality not reached",
        ),
        pytest.param(
            fixture("a", measure=lambda x: Measurement(observed=x / 2, bound=1e-20, rounding=1.0)),
            "vacuous",
            "rises above its rounding",
            id="rounding alone",
        ),
        pytest.param(
            replace(LOOSE, measure=lambda x: Measurement(observed=x, bound=50.0)),
            "vacuous",
            "a tenth",
            id="not loose",
        ),
        pytest.param(replace(LOOSE, loose=None), "vacuous", "a tenth", id="loose without a reason"),
        pytest.param(fixture("a", grade="proved"), "undecided", "needs exact numbers", id="proved by floats"),
        pytest.param(
            fixture("a", measure=lambda x: Measurement(observed=x + next(flaky), bound=1e9)),
            "undecided",
            "not a function of its parameters",
            id="another result each time",
        ),
        pytest.param(fixture("a", measure=lambda x: x), "undecided", "not a Measurement", id="wrong type"),
        pytest.param(
            fixture("a", controls=(halved, Control("b", kind="formula", measure=overflow))),
            "undecided",
            "control 'b': RuntimeWarning",
            id="crashing control",
        ),
        pytest.param(
            fixture("a", strategy=st.fixed_dictionaries({"x": st.just(Fraction(1))})),
            "undecided",
            "not JSON-able",
            id="parameters",
        ),
        pytest.param(
            fixture("a", curve=lambda x: {"x": [1], "predicted": [1, 2], "measured": [1]}),
            "undecided",
            "differ in length",
            id="curve",
        ),
        pytest.param(
            replace(ERRATUM, corrected=replace(ERRATUM.corrected, measure=ERRATUM.measure)),
            "undecided",
            "fails on the same counterexample",
            id="correction that corrects nothing",
        ),
        pytest.param(
            replace(
                ERRATUM,
                corrected=replace(ERRATUM.corrected, measure=lambda p: triangular(p, 3 - 2 * (p["n"] < 2))),
            ),
            "undecided",
            'violated at {"n": 2}',
            id="correction that fails elsewhere",
        ),
        pytest.param(
            replace(ERRATUM, controls=(Control("idle", kind="formula", measure=triangular),)),
            "undecided",
            "do not fail: idle",
            id="refuted with an idle control",
        ),
    ],
)
def test_what_weakens_a_verdict(claim, verdict, reason):
    found = verdict_of(claim)
    assert found[0] == verdict, found
    assert reason in found[1]


@pytest.mark.parametrize(
    ("fields", "needle"),
    [
        ({"observed": float("nan"), "bound": 1.0}, "not finite"),
        ({"observed": 1.0, "bound": float("inf")}, "not finite"),
        ({"observed": 1.0, "bound": 1.0, "rounding": -1e-9}, "negative rounding"),
        ({"observed": fmpq(1, 3), "bound": 0.5}, "exact and float"),
        ({"observed": 1, "bound": 1, "rounding": 1e-9}, "rounding term"),
        ({"observed": True, "bound": 1}, "truth value"),
    ],
)
def test_a_measurement_refuses(fields, needle):
    with pytest.raises(BadInput, match=needle):
        Measurement(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "Bad id"},
        {"grade": "sure"},
        {"strategy": None},
        {"grade": "statistical", "complete": "x"},
        {"controls": (halved, halved)},
    ],
)
def test_a_claim_refuses(fields):
    with pytest.raises(BadInput):
        fixture(**{"name": "a", **fields})


def test_exact_numbers_are_compared_exactly():
    third = Fraction(1, 3)
    assert Measurement(observed=third, bound=fmpq(1, 3)).holds
    assert not Measurement(observed=third + Fraction(1, 10**40), bound=fmpq(1, 3)).holds
    assert model.identity([fmpq(1, 3), 2], [third, 2]).observed == 0
    assert model.identity([1.0, 2.0], [1.0, 2.0 + 2e-8]).digits == pytest.approx(
        -np.log10(2e-8 / 5**0.5), abs=1e-6
    )
    assert not model.rate(1.2, 1.0, 0.1).holds
    with pytest.raises(BadInput, match="shape"):
        model.identity([1.0], [1.0, 2.0])


def test_a_hunt_depends_on_nothing_but_its_seed(tmp_path, monkeypatch):
    """Hypothesis would draw the constants of this new module; a hunt must not."""
    claim = fixture(
        "a", strategy=st.fixed_dictionaries({"n": st.integers(0, 10**9)}), build=lambda p: p["n"] / 1e9
    )
    before = [hunting.hunt(claim.measure, claim, budget=300, seed=seed) for seed in (1, 1, 2)]
    (tmp_path / "magic_numbers.py").write_text(
        "X = [" + ", ".join(str(123457 * i) for i in range(1, 400)) + "]"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    __import__("magic_numbers")
    after = hunting.hunt(claim.measure, claim, budget=300, seed=1)
    assert before[0] == before[1] == after
    assert before[0].cloud != before[2].cloud


def test_a_violation_is_shrunk_and_counted():
    judged = judge(ERRATUM, budget=40, seed=3)
    assert judged.hunt.counterexample.params == {"n": 1}
    wide = fixture(
        "a", strategy=st.fixed_dictionaries({"n": st.integers(0, 10**6)}), build=lambda p: p["n"] / 5000
    )
    found = hunting.hunt(wide.measure, wide, budget=40, seed=3)
    assert found.counterexample.params == {"n": 5001}
    assert 0 < found.shrinks <= hunting.SHRINKS
    assert found.used <= 40


def test_the_hunt_climbs():
    """1000 even draws of (x, log y) come within 1e-5 of the peak with probability 1000·π·1e-10/6 < 1e-7."""
    claim = fixture(
        "a",
        strategy=st.fixed_dictionaries({"x": model.reals(0, 1), "y": model.reals(1e-3, 1e3, log=True)}),
        build=lambda p: (p["x"] - 0.7) ** 2 + (np.log10(p["y"]) - 2) ** 2,
        measure=lambda distance: Measurement(observed=40 - distance, bound=40.0),
    )
    found = hunting.hunt(claim.measure, claim, budget=1000, seed=0)
    assert 40 - found.worst.measurement.observed < 1e-5**2


def test_jobs_and_processes_change_nothing(fresh, tmp_path, capsys):
    code, _ = here(capsys, "--document", "fixture", "--out", tmp_path)
    assert code == 1
    for name in ("ledger.json", "index.html"):
        assert (tmp_path / name).read_bytes() == (fresh[0] / name).read_bytes()


def test_another_seed_gives_other_instances(fresh, tmp_path, capsys):
    here(capsys, "--claim", "fixture/inverse", "--seed", 1, "--out", tmp_path)
    claims = [json.loads((out / "ledger.json").read_text())["claims"] for out in (tmp_path, fresh[0])]
    (other,), same = claims[0], next(claim for claim in claims[1] if claim["id"] == "fixture/inverse")
    assert other["rejected"] != same["rejected"] or other["worst"] != same["worst"]


def children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def start_slow(out, results=1):
    """A run of the slow claims in two processes, once ``results`` of the nine have been written."""
    words = ["--claims-from", HERE, "--document", "slow", "--jobs", "2", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "verification", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a test run in the background may have inherited "ignore"
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while len(list(out.glob("results/slow/[!.]*.json"))) < results:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="reads child processes from /proc"
)


@needs_proc
def test_killed_and_resumed_gives_the_undisturbed_ledger(tmp_path, capsys):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = start_slow(killed)
    workers = children(process.pid)
    process.kill()
    process.communicate()
    assert not (killed / "ledger.json").exists()  # it was in the middle
    kept = len(list(killed.glob("results/slow/[!.]*.json")))
    assert 1 <= kept < len(SLOW)
    code, output = here(capsys, "--document", "slow", "--out", killed, "--resume")
    assert code == 1
    assert output.count(", kept\n") == kept
    here(capsys, "--document", "slow", "--out", whole)
    assert (killed / "ledger.json").read_bytes() == (whole / "ledger.json").read_bytes()
    assert workers
    assert not any(map(alive, workers))  # a worker ends with its parent
    _, output = here(capsys, "--claim", "slow/claim-0", "--seed", 1, "--out", killed, "--resume")
    assert "kept" not in output  # another seed: nothing to keep


def test_interrupt_says_how_to_go_on(tmp_path):
    process = start_slow(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert f"Go on with: python -m verification --claims-from {HERE} --document slow" in errors
    assert errors.rstrip().endswith("--resume")
    assert "Traceback" not in errors


@needs_proc
def test_a_worker_leaves_the_interrupt_to_its_parent(tmp_path):
    process = start_slow(tmp_path)
    for worker in children(process.pid):
        os.kill(worker, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, "")
    assert len(json.loads((tmp_path / "ledger.json").read_text())["claims"]) == len(SLOW)


@needs_proc
def test_a_killed_worker_is_reported(tmp_path):
    process = start_slow(tmp_path)
    workers = [
        pid for pid in children(process.pid) if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()
    ]
    os.kill(workers[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "find the claim with: python -m verification" in errors
    assert "Traceback" not in errors


def test_exit_codes_and_record(fresh, tmp_path, capsys):
    words = ("--claim", "fixture/inverse", "--claim", "fixture/rate", "--out", tmp_path)
    path = tmp_path / "recorded.toml"
    code, output = here(capsys, *words)
    assert code == 1
    assert "not recorded: fixture/inverse, found not refuted (exact)" in output
    assert "DRIFT" not in output
    assert f"to accept: python -m verification --claims-from {HERE} --level quick --record REASON" in output
    assert not path.exists()  # only --record writes
    assert here(capsys, *words, "--record", "first run")[0] == 0
    assert here(capsys, *words)[0] == 0
    path.write_text(path.read_text().replace('grade = "exact"', 'grade = "proved"', 1))
    code, output = here(capsys, *words)
    assert code == 1
    assert "DRIFT fixture/inverse: recorded not refuted (proved), found not refuted (exact)" in output
    assert here(capsys, *words, "--record", "second thoughts")[0] == 0
    rows = record.load(path)["quick"]
    assert {name: row["reason"] for name, row in rows.items()} == {
        "fixture/inverse": "second thoughts",  # it changed
        "fixture/rate": "first run",  # it did not
    }
    assert here(capsys, "--claim", "nothing/*", "--out", tmp_path)[0] == 2


def test_a_recorded_claim_that_vanished_is_drift():
    known = {"quick": {"old/claim": {"verdict": "holds", "grade": "exact", "reason": "x"}}, "full": {}}
    assert record.vanished(known, ["new/claim"], "quick") == ["old/claim"]
    options = {"level": "quick", "reason": "gone", "dear": [], "date": "2026-01-01", "versions": {}}
    assert record.updated(known, [], known_ids=["new/claim"], **options) == {"quick": {}, "full": {}}


def test_a_record_survives_writing_and_reading(tmp_path):
    row = {
        "verdict": "holds",
        "grade": "exact",
        "reason": 'quotes " and \\ and\nlines, λ',
        "worst_ratio": 1e-300,
    }
    known = {"quick": {"a/b@c": row}, "full": {}}
    record.save(known, tmp_path / "r.toml")
    assert record.load(tmp_path / "r.toml") == known


def test_a_dear_claim_shows_its_last_full_result(tmp_path, capsys):
    words = ("--claim", "fixture/dear", "--out", tmp_path)
    code, output = here(capsys, *words)
    assert code == 1
    assert "--level full --record REASON" in output
    assert here(capsys, *words, "--level", "full", "--record", "first full run")[0] == 0
    code, output = here(capsys, *words)
    assert code == 0
    assert "not refuted (not rerun)" in output
    (claim,) = json.loads((tmp_path / "ledger.json").read_text())["claims"]
    assert (claim["rerun"], claim["verdict"], claim["instances"]) == (False, "not refuted", 30)
    assert claim["worst"] is not None  # with its evidence, and its plot
    assert claim["controls"]
    assert "data:image" in (tmp_path / "index.html").read_text()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", claim["recorded"]["date"])
    assert f"numpy {np.__version__}" in claim["recorded"]["versions"]
    assert "Not rerun at this level; last full result of" in (tmp_path / "index.html").read_text()


def test_the_reproduction_command_reproduces(fresh):
    claims = {claim["id"]: claim for claim in json.loads((fresh[0] / "ledger.json").read_text())["claims"]}
    shown = claims["fixture/erratum-3@printed"]["counterexample"]
    python, *words = shlex.split(shown["command"])
    assert python == "python"
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert f"fixture/erratum-3@printed on {json.dumps(shown['params'])}" in done.stdout
    assert "the statement is VIOLATED on this instance" in done.stdout
    assert "the corrected statement is satisfied on this instance" in done.stdout


def test_an_instance_outside_the_hypotheses_is_said_to_be(capsys):
    code, output = here(capsys, "--claim", "fixture/inverse", "--instance", '{"q": 1.5, "angle": 0}')
    assert code == 0
    assert "hypothesis 'contraction' is broken (measured 1.5)" in output
    assert here(capsys, "--claim", "fixture/inverse", "--instance", "{q}")[0] == 2
    assert here(capsys, "--claim", "fixture/*", "--instance", "{}")[0] == 2


@pytest.mark.parametrize(
    ("words", "needles"),
    [
        (("--claims-from", "nope.claims"), ("No module named 'nope'", "check its spelling")),
        (("--claims-from", HERE, "--out", "{file}/below"), ("--out cannot write", "{file}/below")),
        (("--claims-from", HERE, "--out", "{out}", "--recorded", "{file}"), ("{file} is not TOML",)),
        (
            ("--claims-from", HERE, "--out", "{out}", "--recorded", "{file}/r.toml", "--record", "x"),
            ("--record cannot write",),
        ),
        (("--jobs", "0"), ("measured: 0", ">= 1")),
        (("--jobs", "-3"), ("measured: -3", ">= 1")),
        (("--record", " "), ("--record without a reason",)),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(words, needles, tmp_path, capsys):
    """Exit code 2 and advice, before any claim runs: 1 is kept for verdicts that differ."""
    places = {"file": tmp_path / "file", "out": tmp_path / "out"}
    places["file"].write_text("not TOML")
    assert main([word.format(**places) for word in words]) == 2
    printed = capsys.readouterr()
    assert all(needle.format(**places) in printed.err for needle in needles), printed.err
    assert printed.out == ""
    assert not list(tmp_path.glob("out/results"))


def test_a_file_that_cannot_be_written_is_said(tmp_path, capsys):
    (tmp_path / "results" / "fixture" / "false.json").mkdir(parents=True)
    words = ["--claims-from", HERE, "--claim", "fixture/false", "--jobs", "1", "--out", str(tmp_path)]
    assert main(words) == 2
    errors = capsys.readouterr().err
    assert "false.json" in errors
    assert errors.rstrip().endswith("--resume")


def test_claims_that_fail_on_import_say_where(package, capsys):
    (package / "two.py").write_text("\nimport no_such_module\n")
    assert main(["--claims-from", "some_claims", "--list"]) == 2
    assert f"the import failed at {package / 'two.py'}:2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("claim_id", "text", "needles"),
    [
        (
            "fixture/inverse",
            '{"foo": 1}',
            ("no q, angle", 'for example --instance \'{"angle": 0.0, "q": 0.5}\''),
        ),
        ("fixture/binomial", '{"a": [1, 2]}', ("measured: no b", "the parameters a, b")),
        ("fixture/false", "{}", ("measured: no x", '{"x": ')),
        ("fixture/inverse", "[1]", ("--instance is no object", 'for example --instance \'{"angle": 0.0')),
    ],
)
def test_an_instance_without_its_parameters_names_them(claim_id, text, needles, capsys):
    assert main(["--claims-from", HERE, "--claim", claim_id, "--instance", text]) == 2
    errors = capsys.readouterr().err
    assert all(needle in errors for needle in needles), errors


def test_a_selection_leaves_the_report_of_all_claims(tmp_path, monkeypatch, capsys):
    """It has its own folder, shares the results in both directions, and ``--out`` overrides that."""
    (tmp_path / "two_claims.py").write_text(
        f"from {HERE} import BY_ID\nCLAIMS = (BY_ID['fixture/binomial'], BY_ID['fixture/loose'])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "two_claims", raising=False)

    def run(*words):
        main(["--claims-from", "two_claims", "--jobs", "1", "--resume", *words])
        return capsys.readouterr().out

    def ids(folder):
        claims = json.loads((tmp_path / folder / "ledger.json").read_text())["claims"]
        return [claim["id"] for claim in claims]

    one = ("--claim", "fixture/loose")
    run(*one)
    assert ids("report/selection") == ["fixture/loose"]
    assert not (tmp_path / "report" / "index.html").exists()
    assert run().count(", kept\n") == 1  # the selection's
    assert ids("report") == ["fixture/binomial", "fixture/loose"]
    assert "wrote report/index.html" in run()
    whole = (tmp_path / "report" / "index.html").read_bytes()
    for words in (one, ("--document", "fixture")):
        output = run(*words)
        assert "wrote report/selection/index.html" in output
        assert "report/index.html is left as it is" in output
        assert output.count(", kept\n") == len(ids("report/selection"))
        assert (tmp_path / "report" / "index.html").read_bytes() == whole
    assert "kept" not in run(*one, "--out", "elsewhere")
    assert ids("elsewhere") == ["fixture/loose"]


def test_many_unrecorded_claims_have_one_line(fresh, tmp_path, capsys):
    """The first few are named and counted; a verdict that really differs keeps its line."""
    assert f"not recorded: {len(EXPECTED)} claims: fixture/binomial, " in fresh[1]
    assert (fresh[1].count("not recorded"), fresh[1].count("DRIFT")) == (1, 0)
    words = ("--document", "slow", "--out", tmp_path)
    here(capsys, *words, "--claim", "slow/claim-0", "--record", "one of them")
    path = tmp_path / "recorded.toml"
    path.write_text(path.read_text().replace('grade = "exact"', 'grade = "proved"'))
    code, output = here(capsys, *words)
    lines = [line for line in output.splitlines() if line.startswith(("DRIFT", "not recorded"))]
    assert code == 1
    assert lines[0] == f"not recorded: {len(SLOW) - 1} claims: slow/claim-1, slow/claim-2, slow/claim-3, …"
    assert [line.split()[:2] for line in lines[1:]] == [["DRIFT", "slow/claim-0:"]]


def test_titles_read_well_beside_a_verdict():
    """What an erratum's title says is what is printed, so that "refuted" beside it is right."""
    titles = {claim_id: item.claim.title for claim_id, item in runner.discover().items()}
    assert [title for title in titles.values() if not title[0].isupper()] == []
    assert [title for title in titles.values() if title.startswith(("The same ", "Its "))] == []
    errata = {claim_id: title for claim_id, title in titles.items() if "/erratum-" in claim_id}
    assert errata
    assert [title for title in errata.values() if not title.startswith("As printed: ")] == []
    assert len(set(titles.values())) == len(titles)


def test_the_list_and_the_terminal(fresh, capsys):
    code, output = here(capsys, "--list", "--document", "fixture")
    assert code == 0
    assert all(claim_id in output for claim_id in EXPECTED)
    assert "the dearest: " in fresh[1]
    assert re.search(r"│ fixture/loose +│ loose +│ exact +│ +40 │", fresh[1])
    assert set(json.loads((fresh[0] / "timings.json").read_text())) == set(EXPECTED) - {"fixture/dear"}


def test_the_page_on_verdicts_explains_every_word():
    text = (ROOT / "docs" / "verdicts.md").read_text(encoding="utf-8")
    for verdict in model.VERDICTS:
        assert re.search(
            rf"^\*\*{verdict}(\(s\))?\*\*: .+?\n\*Examples?:\* ", text, re.MULTILINE | re.DOTALL
        ), verdict
    assert all(f"\n| {grade} | " in text for grade in model.GRADES)
    assert all(f"\n| {code} | " in text for code in (0, 1, 2, 3, 130))


def complaints(value, schema, root, where="ledger"):
    """The violations of the keywords that schema.json uses; an unknown keyword is an error."""
    if "$ref" in schema:
        yield from complaints(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, where)
    known = {
        "$ref",
        "$schema",
        "$defs",
        "title",
        "description",
        "type",
        "enum",
        "minimum",
        "required",
        "properties",
    }
    assert set(schema) <= known | {"additionalProperties", "items", "oneOf"}
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    is_a = {name: isinstance(value, kind) for name, kind in kinds.items()}
    is_a["integer"] = isinstance(value, int) and not is_a["boolean"]
    is_a["number"] = is_a["integer"] or isinstance(value, float)
    types = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", [])
    if types and not any(is_a[name] for name in types):
        yield f"{where}: {value!r} is no {types}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} not in {schema['enum']}"
    if "minimum" in schema and is_a["number"] and value < schema["minimum"]:
        yield f"{where}: {value!r} too small"
    if (
        "oneOf" in schema
        and sum(not list(complaints(value, one, root, where)) for one in schema["oneOf"]) != 1
    ):
        yield f"{where}: not exactly one of the alternatives"
    if is_a["object"]:
        fields, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        yield from (f"{where}: no {name}" for name in schema.get("required", ()) if name not in value)
        for name, item in value.items():
            if name in fields or isinstance(rest, dict):
                yield from complaints(item, fields.get(name, rest), root, f"{where}.{name}")
            elif rest is False:
                yield f"{where}: {name} is not in the schema"
    if is_a["array"]:
        for i, item in enumerate(value):
            yield from complaints(item, schema.get("items", {}), root, f"{where}[{i}]")


def test_the_ledger_follows_its_published_schema(fresh):
    schema = json.loads((ROOT / "verification" / "schema.json").read_text())
    text = (fresh[0] / "ledger.json").read_text()
    data = json.loads(text)
    assert list(complaints(data, schema, schema)) == []
    assert text == json.dumps(data, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    for name, value in (
        ("verdict", "true"),
        ("grade", None),
        ("instances", -1),
        ("controls", [{}]),
        ("worst", {}),
    ):
        broken = {**data, "claims": [{**data["claims"][0], name: value}]}
        assert list(complaints(broken, schema, schema)), name
    assert data["schema"] == ledger.SCHEMA


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An importable package with one claim in a module."""
    folder = tmp_path / "some_claims"
    (folder / "below").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "below" / "__init__.py").write_text("")
    (folder / "below" / "one.py").write_text(f"from {HERE} import LOOSE\nCLAIMS = (LOOSE,)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(ROOT)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "some_claims"]:
        del sys.modules[name]


def test_claims_are_found_below_a_package(package):
    found = {name: item.module for name, item in runner.discover("some_claims").items()}
    assert found == {"fixture/loose": "some_claims.below.one"}


@pytest.mark.parametrize(
    ("path", "text", "error", "needle"),
    [
        ("two.py", f"from {HERE} import LOOSE\nCLAIMS = (LOOSE,)\n", BadInput, "registered twice"),
        ("two.py", "CLAIMS = (1,)\n", BadInput, "Claim objects only"),
        ("two.py", "import no_such_module\n", ModuleNotFoundError, "no_such_module"),
        ("below/__init__.py", "import no_such_module\n", ModuleNotFoundError, "no_such_module"),
    ],
)
def test_what_cannot_be_registered_is_refused(package, path, text, error, needle):
    (package / path).write_text(text)
    with pytest.raises(error, match=needle):
        runner.discover("some_claims")


def test_a_fingerprint_names_sources_level_and_seed(package):
    runner.discover("some_claims")
    name, options = "some_claims.below.one", {"level": "quick", "seed": 0}
    marks = [runner.fingerprint(name, **options) for _ in range(2)]
    marks += [runner.fingerprint(name, **{**options, **other}) for other in ({"level": "full"}, {"seed": 1})]
    with (package / "below" / "one.py").open("a") as source:
        source.write("# changed\n")
    marks.append(runner.fingerprint(name, **options))
    assert marks[0] == marks[1]
    assert len(set(marks)) == 4
