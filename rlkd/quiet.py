"""What libraries say about their own loading and future stays out of a person's terminal."""

import warnings

from transformers.utils.logging import disable_progress_bar


def quieten() -> None:
    """Switch off progress bars and the warnings that a person can do nothing about."""
    disable_progress_bar()
    message = ".*gradient_checkpointing.*deprecated.*"  # TRL sets the field, whatever we say
    warnings.filterwarnings("ignore", message=message, category=FutureWarning)
    # The range of TRL that this is tested with is pinned; rlkd.environment checks what it needs.
    warnings.filterwarnings("ignore", message=".*'environment_factory'.*experimental")
