"""Experiments: one module each, beside the registration (TOML) that fixed it before its result was recorded."""
