"""The judge of a run, chosen from the data at hand and the memory allowed."""

from __future__ import annotations

import psutil

from graphopt.data.samples import Samples
from graphopt.data.synthetic import SyntheticSamples
from graphopt.errors import DataError, ModelError
from graphopt.run.job import Job
from graphopt.run.judge import Probe

__all__ = ["make_probe", "run_bytes"]

_RUN_FACTOR = 3
"""onnxruntime holds the weights as read, as initializers and packed for its kernels."""
_DEFAULT_BYTES = 3 << 30
_PROBE_SAMPLES = 32
_TRAINED_ON = "measured on samples that were trained on; give --eval DATA for figures that count"


def run_bytes(memory_limit: int | None) -> int:
    """Bytes that running the model may take: the limit, else 3 GB or half of what is free."""
    if memory_limit is not None:
        return memory_limit
    return min(_DEFAULT_BYTES, int(psutil.virtual_memory().available) // 2)


def make_probe(
    job: Job, calibration: Samples | None, evaluation: Samples | None
) -> tuple[Probe | None, str]:
    """The probe, and a note on what it can and cannot prove; None where nothing can be run.

    Calibration samples come first: what is chosen by them leaves the evaluation untouched.

    Raises:
        ModelError: onnxruntime cannot run the input model on the data given.
    """
    needed = _RUN_FACTOR * job.reference.weight_bytes
    allowed = run_bytes(job.memory_limit)
    if needed > allowed:
        return None, (
            f"not run: about {needed / 1e6:.3g} MB where {allowed / 1e6:.3g} MB are "
            "allowed; give a larger --memory-limit to have the result run and compared"
        )
    offered = ((calibration, "calib"), (evaluation, "eval"), (job.train, "train"))
    for samples, source in offered:
        if samples is not None:
            note = _TRAINED_ON if source == "train" else ""
            return Probe(job.reference, samples, source, _PROBE_SAMPLES, job.threads), note
    random = SyntheticSamples(job.reference, seed=job.seed)
    try:
        probe = Probe(job.reference, random, "random", _PROBE_SAMPLES, job.threads)
    except (DataError, ModelError) as err:
        return None, f"not run: random feeds do not fit this model ({err}); give --calib DATA"
    return probe, "measured on random feeds; give --calib or --eval DATA for figures that count"
