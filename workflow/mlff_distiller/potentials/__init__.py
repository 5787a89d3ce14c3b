"""Energy and forces by one contract, however they are computed."""
