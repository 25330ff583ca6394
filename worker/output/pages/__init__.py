"""Pages: a batch, or two side by side, as one HTML file that needs nothing but a browser."""
