"""From passes to a proven result: contract, spec and recipe, runner, planner, proof, record."""
