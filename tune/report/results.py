"""The result as files: report.json, report.html, and best/ with its model card."""

from __future__ import annotations

import html
import importlib.metadata
import json
import math
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from trainable.redaction import one_line
from trainable.storage.folders import MANIFEST, link, write_folder, write_text
from tune.prepare.inputs import Inputs
from tune.report.progress import clock, short
from tune.run_dir.layout import RunDir
from tune.run_dir.records import TrialRecord

PACKAGES = ("finetune-search", "ray", "torch", "transformers", "datasets", "evaluate", "optuna", "tensorboard")
SCORES = ("loss", "accuracy", "f1", "matthews_correlation")


def versions() -> dict[str, str]:
    """Python's version and those of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def build_report(
    inputs: Inputs,
    sweep_id: str | None,
    precision: str,
    records: Sequence[TrialRecord],
    winner: TrialRecord,
    test: Mapping[str, Any],
    wall_s: float,
) -> dict[str, Any]:
    """The report as report.json holds it."""
    spec, best = inputs.spec, winner.best
    if best is None:
        raise ValueError(f"trial {winner.number} has no epoch")
    majority = {name: inputs.majority(name) for name in ("validation", "test")}
    report: dict[str, Any] = {
        "name": spec.name,
        "model": spec.model,
        "dataset": spec.dataset,
        "metric": spec.metric,
        "mode": spec.mode,
        "f1_average": inputs.f1_average,
        "label_names": list(inputs.data.label_names),
        "precision": precision,
        "best": {
            "trial": winner.number,
            "config": winner.config.named(),
            "epoch": winner.best_epoch,
            "seed": winner.seed,
            "validation": {name: best.scores[name] for name in SCORES},
            "collapsed": winner.collapsed,
        },
        "test": dict(test),
        "majority": majority,
        "warnings": [],
        "notes": [*inputs.data.notes, *memory_notes(records)],
        "trials": [trial_row(record) for record in records],
        "wall_s": wall_s,
        "train_s": sum(record.seconds for record in records),
        "rows": {name: len(split) for name, split in inputs.data.splits.items()},
        "versions": versions(),
        "seed": spec.seed,
        "sweep": sweep_id,
    }
    report["warnings"] = warnings_of(report)
    return report


def memory_notes(records: Sequence[TrialRecord]) -> list[str]:
    """Which trials were computed in smaller pieces since memory ran out."""
    pieces = {r.number: [e.rows_at_once for e in r.epochs if e.rows_at_once] for r in records}
    return [
        f"memory ran out: trial {number} was computed {min(rows)} rows at a time, with its own batch size all the same"
        for number, rows in pieces.items()
        if rows
    ]


def trial_row(record: TrialRecord) -> dict[str, Any]:
    """One trial in the report."""
    return {
        "number": record.number,
        "state": record.state,
        "config": record.config.named(),
        "epochs_run": len(record.epochs),
        "best_epoch": record.best_epoch,
        "value": record.value,
        "collapsed": record.collapsed,
        "seconds": record.seconds,
        "seed": record.seed,
        "failure": record.failure,
    }


def warnings_of(report: Mapping[str, Any]) -> list[str]:
    """What the user must not overlook, in words."""
    found = []
    for split, scores in (("validation", report["best"]["validation"]), ("test", report["test"])):
        guess = report["majority"][split]
        short_of = [name for name in ("accuracy", "f1") if scores[name] <= guess[name]]
        if short_of:
            compared = ", ".join(f"{name} {scores[name]:.4f} against {guess[name]:.4f}" for name in short_of)
            found.append(
                f"the winner does not beat always answering the most frequent class on {split} ({compared}): "
                "it has learned little or nothing"
            )
    if report["best"]["collapsed"]:
        found.append("the winner gives every validation row the same class")
    failed = sum(row["state"] == "FAIL" for row in report["trials"])
    if failed:
        found.append(f"{failed} of {len(report['trials'])} trials failed; trials/N/failure.txt says why")
    return found


def summary_lines(report: Mapping[str, Any]) -> list[str]:
    """The result as the terminal shows it."""
    best, majority = report["best"], report["majority"]
    states = [row["state"] for row in report["trials"]]
    lines = [
        "",
        f"{len(states)} trials in {clock(report['wall_s'])}: {states.count('COMPLETE')} done, "
        f"{states.count('PRUNED')} stopped early, {states.count('FAIL')} failed, "
        f"{sum(row['collapsed'] for row in report['trials'])} collapsed to one class",
        f"best: trial {best['trial']}, epoch {best['epoch']}: {short(best['config'])}",
        "",
        f"{'':12}{'loss':>9}{'accuracy':>10}{'f1':>9}{'matthews':>10}",
    ]
    for name, scores in (("validation", best["validation"]), ("test", report["test"])):
        cells = f"{scores['loss']:>9.4f}{scores['accuracy']:>10.4f}{scores['f1']:>9.4f}"
        lines.append(f"{name:12}{cells}{scores['matthews_correlation']:>10.4f}")
    guess = majority["test"]
    lines.append(
        f"{'majority':12}{'':>9}{guess['accuracy']:>10.4f}{guess['f1']:>9.4f}{0:>10.4f}   (on test, always one class)"
    )
    return lines + [f"WARNING: {text}" for text in report["warnings"]]


# Files


def write_best(run_dir: RunDir, report: Mapping[str, Any]) -> None:
    """Write best/: the winner's model as transformers opens it, a card, the scores."""
    best = report["best"]
    metrics = {**best, "test": report["test"], "majority": report["majority"], "sweep": report["sweep"]}

    def write(aside: Path) -> None:
        for path in run_dir.model(best["trial"]).iterdir():
            if path.name != MANIFEST:
                link(path, aside / path.name)
        (aside / "README.md").write_text(model_card(report), encoding="utf-8")
        (aside / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")

    write_folder(run_dir.best, write)
    run_dir.storage.publish(run_dir.best)


def write_report(run_dir: RunDir, report: Mapping[str, Any]) -> None:
    """Write report.html, then report.json, which says that the sweep is at its end: nothing is done after it."""
    write_text(run_dir.report_html, as_html(report))
    run_dir.publish_progress()
    run_dir.storage.publish(run_dir.report_html)
    write_text(run_dir.report_json, json.dumps(report, indent=2) + "\n")
    run_dir.storage.publish(run_dir.report_json)


def model_card(report: Mapping[str, Any]) -> str:
    """README.md of best/."""
    best, test = report["best"], report["test"]
    chosen_on, guess = best["validation"], report["majority"]["test"]
    warnings = "".join(f"\n**Warning:** {text}.\n" for text in report["warnings"])
    about = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "base_model": one_line(report["model"]),
    }
    return f"""---
{yaml.safe_dump(about, sort_keys=False, allow_unicode=True, width=math.inf)}---

# {_quoted(report["name"])}: {_quoted(report["model"])} fine-tuned on {_quoted(report["dataset"])}

Classes: {", ".join(map(_quoted, report["label_names"]))}.
Chosen among {len(report["trials"])} trials by {report["metric"]} on validation.
{warnings}
| | loss | accuracy | F1 ({report["f1_average"]}) | Matthews |
|---|---|---|---|---|
| validation (chosen on it) | {" | ".join(f"{chosen_on[name]:.4f}" for name in SCORES)} |
| test ({test["rows"]} rows, read once) | {" | ".join(f"{test[name]:.4f}" for name in SCORES)} |
| test, always the most frequent class | | {guess["accuracy"]:.4f} | {guess["f1"]:.4f} | {0:.4f} |

Hyperparameters: {_quoted(short(best["config"]))}; epoch {best["epoch"]}; seed {best["seed"]}; trained in
{report["precision"]}.
"""


def _quoted(text: str) -> str:
    """Quote text from elsewhere as code, in which nothing is Markdown or HTML.

    The fence has more backticks than the text holds in a row.
    """
    text = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def _escaped(value: object) -> str:
    """Anything as HTML text."""
    return html.escape(one_line(str(value)))


def as_html(report: Mapping[str, Any]) -> str:
    """The report as one page that needs nothing else."""
    best, test, majority = report["best"], report["test"], report["majority"]
    metric = _escaped(report["metric"])
    rows = "".join(_html_row(row, best["trial"]) for row in report["trials"])
    warnings = "".join(f'<p class="warning">{_escaped(text)}.</p>' for text in report["warnings"])
    notes = "".join(f'<p class="quiet">{_escaped(text)}</p>' for text in report["notes"])
    scores = "".join(
        f"<tr><td>{name}</td>{''.join(f'<td>{s[key]:.4f}</td>' for key in SCORES)}</tr>"
        for name, s in (("validation", best["validation"]), (f"test ({test['rows']} rows)", test))
    )
    scores += (
        f"<tr><td>test, always the most frequent class</td><td></td><td>{majority['test']['accuracy']:.4f}</td>"
        f"<td>{majority['test']['f1']:.4f}</td><td>{0:.4f}</td></tr>"
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{_escaped(report["name"])}: sweep report</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #1b1f24 }}
table {{ border-collapse: collapse; margin: 1em 0 }} td, th {{ padding: .25em .8em; text-align: right }}
td:first-child, th:first-child, td.text {{ text-align: left }} tr:nth-child(even) {{ background: #f4f6f8 }}
tr.best {{ background: #dff3e4; font-weight: 600 }} .warning {{ background: #fff1d6; padding: .6em 1em }}
th.text {{ text-align: left }} th {{ border-bottom: 2px solid #c9d1d9 }} .quiet {{ color: #667 }}
</style></head><body>
<h1>{_escaped(report["name"])}</h1>
<p>{_escaped(report["model"])} on {_escaped(report["dataset"])}; {len(report["trials"])} trials in
{clock(report["wall_s"])}; {metric} on validation chose trial {best["trial"]}, epoch {best["epoch"]}:
<code>{_escaped(short(best["config"]))}</code></p>
{warnings}{notes}
<table><tr><th></th><th>loss</th><th>accuracy</th><th>F1 ({_escaped(report["f1_average"])})</th>
<th>Matthews</th></tr>{scores}</table>
<h2>Trials</h2>
<table><tr><th>trial</th><th>state</th><th>{metric}</th><th>best epoch</th><th>seconds</th>
<th class="text">note</th><th class="text">configuration</th></tr>
{rows}</table>
<p class="quiet">{_escaped(", ".join(f"{name} {version}" for name, version in report["versions"].items()))};
seed {report["seed"]}; {_escaped(report["precision"])}</p>
</body></html>
"""


def _html_row(row: Mapping[str, Any], best: int) -> str:
    value = "" if row["value"] is None else f"{row['value']:.4f}"
    note = row["failure"] or ("one class only" if row["collapsed"] else "")
    epochs = f"{row['best_epoch'] or ''}/{row['config'].get('epochs', '')}"
    texts = "".join(f'<td class="text">{_escaped(text)}</td>' for text in (note, short(row["config"])))
    return (
        f"<tr{' class=best' if row['number'] == best else ''}><td>{row['number']}</td><td>{_escaped(row['state'])}</td>"
        f"<td>{value}</td><td>{_escaped(epochs)}</td><td>{row['seconds']:.1f}</td>{texts}</tr>"
    )
