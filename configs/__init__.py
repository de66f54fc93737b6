"""Configs: one file per task; each reads like the methods section of a paper."""
