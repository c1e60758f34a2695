"""Alarms: what is seen in a run's metrics that a person must know of, its likely cause, what to do.

`rule` says what a rule is, `sampling`, `mismatch`, `learning` and `teaching` are the rules,
`watch` runs them over a run, `first_batch` judges the first batch of rollouts before anything is
learnt from it.
"""

from rlkd.tracking.alarms.learning import LEARNING
from rlkd.tracking.alarms.mismatch import MISMATCH
from rlkd.tracking.alarms.sampling import SAMPLING
from rlkd.tracking.alarms.teaching import TEACHING

RULES = (*LEARNING, *TEACHING, *MISMATCH, *SAMPLING)
"""Every alarm of a run, in the order in which they are told."""
