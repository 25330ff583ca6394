"""What an answer must look like, as grammars of llguidance: checked at submit, kept in decoding."""
