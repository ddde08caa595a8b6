"""How threads share work and wait for each other."""
