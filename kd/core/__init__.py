"""The mathematics: types, losses, objective, step. It imports neither files nor data."""
