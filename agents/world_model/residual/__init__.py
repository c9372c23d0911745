"""The Perceiver residual of the linear response model: coefficients from the whole clip."""
