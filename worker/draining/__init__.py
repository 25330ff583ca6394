"""The drain: claims jobs, plays them on the model, records what came back."""
