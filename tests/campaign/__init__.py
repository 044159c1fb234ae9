"""Campaigns: random worlds of policies and changes, and what a real kernel's packets say of them (docs/lab.md).

They run inside the lab kernel: `python -m tests.campaign matrix|moments`.
"""
