"""The retraining bridge: an ONNX graph as a torch module, and its weights back into the graph.

The only room that imports torch.
"""

from graphopt.bridge.module import GraphModule
from graphopt.bridge.plan import Substitute
from graphopt.bridge.roles import Roles, roles
from graphopt.bridge.to_torch import to_torch
from graphopt.bridge.write_back import write_back

__all__ = ["GraphModule", "Roles", "Substitute", "roles", "to_torch", "write_back"]
