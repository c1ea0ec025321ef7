"""The starter model: its data, its training, its judge. Run `python -m ops.starter`."""
