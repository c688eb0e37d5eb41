"""The networks that turn inputs into features, and the weights that they begin from."""
