"""Training and prediction: the entries that Python calls, the driver, programs and their verbs."""
