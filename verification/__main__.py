"""``python -m verification``: run the claims, write the report, compare every verdict with the record."""

import argparse
import contextlib
import datetime
import difflib
import fnmatch
import importlib
import json
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

# One BLAS thread, set before numpy loads: the jobs share the cores, and threads sharing cores are slower.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

from rich.console import Console
from rich.progress import Progress

from refimpl.errors import BadInput, RefimplError
from verification import ledger, record, runner
from verification.hunt import Broken, canonical, evaluate, hunt
from verification.model import Claim, Measure, Params
from verification.runner import Registered

DEAREST = 10
FEW = 3  # unrecorded claims that have a line each; more are counted in one
REPORT = Path("report")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m verification", description=__doc__)
    add = parser.add_argument
    add(
        "--document",
        action="append",
        default=[],
        metavar="NAME",
        help="only this document's claims (repeatable)",
    )
    add(
        "--claim",
        action="append",
        default=[],
        metavar="ID",
        help="only this claim (repeatable, * and ? allowed)",
    )
    add(
        "--level",
        choices=("quick", "full"),
        default="quick",
        help="the budget of every claim (default: quick)",
    )
    add("--seed", type=int, default=0, help="the seed of all hunts (default: 0)")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes; results do not depend on them")
    add(
        "--resume",
        action="store_true",
        help="keep results whose sources, level, seed and versions are unchanged",
    )
    add("--record", metavar="REASON", help="accept these verdicts as the expected ones, for this reason")
    add("--instance", metavar="JSON", help="evaluate the one claim chosen on these parameters, and stop")
    add("--list", action="store_true", help="print the ids and titles of the claims chosen, and stop")
    where = "report, or report/selection with --document or --claim"
    add("--out", type=Path, metavar="DIR", help=f"where to write (default: {where})")
    add(
        "--claims-from", default=runner.CLAIMS, metavar="MODULE", help="a module or package with other CLAIMS"
    )
    where = "verification/recorded.toml, or recorded.toml in --out with --claims-from"
    add("--recorded", type=Path, metavar="FILE", help=f"expected verdicts (default: {where})")
    args = parser.parse_args(argv)
    args.foreign = args.claims_from != runner.CLAIMS
    args.results = (
        args.out or REPORT
    )  # a selection shares the results of the whole, so that --resume finds them
    if args.out is None:
        args.out = REPORT / "selection" if args.document or args.claim else REPORT
    if args.recorded is None:
        args.recorded = args.results / "recorded.toml" if args.foreign else record.DEFAULT
    args.options = ("--claims-from", args.claims_from) if args.foreign else ()
    return args


def _check(args: argparse.Namespace) -> None:
    """``BadInput`` where an option has a value that no run can have."""
    if args.jobs < 1:
        raise BadInput("--jobs counts processes", measured=args.jobs, required=">= 1", advice="leave it out")
    if args.record is not None and not args.record.strip():
        advice = "say in a few words why the verdicts changed"
        raise BadInput(
            "--record without a reason", measured=repr(args.record), required="words", advice=advice
        )


def _check_folders(args: argparse.Namespace) -> None:
    """Create the folders that the run writes to; ``BadInput`` before the first claim where that fails."""
    folders = {
        "--out": {args.out, args.results},
        "--record": {args.recorded.parent} if args.record else set(),
    }
    for option, folder in ((option, folder) for option, some in folders.items() for folder in sorted(some)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            required, advice = "a folder that can be written", f"choose another one ({error})"
            raise BadInput(
                f"{option} cannot write", measured=folder, required=required, advice=advice
            ) from error


def _discover(root: str) -> dict[str, Registered]:
    """The claims of ``root``; ``BadInput`` with the place of the fault when importing them fails."""
    try:
        return runner.discover(root)
    except RefimplError:
        raise
    except Exception as error:  # whatever importing a module of claims raises
        trace = traceback.extract_tb(error.__traceback__)
        last = [frame for frame in trace if not frame.filename.startswith("<frozen")][-1]
        absent = last.filename == importlib.__file__
        raise BadInput(
            f"no claims can be imported from {root!r}",
            measured=f"{type(error).__name__}: {error}",
            required="a module or package, found from the current directory or PYTHONPATH",
            advice="check its spelling" if absent else f"the import failed at {last.filename}:{last.lineno}",
        ) from error


def choose(
    claims: dict[str, Registered], documents: Sequence[str], patterns: Sequence[str]
) -> list[Registered]:
    """The claims of ``documents`` (empty: all) that match a pattern; ``BadInput`` when one fits nothing."""
    for name, known in (
        ("document", sorted({item.claim.document for item in claims.values()})),
        ("claim", list(claims)),
    ):
        for wanted in documents if name == "document" else patterns:
            if not fnmatch.filter(known, wanted):
                near = difflib.get_close_matches(wanted, known) or known[:5]
                advice = f"--list shows all; near: {', '.join(near) or 'there are none'}"
                raise BadInput(
                    f"no {name} matches", measured=wanted, required=f"a registered {name}", advice=advice
                )
    return [
        item
        for claim_id, item in claims.items()
        if (not documents or any(fnmatch.fnmatchcase(item.claim.document, wanted) for wanted in documents))
        and (not patterns or any(fnmatch.fnmatchcase(claim_id, wanted) for wanted in patterns))
    ]


def reproduce(claim: Claim, text: str) -> Iterator[str]:
    """The lines that show ``claim`` on the instance ``text`` (JSON); ``BadInput`` when that is no JSON."""
    try:
        params = json.loads(text)
        key = canonical(params)
    except (json.JSONDecodeError, Broken) as error:
        raise BadInput(
            "--instance is not JSON", measured=text, required="the parameters as JSON", advice=str(error)
        ) from error
    first = _first(claim)
    advice = f"for example --instance {shlex.quote(canonical(first))}" if first else ""
    if not isinstance(params, dict):
        required = "a JSON object, a value for each parameter's name"
        raise BadInput("--instance is no object", measured=text, required=required, advice=advice)
    try:
        yield from _shown(claim, key)
    except Broken as error:
        if missing := [name for name in first if name not in params]:
            required = f"the parameters {', '.join(first)}"
            raise BadInput(
                f"{claim.id}: {error}", measured=f"no {', '.join(missing)}", required=required, advice=advice
            ) from error
        raise


def _first(claim: Claim) -> Params:
    """The parameters of the claim's first instance: explicit, else of its equality case, else generated."""
    known = [*claim.explicit, *([claim.equality.params] if claim.equality else [])]
    generated = None if known else hunt(claim.measure, claim, budget=1, seed=0).worst
    return known[0] if known else generated.params if generated else {}


def _shown(claim: Claim, key: str) -> Iterator[str]:
    """The lines of :func:`reproduce` on the canonical parameters ``key``."""
    yield f"{claim.id} on {key}"
    measures: list[tuple[str, Measure]] = [("statement", claim.measure)]
    if claim.corrected is not None:
        measures.append(("corrected statement", claim.corrected.measure))
    for name, measure in measures:
        outcome = evaluate(claim, measure, key)
        if outcome.broken:
            yield from (
                f"  hypothesis {broken!r} is broken (measured {measured})"
                for broken, measured in outcome.broken
            )
            outcome = evaluate(claim, measure, key, breaking=True)
        assert outcome.measurement is not None  # one of the two evaluations measures
        for label, value in ledger.numbers(outcome.measurement).items():
            yield f"  {label:9} {value}"
        yield f"  the {name} is {'satisfied' if outcome.measurement.holds else 'VIOLATED'} on this instance"


def _follow(console: Console, total: int) -> contextlib.AbstractContextManager[Callable[[str], None]]:
    """A function to call with a line as each claim ends: a live bar on a terminal, plain lines elsewhere."""

    @contextlib.contextmanager
    def bar() -> Iterator[Callable[[str], None]]:
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("claims", total=total)

            def advance(line: str) -> None:
                progress.console.print(line, markup=False, highlight=False)
                progress.advance(task)

            yield advance

    if console.is_terminal:
        return bar()
    return contextlib.nullcontext(
        lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)
    )


def _run(
    args: argparse.Namespace, claims: dict[str, Registered], chosen: list[Registered], console: Console
) -> int:
    _check_folders(args)
    todo = runner.tasks(chosen, level=args.level, seed=args.seed, options=args.options)
    known, evidence = record.load(args.recorded), record.load_evidence(args.recorded)
    results: dict[str, Any] = {}
    entries, figures, seconds = {}, {}, {}
    for item in chosen:
        name = item.claim.id
        last = record.expected(known, name, args.level, dear=True)
        kept = evidence.get(name, {}) if item.claim.budget.quick is None else {}
        entries[name] = ledger.not_rerun(
            item.claim, last, kept.get("claim"), level=args.level, seed=args.seed, options=args.options
        )
        if last and "figure" in kept:
            figures[name] = kept["figure"]
    console.print(
        f"{len(todo)} claims, level {args.level}, seed {args.seed}, jobs {args.jobs}", highlight=False
    )
    with _follow(console, len(todo)) as report:
        for task, result, reused in runner.run(todo, out=args.results, jobs=args.jobs, resume=args.resume):
            results[task.claim_id] = {key: result[key] for key in ("claim", "figure")}
            claim = entries[task.claim_id] = result["claim"]
            figures[task.claim_id], seconds[task.claim_id] = result["figure"], result["seconds"]
            took = "kept" if reused else f"{result['seconds']:.1f} s"
            line = (
                f"[{len(seconds):3}/{len(todo)}] {claim['verdict']:11} {claim['grade']:12} {task.claim_id}  "
            )
            report(f"{line}{claim['instances']} instances, worst {ledger.slack(claim)}, {took}")
    versions = runner.versions()
    whole = ledger.ledger(entries.values(), level=args.level, seed=args.seed, versions=versions)
    ledger.write(args.out / "ledger.json", whole)
    ledger.write(args.out / "timings.json", seconds)
    from verification.report import render  # here, so that nobody waits for matplotlib before the first claim

    ledger.write_text(args.out / "index.html", render(whole, figures, args.jobs))
    _summary(console, whole["claims"], seconds, args.out)
    if args.out != args.results:
        console.print(f"a selection: {args.results / 'index.html'} is left as it is", markup=False)
    if args.record is not None:
        dear = [item.claim.id for item in chosen if item.claim.budget.quick is None]
        new = record.updated(
            known, whole["claims"], level=args.level, reason=args.record, known_ids=claims, versions=versions,
            dear=dear,
            date=datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        )  # fmt: skip
        record.save(new, args.recorded)
        record.save_evidence(args.recorded, results, dear=dear, known_ids=claims)
        console.print(f"recorded in {args.recorded}: {args.record}", markup=False)
        known = new
    return _compare(
        console, args, known, whole["claims"], claims if chosen == list(claims.values()) else None
    )


def _summary(console: Console, claims: list[dict[str, Any]], seconds: dict[str, float], out: Path) -> None:
    console.print(ledger.table(claims, seconds))
    for claim in claims:
        if claim["verdict"] in ("undecided", "vacuous"):
            console.print(
                f"{claim['id']} is {claim['verdict']}: {claim['reason']}", markup=False, soft_wrap=True
            )
    dearest = sorted(seconds.items(), key=lambda item: (-item[1], item[0]))[:DEAREST]
    shown = ", ".join(f"{claim_id} {took:.1f} s" for claim_id, took in dearest)
    console.print(f"the dearest: {shown or 'none'}", markup=False, highlight=False)
    console.print(f"wrote {out / 'index.html'}, {out / 'ledger.json'}, {out / 'timings.json'}", markup=False)


def _compare(
    console: Console,
    args: argparse.Namespace,
    known: record.Record,
    found: list[dict[str, Any]],
    everything: dict[str, Registered] | None,
) -> int:
    """0 when every verdict and grade is the recorded one, else 1 and the command that accepts the others."""
    drift = record.drift(known, found, args.level)
    gone = [] if everything is None else record.vanished(known, everything, args.level)
    unrecorded = [claim_id for claim_id, before, _ in drift if before == record.NOTHING]
    if many := len(unrecorded) > FEW:
        first = ", ".join(unrecorded[:FEW])
        console.print(f"not recorded: {len(unrecorded)} claims: {first}, …", markup=False, soft_wrap=True)
    for claim_id, before, now in drift:
        if before != record.NOTHING:
            console.print(f"DRIFT {claim_id}: recorded {before}, found {now}", markup=False, soft_wrap=True)
        elif not many:
            console.print(f"not recorded: {claim_id}, found {now}", markup=False, soft_wrap=True)
    for claim_id in gone:
        console.print(f"DRIFT {claim_id}: recorded, but no claim bears this id", markup=False, soft_wrap=True)
    if not drift and not gone:
        console.print(f"all {len(found)} verdicts are the recorded ones", markup=False)
        return 0
    not_run = {claim["id"] for claim in found if not claim["rerun"]}
    levels = {"full" if claim_id in not_run else args.level for claim_id, _, _ in drift} | (
        {args.level} if gone else set()
    )
    for level in sorted(levels):
        words = ["python", "-m", "verification", *args.options, "--level", level, "--record", "REASON"]
        console.print(f"to accept: {shlex.join(words)}", markup=False, soft_wrap=True)
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: all as recorded; 1: some differ; 2: bad request; 3: a worker died; 130: interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = _arguments(words)
    console = Console(width=None if sys.stdout.isatty() else 140)
    resume = shlex.join(
        ["python", "-m", "verification", *(word for word in words if word != "--resume"), "--resume"]
    )
    try:
        _check(args)
        claims = _discover(args.claims_from)
        chosen = choose(claims, args.document, args.claim)
        if args.list:
            for item in chosen:
                console.print(
                    f"{item.claim.id}  {item.claim.grade}  {item.claim.title}", markup=False, soft_wrap=True
                )
            return 0
        if args.instance is not None:
            if len(chosen) != 1:
                raise BadInput(
                    "--instance needs one claim",
                    measured=len(chosen),
                    required=1,
                    advice="choose it by --claim",
                )
            for line in reproduce(chosen[0].claim, args.instance):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            return 0
        return _run(args, claims, chosen, console)
    except (RefimplError, Broken) as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error}\n  a file cannot be read or written; then go on with: {resume}", file=sys.stderr)
        return 2
    except BrokenProcessPool as error:
        print(f"{error}\n  finish with: {resume}\n  find the claim with: {resume} --jobs 1", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print(f"\ninterrupted; what has ended is kept. Go on with: {resume}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
