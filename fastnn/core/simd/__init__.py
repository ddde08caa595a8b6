"""What a processor can do with vectors of numbers: no word about networks."""
