"""Checkpoints that appear whole or not at all, and what they hold beside transformers' files.

A further piece of a run's state is saved, demanded and restored with one line, before `train()`:

    trainer.pieces.add("difficulty", records)                   # written once, by the main rank
    trainer.pieces.add("controller", controller, per_rank=True) # every rank writes its own

where the object has `state()` and `restore(state)`; see `pieces.Piece`.
"""
