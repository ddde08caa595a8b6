"""The loops that train and predict."""
