"""What the trainer is made of besides TRL: each file one concern, none of them knows TRL.

`rlkd.trainer` puts them together.
"""
