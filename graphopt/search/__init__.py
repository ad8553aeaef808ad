"""The planner behind auto: what to try, how it is weighed, which layers hurt."""
