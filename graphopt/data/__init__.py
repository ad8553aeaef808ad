"""Where samples come from; one iterator of feeds, checked against the model's inputs."""

from graphopt.data.samples import Feeds, Samples
from graphopt.data.source import Source, open_data
from graphopt.data.synthetic import SyntheticSamples

__all__ = ["Feeds", "Samples", "Source", "SyntheticSamples", "open_data"]
