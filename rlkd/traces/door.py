"""What can be known of `data.traces` before data or weights are loaded."""

from rlkd.config import ConfigError, RunConfig
from rlkd.datafiles import check_file


def check_traces(config: RunConfig) -> None:
    """Traces where the algorithm learns from them, and only there; nothing is loaded.

    Raises:
        ConfigError: they are missing, unused, or cannot be made.
    """
    from rlkd.algorithms.schedule import schedule_of  # imports torch

    algorithm, wanted = schedule_of(config.build_algorithm()), config.data.traces
    size = config.batch.group_size
    try:
        needed = algorithm.needs_traces(size)
    except ValueError as error:
        raise ConfigError(f"algorithm ({config.algorithm.use}): {error}") from error
    use = config.algorithm.use
    if needed and wanted is None:
        raise ConfigError(
            f"data.traces: {use} learns from answers that the teacher wrote, and there are none.\n"
            "  do: data.traces: {samples: 4} lets the run's teacher write them; {path: FILE} takes"
            " what `rlkd traces CONFIG --samples 4` wrote; {column: NAME} a column of the data"
        )
    if wanted is None:
        return
    if not needed:
        raise ConfigError(
            f"data.traces: {use} has no use for traces, and would ignore them.\n"
            "  do: remove data.traces, or use an algorithm that learns from them"
            " (rlkd.algorithms.luffy:LUFFY, rlkd.algorithms.sft_kd:SFTKD)"
        )
    if wanted.samples is not None and config.local_teacher is None:
        there = (
            "there is none"
            if config.teacher is None
            else "that of teacher.use only scores; a model in a folder (teacher.path) writes"
        )
        raise ConfigError(
            f"data.traces.samples: the teacher shall write the traces and {there}.\n"
            "  do: set teacher.path, or data.traces.path to a file of traces"
        )
    if wanted.missing == "on_policy" and algorithm.most_traces(size) == size:
        raise ConfigError(
            f"data.traces.missing: on_policy, and {use} learns from traces only.\n"
            "  why: the student would be trained on its own answers, right or wrong\n"
            "  do: set data.traces.missing to skip or error"
        )
    if config.environment is not None:
        raise ConfigError(
            "data.traces: there is an environment of tools, and a trace is an answer of one turn.\n"
            "  do: remove environment, or data.traces"
        )
    if wanted.path is not None:
        check_file(wanted.path, "data.traces")
