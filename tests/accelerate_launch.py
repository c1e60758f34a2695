"""What `accelerate launch` makes of a file of configs/accelerate, by its own code."""

from argparse import Namespace
from pathlib import Path

from accelerate.commands import launch
from accelerate.utils import launch as making

FOLDER = Path(__file__).resolve().parents[1] / "configs" / "accelerate"


def read(name: str, processes: int = 2) -> Namespace:
    """The command's arguments, as accelerate reads them and completes them from the file."""
    words = ["--config_file", str(FOLDER / f"{name}.yaml"), "--num_processes", str(processes)]
    arguments = launch.launch_command_parser().parse_args([*words, "scripts/train.py"])
    arguments, defaults, _ = launch._validate_launch_command(arguments)
    # As its launch_command does.
    arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
    return arguments


def environment(name: str, processes: int = 2) -> dict[str, str]:
    """What the processes find in their environment."""
    arguments = read(name, processes)
    if arguments.use_deepspeed:
        return making.prepare_deepspeed_cmd_env(arguments)[1]
    if arguments.use_fsdp or arguments.multi_gpu:
        return making.prepare_multi_gpu_env(arguments)
    return making.prepare_simple_launcher_cmd_env(arguments)[1]
