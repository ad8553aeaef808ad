"""What each output of a model means: decided once, printed, used wherever answers are judged."""
