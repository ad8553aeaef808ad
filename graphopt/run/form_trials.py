"""What a pass may ask about forms of the layers of the graph that it was handed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphopt.contract.forms import FLOAT, LayerForm, ModelFigures
from graphopt.graph.graph import Graph
from graphopt.run.form_twins import Made
from graphopt.run.judge import Judge
from graphopt.run.layer_forms import measure_forms, with_times
from graphopt.run.means import Means
from graphopt.run.stage import Stage
from graphopt.runtime.session import Session

__all__ = ["StageTrials"]

_EXACT_DB = 200.0


@dataclass(frozen=True)
class StageTrials:
    """Forms of the layers of a stage, measured by the judge of the run.

    Attributes:
        stage: Where the model stands.
        means: What to measure with.
        judge: Its judge.
        make: What passes make of the stage, as far as their edits go.
    """

    stage: Stage
    means: Means
    judge: Judge
    make: Callable[[str], Made]

    def figures(self, forms: Sequence[LayerForm], *, timed: bool = False) -> ModelFigures:
        """See ``FormTrials``."""
        made = dict[str, Made]()

        def make(spec: str) -> Made:
            if spec not in made:
                made[spec] = self.make(spec)
            return made[spec]

        found = measure_forms(self.stage, self.means, forms, make)
        if not timed:
            return found
        twins = {form.name: make(form.spec) for form in forms if form is not FLOAT}
        return with_times(found, self.stage, self.means, twins)

    def made(self, spec: str) -> Made:
        """See ``FormTrials``."""
        return self.make(spec)

    def noise(self, graph: Graph) -> float:
        """See ``FormTrials``."""
        session = Session(graph, threads=self.means.threads)
        found = self.judge.compare([session.run(each.feeds) for each in self.judge.samples])
        worst = found.worst_db if found.close_db is None else found.close_db
        return float(10 ** (-(_EXACT_DB if worst is None else worst) / 10))
