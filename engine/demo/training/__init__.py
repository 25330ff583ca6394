"""How the demo model is made: `python -m mh_batch.engine.demo.training.train`, then `.export`.

`vocabulary` knows the tokens, `transcripts` renders Harmony; `tasks`, `tools` and `lessons` are
the grammar, in the words of `wordings`. `packing` makes batches, `network` and `optim` learn,
`evaluate` measures on the held-out `cases`.
"""
