"""A run's YAML: typed, documented under each field, checked before anything heavy is loaded."""

from rlkd.config.loading import dump, load, overlay, read, resolved, validate
from rlkd.config.run_config import RunConfig
from rlkd.config.trl_keys import check_trl_keys
from rlkd.errors import ConfigError

__all__ = [
    "ConfigError",
    "RunConfig",
    "check_trl_keys",
    "dump",
    "load",
    "overlay",
    "read",
    "resolved",
    "validate",
]
