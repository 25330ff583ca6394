"""`mh-batch bench`: fixed prompts, interleaved rounds, every figure beside a reference."""
