"""What is checked before a sweep starts, for tests that go on from there without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainable.job import Job
from tune.cluster.plan import Plan
from tune.prepare.check import check_request
from tune.prepare.identity import StoredSweep, spec_document
from tune.prepare.inputs import Inputs
from tune.prepare.launch import make_job
from tune.run_dir.layout import RunDir, open_run_dir, stored_spec
from tune.spec.flags import parse
from tune.spec.sweep_spec import SweepSpec


@dataclass(frozen=True)
class Checked:
    inputs: Inputs
    stored: StoredSweep
    run_dir: RunDir

    @property
    def spec(self) -> SweepSpec:
        return self.inputs.spec

    def write_spec(self, precision: str | None) -> None:
        self.run_dir.write_spec(spec_document(self.inputs, self.stored.sweep_id, precision))

    def job(self, plan: Plan) -> Job:
        return make_job(self.inputs, plan, self.run_dir, self.stored.sweep_id)


def checked(argv: Sequence[str], problems: list[str] | None = None) -> Checked:
    """Raises UserError, as the command line does."""
    problems = [] if problems is None else problems
    request = parse(argv, problems, stored_spec)
    run_dir = open_run_dir(request.out)
    return Checked(*check_request(request, run_dir, problems), run_dir)
