"""Is everything here that a run needs? Looks at the machine, the packages and a config.

`finding` is what is found and how it is printed; `software`, `machine`, `tracker`, `models` and
`servers` look; `commands` is `rlkd doctor`. Nothing is trained, downloaded or left behind.
"""
