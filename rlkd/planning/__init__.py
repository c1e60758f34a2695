"""How much memory a run will need, from the models' config.json alone.

`network` describes a model, `parts` holds one formula per part, `phases` puts them together for
the moments of a step, `plan` reads a config, `commands` prints what it comes to. Legend: R rows,
L tokens of a row, H hidden size, I width of the MLP, Q heads x head size, K key-value heads x head
size, V vocabulary, b bytes of a number. Sizes are bytes; a GiB is 2^30 of them.
"""
