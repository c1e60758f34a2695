"""Reads an offline W&B run back: a 7-byte header, then LevelDB-style records of protobuf."""

import json
import struct
from pathlib import Path
from typing import Any

_BLOCK = 32 * 1024


def _payloads(data: bytes):
    """Record payloads: blocks of 32 KiB, each fragment with crc32, u16 length and a type."""
    position, parts = 7, b""
    while position + 7 <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        if kind == 0:
            return
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last fragment
            yield parts
            parts = b""


def records(folder: Path) -> list[Any]:
    """All records of the one .wandb file under `folder`."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.rglob("*.wandb")
    found = []
    for payload in _payloads(path.read_bytes()):
        found.append(wandb_internal_pb2.Record())
        found[-1].ParseFromString(payload)
    return found


def read(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The history rows and the config of the one .wandb file under `folder`."""
    (path,) = folder.rglob("*.wandb")
    rows, config, _ = read_file(path)
    return rows, config


def read_file(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    """The history rows, the config and the run's id of a .wandb file."""
    from wandb.proto import wandb_internal_pb2

    rows, config, run_id = [], {}, ""
    for payload in _payloads(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(payload)
        if record.HasField("history"):
            items = record.history.item
            rows.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items})
        if record.HasField("run"):
            run_id = record.run.run_id
            for update in record.run.config.update:
                config[update.key or "/".join(update.nested_key)] = json.loads(update.value_json)
        if record.HasField("config"):
            for update in record.config.update:
                config[update.key or "/".join(update.nested_key)] = json.loads(update.value_json)
    return rows, config, run_id
